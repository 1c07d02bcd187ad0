"""Outputs on disk: what of each is sealed, by which name and paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Literal, NamedTuple

from ctxpack_bundle.packmanifest import check_root_name
from ctxpack_identity import DEFAULT_HASHING, Digest, FolderDigest, Hashing, InvalidInput, TreeEntry, hash_tree
from ctxpack_identity.exclude import Excludes, compile_excludes
from ctxpack_identity.hashing.scan import Folder, Found, root_status, scan

__all__ = [
    "SHOWN",
    "LocatedRoot",
    "OutputTree",
    "find_outputs",
    "locate",
    "location_of",
    "outputs_digest",
    "scan_branch",
]

SHOWN = 500  # characters of names in a message


Branches = Callable[[], Iterator[tuple[str, str]]]


class OutputTree(NamedTuple):
    """An output on disk, and what of it is sealed.

    location: a file or folder. excludes: patterns in gitignore syntax, relative to location; a file is never left out.
    follow: symbolic links are followed, and the output itself may be one. branches: makes it a folder of files and
    folders from anywhere: yields the path of each in that folder, and where it lies, in canonical order.
    """

    location: str
    excludes: tuple[str, ...] = ()
    follow: bool = False
    branches: Branches | None = None


class LocatedRoot(NamedTuple):
    """A root of a pack, and where it is on disk. excludes: the rule of its patterns, None without any."""

    name: str
    type: Literal["file", "folder"]
    location: str
    excludes: Excludes | None
    follow: bool
    branches: Branches | None = None


def locate(outputs: Mapping[str, OutputTree], declared: list[str]) -> list[LocatedRoot]:
    """Return the roots in order. declared: the names they must have; any, if there are none.

    Raises: InvalidInput for other names, and names that no root may have.
    """
    missing, more = set(declared) - set(outputs), set(outputs) - set(declared)
    roots = [_located(name, outputs[name]) for name in sorted(outputs)]
    if declared and (missing or more):
        faults = [f"{what} {_shown(names)}" for what, names in (("missing", missing), ("too many", more)) if names]
        raise InvalidInput(
            f"outputs are not those that the contract names: {', '.join(faults)}",
            fix="give a file or folder for each of these names and for no other, or change the outputs in the contract",
            code="E_OUTPUT_NAME",
        )
    return roots


def find_outputs(roots: list[LocatedRoot]) -> Iterator[tuple[LocatedRoot, Found]]:
    """Yield what a pack of these roots holds, in canonical order, by paths below ``artifacts/``.

    Raises: InvalidInput, LocalFailure as scan does.
    """
    for root in roots:
        paths = _PackPaths(root, nested=len(roots) > 1)
        for found in _scan(root):
            yield root, Found(paths.path(found.path), found.location, found.stat)
        if empty := paths.empty_folder():
            status = root_status(root.location, follow=root.follow)
            yield root, Found(empty, os.path.join(root.location, ""), status)


def scan_branch(path: str, location: str, *, excludes: Excludes | None, follow: bool) -> Iterator[Found]:
    """Yield what of the file or folder at location is sealed when it lies at path in an output, by paths there.

    excludes: of the output. Raises: InvalidInput, LocalFailure as scan does.
    """
    status = root_status(location, follow=follow)
    is_file = stat.S_ISREG(status.st_mode)
    if excludes is not None and _is_left_out(path, excludes, is_file=is_file):
        return
    if is_file:
        yield Found(path, location, status)
        return

    def below(inner: str, is_folder: bool) -> bool:
        return excludes is not None and excludes(f"{path}/{inner}", is_folder)

    empty = True
    for found in scan(location, excludes=None if excludes is None else below, follow=follow):
        empty = False
        yield found._replace(path=f"{path}/{found.path}")
    if empty:
        yield Found(f"{path}/", os.path.join(location, ""), status)


def _is_left_out(path: str, excludes: Excludes, *, is_file: bool) -> bool:
    ends = [place for place, char in enumerate(path) if char == "/"]
    return any(excludes(path[:end], True) for end in ends) or excludes(path, not is_file)


def _scan(root: LocatedRoot) -> Iterator[Found]:
    """Yield what a root holds, by paths in it."""
    if root.branches is None:
        yield from scan(root.location, excludes=root.excludes, follow=root.follow)
        return
    for path, location in root.branches():
        yield from scan_branch(path, location, excludes=root.excludes, follow=root.follow)


def location_of(path: str, roots: list[LocatedRoot]) -> str:
    """Return where what has this path below ``artifacts/`` is, or was, on disk."""
    branches = roots[0].branches
    if branches is not None:
        return next((where for branch, where in branches() if f"{path}/".startswith(f"{branch}/")), roots[0].location)
    if len(roots) == 1 and roots[0].type == "folder":
        return os.path.join(roots[0].location, path)
    name, _, rest = path.partition("/")
    location = next(root.location for root in roots if root.name == name)
    return os.path.join(location, rest) if rest else location


def outputs_digest(
    outputs: Mapping[str, OutputTree],
    *,
    hashing: Hashing = DEFAULT_HASHING,
    on_executable: Callable[[str], object] | None = None,
) -> Digest:
    """Return the tree digest that the pack of these outputs would have; nothing is written.

    outputs: by their names in the pack; without branches. on_executable: called with the path, in the pack, of every
    file that its owner may execute, in any order: the digest says nothing of that.
    Raises: InvalidInput, LocalFailure as assemble does for outputs.
    """
    roots = locate(outputs, [])
    if [root.type for root in roots] == ["folder"]:  # its content is all that the pack holds
        [root] = roots
        on_folder = None if on_executable is None else partial(_report_executables, on_executable)
        return hash_tree(
            root.location, excludes=root.excludes, follow=root.follow, hashing=hashing, on_folder=on_folder
        ).digest
    tree = FolderDigest()

    def add(entry: TreeEntry) -> None:
        tree.add(entry)
        if entry.executable and on_executable is not None:
            on_executable(entry.path)

    for root in roots:
        _hash_root(root, add, nested=len(outputs) > 1, hashing=hashing)
    return tree.finish()


def _report_executables(on_executable: Callable[[str], object], folder: Folder) -> None:
    for name, status in folder.files:
        if status.st_mode & stat.S_IXUSR:
            on_executable(folder.path + name)


def _located(name: str, tree: OutputTree) -> LocatedRoot:
    check_root_name(name)
    is_folder = tree.branches is not None or os.path.isdir(tree.location)
    kind: Literal["file", "folder"] = "folder" if is_folder else "file"
    excludes = compile_excludes(tree.excludes) if tree.excludes else None
    return LocatedRoot(name, kind, tree.location, excludes, tree.follow, tree.branches)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))[:SHOWN]


class _PackPaths:
    """Which paths a root's files have below ``artifacts/``. nested: whether it is one of several roots."""

    def __init__(self, root: LocatedRoot, *, nested: bool) -> None:
        self._root = root
        self._prefix = f"{root.name}/" if nested else ""
        self._empty = True

    def path(self, path: str) -> str:
        """Return the path in the pack of what has this path in the root."""
        self._empty = False
        return self._root.name if self._root.type == "file" else self._prefix + path

    def empty_folder(self) -> str:
        """Return the path of the root if it needs an entry as an empty folder: path() was never called; else ""."""
        return self._prefix if self._empty else ""


def _hash_root(root: LocatedRoot, add: Callable[[TreeEntry], None], *, nested: bool, hashing: Hashing) -> None:
    """Call add with the entries of root, by their paths below ``artifacts/``."""
    paths = _PackPaths(root, nested=nested)
    hash_tree(
        root.location,
        excludes=root.excludes,
        follow=root.follow,
        hashing=hashing,
        on_entry=lambda entry: add(entry._replace(path=paths.path(entry.path))),
    )
    if empty := paths.empty_folder():
        add(TreeEntry(empty, 0, ""))
