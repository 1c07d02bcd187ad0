"""Remember: the outputs of a contract as they lie in the cache, made by a function if nobody made them already."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from ctxpack_identity.canonical import parse_json
from ctxpack_identity.errors import PolicyRefused
from ctxpack_identity.hashing.filehash import unreadable
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri
from ctxpack_pantry.outlet import Outlet, require_intact

if TYPE_CHECKING:
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.contractfile import LoadedContractFile
    from ctxpack_pantry.identified import Identified
    from ctxpack_pantry.makers import Maker

# A hit in the cache is the most frequent case, so what only a miss needs is imported where it is used.

__all__ = ["remember"]


def remember(
    context: Context,
    contract_file: LoadedContractFile,
    identified: Identified,
    maker: Callable[[], Maker],
    *,
    push: bool = False,
    offline: bool = False,
) -> str:
    """Return the path, in the cache, of the one output of a contract: a read-only file or folder.

    maker: returns what makes the output on a miss, in a fresh folder of the cache; called on a miss only. push: see to
    it that the registry has the pack, too; other outputs that it has take the place of those made here. offline: ask
    the cache only.
    Raises: InvalidInput when the maker makes nothing, or an input changes meanwhile; as the maker does; AccessDenied,
    Unavailable, IntegrityError, PolicyRefused, LocalFailure.
    """
    uri = identified.uri
    outlet = Outlet(context, uri)
    show = partial(_show, context, uri)
    path = _cached(outlet, show)
    if path is None:
        from ctxpack_pantry.misses import alone, fetched_if_there, not_within, say_miss

        with not_within(uri), alone(context, uri, f"another call of {contract_file.path} makes this; waiting"):
            path = _cached(outlet, show)
            if path is None and not offline:
                path = fetched_if_there(outlet, show)
            if path is None:
                say_miss(context, identified)
                path = _make(context, contract_file, identified, maker())
    if not push:
        return path
    from ctxpack_pantry.misses import push_or_adopt

    def adopt_theirs() -> None:
        from ctxpack_pantry.fetch import fetch

        fetch(context, uri, replace=True)

    push_or_adopt(context, uri, replace=False, adopt=adopt_theirs)
    return outlet.take(show)


def _cached(outlet: Outlet, show: Callable[[str], str]) -> str | None:
    """Return the path of the output of the cached pack; None when there is none, or it is not admitted."""
    try:
        return outlet.cached(show)
    except PolicyRefused as refused:
        outlet.say_refused(refused)
        return None


def _make(context: Context, contract_file: LoadedContractFile, identified: Identified, maker: Maker) -> str:
    """Let maker make the output, and seed it; return its path in the cache."""
    from ctxpack_bundle import OutputTree
    from ctxpack_pantry.identify import require_room
    from ctxpack_pantry.makers import Order
    from ctxpack_pantry.making import require_made
    from ctxpack_pantry.seed import seed

    require_room(contract_file, identified)
    [name] = identified.contract["outputs"]
    with context.cache.staging() as staging:
        place = os.path.join(os.path.abspath(staging), name)
        ended = maker.make(Order(context, contract_file, identified, {name: place}, ()))
        require_made([] if os.path.lexists(place) else [name], maker.what)
        outputs = {name: OutputTree(place)}
        seeded = seed(context, contract_file, outputs, execution=ended.execution, expected=identified)
    [root] = seeded.manifest.outputs.roots
    return _place_in(seeded.folder, name if root.type == "file" else "")


def _show(context: Context, uri: CtxUri, folder: str) -> str:
    """Return the path of the one output of a cached pack. Raises: IntegrityError when it is damaged."""
    require_intact(context, uri, folder)
    inside = os.path.join(folder, "artifacts")
    try:
        names = os.listdir(inside)
        if len(names) != 1 or os.path.isdir(os.path.join(inside, names[0])):
            return inside
        # One file, or a folder that holds one file. The manifest is that of the print, or was just read whole.
        with open(os.path.join(folder, "manifest.json"), "rb") as file:
            [root] = parse_json(file.read(), where=folder)["outputs"]["roots"]
    except OSError as error:
        raise unreadable(folder, error) from error
    return _place_in(folder, root["name"] if root["type"] == "file" else "")


def _place_in(folder: str, file: str) -> str:
    """Return the path of the one output in the folder of a pack. file: its name, "" for a folder."""
    return os.path.join(folder, "artifacts", file) if file else os.path.join(folder, "artifacts")
