"""Seeding a map that was made elsewhere: its output must hold a result for each item, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from ctxpack_identity import InvalidInput, TreeEntry
from ctxpack_identity.items import items_of
from ctxpack_identity.rules import Each
from ctxpack_pantry.items.results import NOTHING, ResultDigests
from ctxpack_pantry.items.table import ItemTable

__all__ = ["Seeding"]


class Seeding:
    """Takes the entries of the output of a map. entries: the listing of the input that it goes over.

    Raises: InvalidInput when the results of items collide.
    """

    def __init__(self, each: Each, entries: Iterable[TreeEntry]) -> None:
        self._table = ItemTable(items_of(each, entries))
        outputs = ((self._table.outputs[number], number) for number in self._table.by_output)
        self._digests = ResultDigests(outputs, self._require_some)

    def add(self, entry: TreeEntry) -> None:
        """Take the next entry. Raises: InvalidInput when it is part of no result, or an item has none."""
        if not self._digests.add(entry):
            raise _refused("what lies here is the result of no item", entry.path)

    def finish(self) -> None:
        """Say that there are no more entries. Raises: InvalidInput when an item has no result."""
        self._digests.finish()

    def _require_some(self, number: int, result: bytes) -> None:
        if result == NOTHING:
            output = self._table.outputs[number]
            raise _refused(f"item {self._table.paths[number]!r} has no result", output)


def _refused(what: str, path: str) -> InvalidInput:
    return InvalidInput(
        f"{what}, so nothing was seeded",
        where=repr(path),
        expected="a result for each item, and nothing else",
        fix='let `ctxpack map` make what is missing, or remove the rest; "exclude" of the output leaves files out',
        code="E_EACH",
    )
