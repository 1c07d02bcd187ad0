"""Items: workload D, the outputs of many items in one folder, and its versions, in each of which others have changed.

Version 0 is D itself. Version k is version k - 1 after 1 % of the items, scattered and in no other version, were
replaced by other texts of other sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random

from bench.prose import Prose

__all__ = ["Items", "sentences"]

COUNT = 10_000
SIZES = (5_000, 60_000)  # bytes, the least and the most
CHANGED = 100  # one item in so many, in each version

# With these words, texts squeeze to .47 of their size. With so many sentences, no two texts have much in common.
WORDS, FIRST = 16_000, 300
SENTENCES = 60_000
SHORT = 60  # bytes; shorter than most sentences


class Items:
    """The texts of all items in all versions. scale: 1 for COUNT items."""

    def __init__(self, scale: float) -> None:
        self._order = list(range(max(200, round(COUNT * scale))))
        Random("order").shuffle(self._order)

    def write(self, folder: Path) -> None:
        """Write version 0."""
        self._write(folder, self._order, 0)

    def change(self, folder: Path, version: int) -> int:
        """Make version from the version before it, in place; return the bytes of the items that changed.

        The files that change are new files, so that hard links keep the old ones.
        """
        count = len(self._order) // CHANGED
        return self._write(folder, self._order[(version - 1) * count : version * count], version)

    def _write(self, folder: Path, items: Iterable[int], version: int) -> int:
        written = 0
        for item in items:
            path = folder / f"item_{item:05d}.txt"
            path.unlink(missing_ok=True)
            written += path.write_bytes(self._text(item, version))
        return written

    def _text(self, item: int, version: int) -> bytes:
        random = Random(f"{item} {version}")
        size = random.randint(*SIZES)
        return "".join(random.choices(sentences(), k=size // SHORT)).encode()[:size]


@cache
def sentences() -> list[str]:
    """Return the sentences that the texts are made of."""
    prose = Prose(Random("sentences"), WORDS, FIRST)
    return [prose.sentence() for _ in range(SENTENCES)]
