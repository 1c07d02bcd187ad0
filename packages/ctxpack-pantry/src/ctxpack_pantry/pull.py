"""Pull: a pack's outputs for the user, all of them or some, from the cache or the registry."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.results import Pulled

if TYPE_CHECKING:
    from ctxpack_pantry.context import Context

# A hit in the cache is the most frequent case, so what only a miss or a copy needs is imported where it is used.

__all__ = ["pull"]


def pull(
    context: Context, uri: CtxUri, output: str | None = None, *, include: Sequence[str] = (), force: bool = False
) -> Pulled:
    """Return the folder with the pack's outputs; the pack is fetched if the cache does not have it.

    output: a folder for an ordinary copy; None returns the read-only folder of the cache. include: only the outputs
    that these patterns (gitignore syntax) select; needs output, and fetches only the chunks that hold them. force:
    replace what is at output.
    Raises: NotFound, IntegrityError, PolicyRefused, AccessDenied, Unavailable, LocalFailure; InvalidInput when nothing
    matches, or when something else is at output.
    """
    if include:
        if output is None:
            raise InvalidInput(
                "--include needs a folder to put the files in",
                fix="name one with --output: the cache holds whole packs only",
                code="E_USAGE",
            )
        from ctxpack_pantry.pick import pick

        return pick(context, uri, include, output, force=force)
    folder, received = find_cached(context, uri), 0
    if folder is None:
        from ctxpack_pantry.fetch import fetch

        folder, received = fetch(context, uri)
    if output is None:
        return Pulled(uri, os.path.join(folder, "artifacts"), received)
    from ctxpack_pantry.place import all_into, place

    place(context, folder, all_into(output), force=force)
    return Pulled(uri, output, received)
