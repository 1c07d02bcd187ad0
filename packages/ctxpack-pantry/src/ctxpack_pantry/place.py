"""Place: a pack's outputs become ordinary files where the user wants them, all of them whole or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

from ctxpack_bundle import OutputTree, PackManifest, Selection, copy_out, outputs_digest, read_entries
from ctxpack_bundle.folder import executable_paths
from ctxpack_bundle.outputs import checked_entries
from ctxpack_cache.pathlock import PathLocks
from ctxpack_identity import CtxUri, Digest, IntegrityError, InvalidInput, TreeEntry
from ctxpack_pantry.clearing import finish_killed
from ctxpack_pantry.context import Context
from ctxpack_pantry.replacing import Site, replace_all
from ctxpack_pantry.runnotes import RunNote, RunNotes
from ctxpack_pantry.standing import Standing

__all__ = ["Placing", "all_into", "each_to", "hold", "into_folder", "place", "place_made"]


_Make = Callable[[Site, str, str], None]
"""(site, a look at what is there, path) -> makes the new content of the site at path."""


class _Wanted(NamedTuple):
    """What is to be placed: its tree digest, and a function that returns the paths of its executable files."""

    digest: Digest
    executables: Callable[[], set[str]]


class Placing(NamedTuple):
    """Some outputs of a pack and where they go. name: of the output in the pack, if it is one; tree: the destination.

    prefix: what their paths in the pack begin with, and their paths at the destination do not.
    """

    name: str
    tree: OutputTree
    prefix: str = ""


def hold(context: Context, paths: Sequence[str]) -> PathLocks:
    """Return a context in which no other process of this user on this machine runs for these paths, or places there."""

    def waiting(path: str) -> None:
        context.notice(f"another ctxpack, or a command whose ctxpack was killed, uses {path}; waiting for its end")

    return PathLocks([os.path.realpath(path) for path in paths], waiting)


def place(context: Context, folder: str, manifest: PackManifest, placings: Sequence[Placing], *, force: bool) -> bool:
    """Copy outputs of the pack in folder to their destinations; return whether anything had to be written.

    placings: of everything in the pack, in its order. The caller holds the destinations. What is at a destination is
    kept when it is the same. It is replaced when it can be made again (see Standing), or when force is set.
    Every file is compared with its listing before any destination changes.
    Raises: IntegrityError when the pack is damaged; InvalidInput when something else is there; LocalFailure when it
    cannot be read or written. Then nothing has changed.
    """
    entries = checked_entries(read_entries(folder), manifest.outputs, where=folder)
    parts = groupby(entries, _root_of if len(placings) > 1 else lambda entry: placings[0].name)

    def make(placing: Placing, site: Site, seen: str, fresh: str) -> None:
        name, part = next(parts, (placing.name, iter(())))
        if name != placing.name:
            raise IntegrityError("listing without an output", where=folder, expected=placing.name, got=name)
        total = manifest.outputs.size
        from ctxpack_pantry.present import Present  # not needed when the outputs are in place

        with Present(site, seen, context.hashing) as present:
            copy_out(
                folder,
                part,
                fresh,
                prefix=placing.prefix,
                progress=context.progress,
                total=total,
                link=present.link,
            )

    wanted = _Wanted(manifest.outputs_digest, lambda: executable_paths(folder))
    made = [partial(make, placing) for placing in placings]
    return _place(context, manifest.uri, placings, wanted, made, force=force)


def place_made(
    context: Context, uri: CtxUri, placing: Placing, selection: Selection, make: Callable[[str], None], *, force: bool
) -> bool:
    """Call make with a fresh path, where it writes the selected outputs, then move them to their destination.

    uri: of the pack that they are from. The caller holds the destination. What is there is treated as by place. Errors
    of make pass through, and then nothing has changed.
    Raises: as place does.
    """

    def executables() -> set[str]:
        return {entry.path for entry in selection.entries() if entry.executable}

    wanted = _Wanted(selection.outputs.digest, executables)
    return _place(context, uri, [placing], wanted, [lambda site, seen, fresh: make(fresh)], force=force)


def all_into(manifest: PackManifest, destination: str) -> Placing:
    """Return the placing of everything a pack holds at one path. Raises: InvalidInput for an empty path.

    A pack of one file is placed as that file; in destination, if that is a folder or ends in ``/``.
    """
    roots = manifest.outputs.roots
    if len(roots) != 1 or roots[0].type == "folder":
        return into_folder(destination)
    [root] = roots
    if destination.endswith("/") or os.path.isdir(destination):
        destination = os.path.join(destination, root.name)
    return Placing(root.name, into_folder(destination).tree, root.name)


def into_folder(destination: str) -> Placing:
    """Return the placing of some outputs of a pack below one folder. Raises: InvalidInput for an empty path."""
    if not destination:
        raise InvalidInput("the name of the folder is empty", where="output", fix="name one, or leave it out")
    return Placing("outputs", OutputTree(destination))  # in no digest: a folder is hashed without its own name


def each_to(manifest: PackManifest, destinations: Mapping[str, OutputTree]) -> list[Placing]:
    """Return the placing of each root of a pack. destinations: by the names that its contract declares."""
    roots, nested = manifest.outputs.roots, manifest.outputs.nested
    ends = {"file": "", "folder": "/"}
    prefixes = [root.name + ends[root.type] if nested or root.type == "file" else "" for root in roots]
    return [Placing(root.name, destinations[root.name], prefix) for root, prefix in zip(roots, prefixes, strict=True)]


def _root_of(entry: TreeEntry) -> str:
    return entry.path.partition("/")[0]


def _place(
    context: Context,
    uri: CtxUri,
    placings: Sequence[Placing],
    wanted: _Wanted,
    made: Sequence[_Make],
    *,
    force: bool,
) -> bool:
    trees = {placing.name: placing.tree for placing in placings}
    sites = {name: Site(tree.location) for name, tree in trees.items()}
    finish_killed(context, sites.values())
    for site in sites.values():
        if not os.path.lexists(site.real):
            site.tidy()
    if not force and _are_in_place(context, trees, sites, wanted):
        return False
    for site in sites.values():
        site.tidy()
    follow = {name: tree.follow for name, tree in trees.items()}
    standing = Standing(context, sites, follow, coming=wanted.digest)
    standing.require_held(force=force)
    seen = standing.seen
    replace_all(
        [
            (sites[name], seen[name], partial(make, sites[name], seen[name]))
            for name, make in zip(trees, made, strict=True)
        ]
    )
    for site in sites.values():
        RunNotes(context.cache).write(site.real, RunNote(uri, made=True))  # no run's, so a run may not delete it
    return True


def _are_in_place(
    context: Context, trees: Mapping[str, OutputTree], sites: Mapping[str, Site], wanted: _Wanted
) -> bool:
    """Return whether what is wanted is at the destinations, with its executable bits where these can be set.

    If nothing is at the destinations, it is not.
    """
    at = {name: tree._replace(location=sites[name].real) for name, tree in trees.items()}
    if all(site.is_empty for site in sites.values()) or not all(os.path.lexists(tree.location) for tree in at.values()):
        return False
    executables: set[str] = set()
    try:
        digest = outputs_digest(at, hashing=context.hashing, on_executable=executables.add)
    except InvalidInput:  # no pack can hold it: links, devices
        return False
    if digest != wanted.digest:
        return False
    return executables == wanted.executables() or not all(site.keeps_modes() for site in sites.values())
