"""Many texts in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import overload

__all__ = ["Texts", "within"]


class Texts(Sequence[str]):
    """Texts that are added once and read by number: their bytes, and 8 bytes for each."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("Q")

    def add(self, text: str) -> int:
        """Add a text; return its number."""
        self._data += text.encode(errors="surrogateescape")
        self._ends.append(len(self._data))
        return len(self._ends) - 1

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        if not 0 <= number < len(self._ends):
            raise IndexError(number)
        start = self._ends[number - 1] if number else 0
        return self._data[start : self._ends[number]].decode(errors="surrogateescape")


def within(paths: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that says whether a path is one of these, or lies below one; rarely, it says so wrongly.

    It keeps hashes, so that many paths need little memory.

    >>> has = within(["a/b", "c"])
    >>> has("a/b"), has("a/b/x"), has("c/"), has("a"), has("a/bc")
    (True, True, True, False, False)
    """
    hashes = frozenset(map(hash, paths))

    def has(path: str) -> bool:
        path = path.removesuffix("/")
        while path and hash(path) not in hashes:
            path = path.rpartition("/")[0]
        return bool(path)

    return has
