"""Pull: a pack's outputs for the user, all of them or some, from the cache or the registry.

A name that the lock file pins leads to the outputs that are pinned, or to an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from ctxpack_identity.canonical import parse_json
from ctxpack_identity.digest import parse_digest
from ctxpack_identity.disk import translated
from ctxpack_identity.errors import Conflict, CtxPackError, IntegrityError, InvalidInput, LocalFailure
from ctxpack_identity.hashing.filehash import open_regular
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.outlet import Outlet, manifest_of, require_intact
from ctxpack_pantry.reference import Found, Reference, find, parse_reference
from ctxpack_pantry.referencekind import CONTRACT, NAME
from ctxpack_pantry.results import Pulled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctxpack_identity import Digest
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.reference import AnyPack

    Look = Callable[[Digest], None]

# A hit in the cache is the most frequent case, so what only a miss or a copy needs is imported where it is used.

__all__ = ["pull"]


def pull(
    context: Context,
    pack: AnyPack,
    output: str | None = None,
    *,
    include: Sequence[str] = (),
    force: bool = False,
    lock: bool = False,
    locked: bool = False,
) -> Pulled:
    """Return the folder with the pack's outputs; the pack is fetched if the cache does not have it.

    pack: see `reference.find`. output: where to put an ordinary copy: a folder, or, if the pack is one file, that file;
    None returns the read-only folder of the cache. What is damaged in the cache is set aside and fetched anew. include:
    only the outputs that these patterns (gitignore syntax) select; needs output, and fetches only the chunks that hold
    them. force: replace what is at output. lock: ask the registry what the name stands for, and pin that in the lock
    file. locked: refuse a name that is not pinned.
    Raises: NotFound, PolicyRefused, AccessDenied, Unavailable, LocalFailure; IntegrityError also when the pack does not
    have the outputs that are pinned, and Conflict when lock is set and the cache has others than the registry: then
    nothing was placed; InvalidInput when nothing matches, or when something else is at output; as find does.
    """
    reference = parse_reference(pack) if isinstance(pack, str) else pack
    if output is None and include:
        raise InvalidInput(
            "--include needs a folder to put the files in",
            fix="name one with --output: the cache holds whole packs only",
            code="E_USAGE",
        )
    kind, text = reference if isinstance(reference, Reference) else (CONTRACT, "the contract")
    if lock and (locked or kind != NAME):
        what = "--lock moves a pin, and --locked keeps all of them" if locked else "only a name can be pinned"
        raise InvalidInput(what, where=text, fix="leave --lock out, or pull a name", code="E_USAGE")
    found = find(context, reference, lock=lock, locked=locked)
    if lock:
        return _pull_and_pin(context, found, output, include, force)
    if found.pin is None:
        return _pull(context, found.uri, output, include, force, None)
    pinned = _Expected(found.pin.outputs)
    try:
        return _pull(context, found.uri, output, include, force, pinned.look)
    except _OtherOutputs as other:
        from ctxpack_pantry.lockfile import find_lock_file

        raise IntegrityError(
            f"the pack has not the outputs that are pinned for {found.name}",
            where=find_lock_file(),
            expected=str(pinned.outputs),
            got=str(pinned.seen),
            fix=f"`ctxpack pull {found.name} --lock` pins what the registry has now; if only this cache has others, "
            f"`ctxpack rm {found.uri}` removes them",
            code="E_PINNED",
        ) from other


def _pull_and_pin(context: Context, found: Found, output: str | None, include: Sequence[str], force: bool) -> Pulled:
    from ctxpack_pantry.lockfile import Pin, find_lock_file, read_pins, write_pin

    path = find_lock_file()
    read_pins(path)  # a fault in it is said before anything is fetched
    expected = _Expected(_in_registry(context, found.uri))
    try:
        pulled = _pull(context, found.uri, output, include, force, expected.look)
    except _OtherOutputs as other:
        raise Conflict(
            "the cache holds other outputs of the same contract than the registry",
            where=str(found.uri),
            expected=f"outputs {expected.outputs}",
            got=str(expected.seen),
            fix=f"nothing was pinned. `ctxpack rm {found.uri}`, then pull again: pins those of the registry",
        ) from other
    assert expected.seen is not None
    pin = Pin(found.uri, expected.seen)
    write_pin(path, found.name, pin, on_wait=lambda where: context.notice(f"another ctxpack writes {where}; waiting"))
    context.notice(f"{path} says now that {found.name} is {pin.uri}, with outputs {pin.outputs}")
    return pulled


def _in_registry(context: Context, uri: CtxUri) -> Digest | None:
    """Return the outputs digest of the registry's pack if the cache has one too; else None: that one is fetched."""
    if context.cache.find(uri_digest(uri)) is None:
        return None
    from ctxpack_pantry.inspection import outputs_digest_of

    return outputs_digest_of(context, uri, skip_cache=True)


