"""Workload M: the documents that a map goes over, and how they change. The same number gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

from bench.items import sentences

__all__ = ["Change", "Corpus", "mapped"]

SIZES = (10_000, 30_000)  # bytes, the least and the most
IN_FOLDER = 100
LINE = 60  # bytes; shorter than most sentences


class Change(NamedTuple):
    """Paths of files, relative to the corpus, that are to be computed after a change; and all that were removed."""

    computed: tuple[str, ...]
    removed: tuple[str, ...] = ()


class Corpus:
    """So many texts of 20 KB on average. size: bytes of each, for others. Changed files are new: links keep the old."""

    def __init__(self, count: int, size: int = 0) -> None:
        self.count = count
        self._size = size
        self._order = list(range(count))
        Random("changes").shuffle(self._order)

    def paths(self) -> tuple[str, ...]:
        """Return the paths of all files, before any change."""
        return tuple(map(_path, range(self.count)))

    def write(self, folder: Path) -> None:
        for number in range(self.count):
            self._write(folder / _path(number), number, 0)

    def edit(self, folder: Path) -> Change:
        """Add a file, change one, remove one, rename one."""
        added, changed, removed, old, new = "added.txt", *map(_path, self._order[:3]), "renamed.txt"
        self._write(folder / added, self.count, 0)
        self._write(folder / changed, self._order[0], 1)
        (folder / removed).unlink()
        (folder / old).rename(folder / new)
        return Change((added, changed, new), (removed, old))

    def change(self, folder: Path, version: int, share: float = 0.01) -> Change:
        """Change a share of the files, at least one, that no other version and no edit changes."""
        most = max(1, round(self.count * share))
        numbers = self._order[3 + version * most : 3 + (version + 1) * most]
        for number in numbers:
            self._write(folder / _path(number), number, 1)
        return Change(tuple(map(_path, numbers)))

    def _write(self, path: Path, number: int, version: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(self._text(number, version))

    def _text(self, number: int, version: int) -> bytes:
        head = f"document {number}, version {version}. "
        if self._size:
            return head.ljust(self._size)[: max(self._size, len(head))].encode()
        random = Random(head)
        size = random.randint(*SIZES)
        return (head + "".join(random.choices(sentences(), k=size // LINE))).encode()[:size]


def mapped(text: bytes) -> bytes:
    """Return what the command of an item makes of its file."""
    return text.upper()


def _path(number: int) -> str:
    return f"d{number // IN_FOLDER:04d}/f{number:06d}.txt"
