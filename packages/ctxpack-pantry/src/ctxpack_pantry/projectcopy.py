"""Project copy: what a contract names, copied to a folder where nothing else is, so that its recipe can run there.

The copy has the shape of the project: a relative path leads to the same from the copied contract file. Outputs are not
there yet, and what the contract does not name is not there at all. Files are clones or copies, never links, with new
times, which are no part of identity. What is read where it is: absolute paths, URLs and packs.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ctxpack_bundle.copying import Copier
from ctxpack_bundle.copyqueue import FileCopy, copy_file
from ctxpack_identity import ContractFile, HashedRoot, InvalidInput
from ctxpack_identity.hashing.outside import is_hashed
from ctxpack_identity.hashing.scan import Found, scan, walk
from ctxpack_identity.progress import OnBytes
from ctxpack_pantry.contractfile import LoadedContractFile

__all__ = ["ProjectCopy", "copy_project"]

_PATTERNS = ".gitignore"


class ProjectCopy(NamedTuple):
    """contract_file: that of the copy, as it was loaded. not_copied: what is read where it is, for people."""

    contract_file: LoadedContractFile
    not_copied: tuple[str, ...]


def copy_project(
    contract_file: LoadedContractFile, roots: Iterable[HashedRoot], folder: str, on_bytes: OnBytes
) -> ProjectCopy:
    """Copy what a contract file names into folder, which is empty. roots: as they were hashed.

    on_bytes: called with the bytes of each block that was copied.
    Raises: InvalidInput for what no copy can have at its place, E_REBUILD, and for what changes meanwhile; LocalFailure
    when something cannot be read; OSError when folder cannot be written.
    """
    base = os.path.realpath(contract_file.base or ".")
    _require_relative(contract_file)
    roots = tuple(roots)
    for root in roots:
        if not root.is_url and is_hashed(folder, root.place()):
            raise _refused("the cache lies in what is hashed", root.location, "move it (CTXPACK_CACHE)")
    places = {root: _place(base, root.source.path, root.location) for root in roots if not root.is_url}
    made = [_place(base, output.path, output.path) for output in contract_file.file.outputs]
    relative = [place for root, place in places.items() if not os.path.isabs(root.source.path)]
    top = _top(base, [*relative, *made])
    with Copier() as copier:
        copies = _Copies(top, os.path.join(folder, os.path.basename(top) or "root"), copier, on_bytes)
        copies.make_folder(base)
        for place in made:
            copies.make_folder(os.path.dirname(place))
        for root, place in places.items():
            if copies.holds(place):  # which any relative path does
                copies.add(root, place)
                if root.source.gitignore:
                    copies.add_patterns(root, place, base)
    copied = os.path.join(copies.of(base), os.path.basename(contract_file.path) or "contract.json")
    if os.path.isfile(contract_file.path) and not os.path.lexists(copied):
        shutil.copyfile(contract_file.path, copied)
    return ProjectCopy(
        LoadedContractFile(copied, copies.of(base), contract_file.file), tuple(_not_copied(contract_file.file, roots))
    )


class _Copies:
    """What lies at or below top, an absolute path, copied to the path copy by copier."""

    def __init__(self, top: str, copy: str, copier: Copier, on_bytes: OnBytes) -> None:
        self._top, self._copy, self._copier, self._on_bytes = top, copy, copier, on_bytes

    def holds(self, place: str) -> bool:
        """Return whether place lies at or below top."""
        return os.path.commonpath([self._top, place]) == self._top

    def of(self, place: str) -> str:
        """Return the path of the copy of what lies at place."""
        return os.path.normpath(os.path.join(self._copy, os.path.relpath(place, self._top)))

    def make_folder(self, place: str) -> None:
        os.makedirs(self.of(place), exist_ok=True)

    def add(self, root: HashedRoot, place: str) -> None:
        """Copy what is hashed of a root, whose path with only the links below top resolved is place."""
        follow, to = root.source.follow, self.of(place)
        if os.path.isdir(root.location):
            os.makedirs(to, exist_ok=True)
            for found in scan(root.location, excludes=root.excludes, follow=follow):
                if not (found.is_empty_folder and root.files_only):
                    self._add(found, os.path.join(to, found.path), follow=follow)
        else:
            [found] = scan(root.location, follow=follow)
            self._add(found, to, follow=follow)

    def add_patterns(self, root: HashedRoot, place: str, base: str) -> None:
        """Copy the files of patterns that say what of a root is hashed, as far as they are no part of it."""
        if not os.path.isdir(root.location):
            return
        above = os.path.dirname(place)
        while os.path.commonpath([base, above]) == base:
            self._add_patterns(above, self.of(above))
            above = os.path.dirname(above)
        for folder in walk(root.location, excludes=root.excludes, follow=root.source.follow):
            if folder is not None and os.path.isdir(to := os.path.join(self.of(place), folder.path)):
                self._add_patterns(folder.location, to)

    def _add_patterns(self, folder: str, to: str) -> None:
        location = os.path.join(folder, _PATTERNS)
        try:
            status = os.lstat(location)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISREG(status.st_mode):
            self._add(Found(_PATTERNS, location, status), os.path.join(to, _PATTERNS), follow=False)

    def _add(self, found: Found, to: str, *, follow: bool) -> None:
        if found.is_empty_folder:
            os.makedirs(to, exist_ok=True)
            return
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if not os.path.lexists(to):  # else another root holds it, too
            copy_file(FileCopy.of(found, to, follow=follow), self._copier, self._on_bytes)
            os.chmod(to, os.stat(to).st_mode | stat.S_IWUSR)


def _require_relative(contract_file: LoadedContractFile) -> None:
    for output in contract_file.file.outputs:
        if os.path.isabs(output.path):
            raise _refused(
                "an output at an absolute path can be made in one place only, which is yours",
                f"{contract_file.path}, output {output.name} at {output.path}",
                "give its path relative to the contract file, and let the command write there; the URI does not change",
            )


def _place(base: str, path: str, location: str) -> str:
    """Return the absolute path at which a path of a contract file lies, its links not resolved.

    Raises: InvalidInput where that cannot be said without them: ``link/..`` is not where ``link`` lies.
    """
    if os.path.isabs(path):
        above, name = os.path.split(os.path.normpath(path))
        return os.path.join(os.path.realpath(above), name)
    place = base
    for segment in path.split("/"):
        if segment == "..":
            if os.path.islink(place):
                raise _refused("a link, then ..", location, "give the path without `..` after the link")
            if place == "/":
                raise _refused("a path above the root of the file system", location, "remove a `..`")
            place = os.path.dirname(place)
        elif segment not in ("", "."):
            place = os.path.join(place, segment)
    return place


def _top(base: str, places: Iterable[str]) -> str:
    """Return the deepest folder that holds base, and holds or is each of these."""
    holders = [place if os.path.commonpath([base, place]) == place else os.path.dirname(place) for place in places]
    return os.path.commonpath([base, *holders])


def _not_copied(file: ContractFile, roots: Iterable[HashedRoot]) -> Iterator[str]:
    for root in roots:
        if root.is_url or os.path.isabs(root.source.path):
            yield f"{root.what}: {root.location}"
    for given in file.inputs:
        if given.uri is not None or given.digest is not None:
            yield f"input {given.name}: {given.uri or given.digest}"


def _refused(what: str, where: str, fix: str) -> InvalidInput:
    return InvalidInput(f"no fresh folder can be made: {what}", where=where, fix=fix, code="E_REBUILD")