class _OtherOutputs(Exception):
    """The pack has other outputs than expected. No CtxPackError: an outlet takes an IntegrityError for damage."""


class _Expected:
    """The outputs digest that a pack must have, None for any one. seen: the one that it has."""

    def __init__(self, outputs: Digest | None) -> None:
        self.outputs = outputs
        self.seen: Digest | None = None

    def look(self, outputs: Digest) -> None:
        """Take the digest of a pack that is about to be handed out. Raises: _OtherOutputs."""
        self.seen = outputs
        if self.outputs not in (None, outputs):
            raise _OtherOutputs


def _pull(
    context: Context, uri: CtxUri, output: str | None, include: Sequence[str], force: bool, look: Look | None
) -> Pulled:
    """Hand the pack out. look: called with the digest of its outputs before that; what it raises passes through."""
    if output is None:
        outlet = Outlet(context, uri)
        return Pulled(uri, outlet.take(partial(_show, context, uri, look)), outlet.received, registry=outlet.registry)
    try:
        return _put(context, uri, output, include, force, look)
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
        return _put(context._replace(cache=type(context.cache)(folder)), uri, output, include, force, look)


def _put(context: Context, uri: CtxUri, output: str, include: Sequence[str], force: bool, look: Look | None) -> Pulled:
    if include:
        from ctxpack_pantry.pick import pick

        return pick(context, uri, include, output, force=force, look=look)
    outlet = Outlet(context, uri)
    return Pulled(
        uri, outlet.take(partial(_copy, context, uri, output, force, look)), outlet.received, registry=outlet.registry
    )


def _is_writable(folder: str) -> bool:
    """Return whether this process may write to folder, or make it."""
    while not os.path.lexists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK | os.X_OK)


def _show(context: Context, uri: CtxUri, look: Look | None, cached: str) -> str:
    require_intact(context, uri, cached)
    if look is not None:
        look(_outputs_of(uri, cached))
    return os.path.join(cached, "artifacts")


def _outputs_of(uri: CtxUri, cached: str) -> Digest:
    """Return the outputs digest of an intact cached pack, without loading what reads and checks manifests."""
    try:
        with open(open_regular(os.path.join(cached, "manifest.json")), "rb") as file:
            return parse_digest(parse_json(file.read())["outputs"]["digest"])
    except (CtxPackError, OSError, TypeError, LookupError):
        return manifest_of(uri, cached).outputs_digest  # which says what is wrong


def _copy(context: Context, uri: CtxUri, output: str, force: bool, look: Look | None, cached: str) -> str:
    from ctxpack_pantry.place import all_into, hold, place

    manifest = manifest_of(uri, cached)
    if look is not None:
        look(manifest.outputs_digest)
    placing = all_into(manifest, output)
    with hold(context, [placing.tree.location]):
        place(context, cached, manifest, [placing], force=force)
    return placing.tree.location
