"""Pull: a pack's outputs for the user, all of them or some, from the cache or the registry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from ctxpack_identity.disk import translated
from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri
from ctxpack_pantry.outlet import Outlet, manifest_of, require_intact
from ctxpack_pantry.results import Pulled

if TYPE_CHECKING:
    from ctxpack_pantry.context import Context

# A hit in the cache is the most frequent case, so what only a miss or a copy needs is imported where it is used.

__all__ = ["pull"]


def pull(
    context: Context, uri: CtxUri, output: str | None = None, *, include: Sequence[str] = (), force: bool = False
) -> Pulled:
    """Return the folder with the pack's outputs; the pack is fetched if the cache does not have it.

    output: where to put an ordinary copy: a folder, or, if the pack is one file, that file; None returns the read-only
    folder of the cache. What is damaged in the cache is set aside and fetched anew. include: only the outputs
    that these patterns (gitignore syntax) select; needs output, and fetches only the chunks that hold them. force:
    replace what is at output.
    Raises: NotFound, IntegrityError, PolicyRefused, AccessDenied, Unavailable, LocalFailure; InvalidInput when nothing
    matches, or when something else is at output.
    """
    if output is None:
        if include:
            raise InvalidInput(
                "--include needs a folder to put the files in",
                fix="name one with --output: the cache holds whole packs only",
                code="E_USAGE",
            )
        outlet = Outlet(context, uri)
        return Pulled(uri, outlet.take(partial(_show, context, uri)), outlet.received, registry=outlet.registry)
    try:
        return _put(context, uri, output, include, force)
    except LocalFailure as failure:
        if not failure.where.startswith(context.cache.root) or _is_writable(context.cache.root):
            raise
    from tempfile import TemporaryDirectory

    context.notice(f"the cache {context.cache.root} cannot be written, so it does not keep the pack")
    beside = os.path.dirname(os.path.realpath(output))
    with translated("cannot make a cache beside the output", beside, elsewhere="choose another place"):
        os.makedirs(beside, exist_ok=True)
        temporary = TemporaryDirectory(prefix=".ctxpack-", dir=beside)
    with temporary as folder:
        return _put(context._replace(cache=type(context.cache)(folder)), uri, output, include, force)


def _put(context: Context, uri: CtxUri, output: str, include: Sequence[str], force: bool) -> Pulled:
    if include:
        from ctxpack_pantry.pick import pick

        return pick(context, uri, include, output, force=force)
    outlet = Outlet(context, uri)
    return Pulled(
        uri, outlet.take(partial(_copy, context, uri, output, force)), outlet.received, registry=outlet.registry
    )


def _is_writable(folder: str) -> bool:
    """Return whether this process may write to folder, or make it."""
    while not os.path.lexists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK | os.X_OK)


def _show(context: Context, uri: CtxUri, cached: str) -> str:
    require_intact(context, uri, cached)
    return os.path.join(cached, "artifacts")


def _copy(context: Context, uri: CtxUri, output: str, force: bool, cached: str) -> str:
    from ctxpack_pantry.place import all_into, hold, place

    manifest = manifest_of(uri, cached)
    placing = all_into(manifest, output)
    with hold(context, [placing.tree.location]):
        place(context, cached, manifest, [placing], force=force)
    return placing.tree.location
