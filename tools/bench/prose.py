"""Prose: sentences of invented words, whose frequencies are those of a language (Zipf)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random

__all__ = ["Prose"]


class Prose:
    """words: how many there are. first: rank of the most frequent one; the higher, the less the text compresses."""

    def __init__(self, random: Random, words: int = 4000, first: int = 3) -> None:
        syllables = [head + tail for head in "bdfgklmnprstvz" for tail in ("a", "e", "i", "o", "u", "en", "is", "or")]
        self._random = random
        self._words = ["".join(random.choices(syllables, k=random.choice((1, 2, 2, 3, 4)))) for _ in range(words)]
        self._weights = list(accumulate(1 / rank for rank in range(first, first + words)))

    def sentence(self) -> str:
        words = self._random.choices(self._words, cum_weights=self._weights, k=self._random.randint(6, 18))
        return " ".join(words).capitalize() + ". "

    def text(self, size: int) -> bytes:
        """Return at least size bytes."""
        return b"".join(self._until(size))

    def _until(self, size: int) -> Iterator[bytes]:
        while size > 0:
            sentence = self.sentence().encode()
            yield sentence
            size -= len(sentence)
