"""The outputs of a pack as entries: their totals, and whether they are the outputs that the manifest announces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ctxpack_bundle.packmanifest import Outputs, Root
from ctxpack_bundle.remedy import EITHER
from ctxpack_identity import FolderDigest, IntegrityError, InvalidInput, TreeEntry
from ctxpack_identity.packpath import check_path

__all__ = ["Totals", "checked_entries"]


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


def _root_of(path: str) -> tuple[str, str]:
    name, slash, _ = path.partition("/")
    return name, "folder" if slash else "file"


def _shown(outputs: Outputs) -> str:
    return f"{outputs.digest} ({outputs.files} files, {outputs.size} bytes, {outputs.empty_folders} empty folders)"
