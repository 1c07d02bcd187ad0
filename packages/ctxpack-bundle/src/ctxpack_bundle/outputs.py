"""The outputs of a pack as entries: their totals, and whether they are the outputs that the manifest announces."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ctxpack_bundle.folder import read_entries
from ctxpack_bundle.packmanifest import FILES, Outputs, PackManifest, Root
from ctxpack_bundle.remedy import EITHER
from ctxpack_identity import Digest, FolderDigest, IntegrityError, InvalidInput, TreeEntry
from ctxpack_identity.packpath import check_path

__all__ = ["Totals", "checked_entries", "root_digest"]


class Totals:
    """Folds entries, given in canonical order, into the `Outputs` of a manifest."""

    def __init__(self) -> None:
        self._tree = FolderDigest()
        self._files = self._empty_folders = self._size = 0

    def add(self, entry: TreeEntry) -> None:
        """Take the next entry. Raises: InvalidInput as FolderDigest.add does."""
        self._tree.add(entry)
        if entry.is_empty_folder:
            self._empty_folders += 1
        else:
            self._files += 1
            self._size += entry.size

    def finish(self, roots: tuple[Root, ...]) -> Outputs:
        """Return the outputs that consist of these roots and entries."""
        return Outputs(
            digest=self._tree.finish(),
            empty_folders=self._empty_folders,
            files=self._files,
            roots=roots,
            size=self._size,
        )


def checked_entries(entries: Iterable[TreeEntry], outputs: Outputs, *, where: str) -> Iterator[TreeEntry]:
    """Yield entries, each after a check that it is safe and in order; end only if together they are these outputs.

    Raises: IntegrityError for a path that no pack may hold, an entry out of order or below none of the roots, and,
    instead of ending, for a missing root or other totals than those announced.
    """
    totals = Totals()
    roots = {(root.name, root.type) for root in outputs.roots} if outputs.nested else set()
    missing = set(roots)
    for entry in entries:
        try:
            check_path(entry.path)
            totals.add(entry)
        except InvalidInput as error:
            raise IntegrityError(
                f"unsafe listing: {error.what}", where=f"{where}, {error.where}", fix=EITHER
            ) from error
        if outputs.nested:
            root = _root_of(entry.path)
            if root not in roots:
                raise IntegrityError("entry belongs to no output", where=where, got=repr(entry.path), fix=EITHER)
            missing.discard(root)
        yield entry
    found = totals.finish(outputs.roots)
    if missing or found != outputs:
        absent = "".join(f", without {name}" for name, _ in sorted(missing))
        raise IntegrityError(
            "outputs are not those of the manifest",
            where=where,
            expected=_shown(outputs),
            got=_shown(found) + absent,
            fix=EITHER,
        )


def root_digest(folder: str, manifest: PackManifest, name: str) -> Digest:
    """Return the tree digest that a pack of this root alone would have, which is what outputs_digest returns for it.

    folder: of the pack; only its files.jsonl is read, and that only if there are other roots.
    Raises: IntegrityError for a listing that breaks the rules of the format or is not the manifest's; LocalFailure when
    it cannot be read; ValueError when no root has this name.
    """
    roots = manifest.outputs.roots
    types = [root.type for root in roots if root.name == name]
    if not types:
        raise ValueError(f"no output is named {name!r}")
    if len(roots) == 1:
        return manifest.outputs.digest
    tree = FolderDigest()
    start = len(f"{name}/") if types == ["folder"] else 0
    for entry in checked_entries(read_entries(folder), manifest.outputs, where=os.path.join(folder, FILES)):
        if entry.path.partition("/")[0] == name and len(entry.path) > start:
            tree.add(entry._replace(path=entry.path[start:]))
    return tree.finish()


def _root_of(path: str) -> tuple[str, str]:
    name, slash, _ = path.partition("/")
    return name, "folder" if slash else "file"


def _shown(outputs: Outputs) -> str:
    return f"{outputs.digest} ({outputs.files} files, {outputs.size} bytes, {outputs.empty_folders} empty folders)"
