"""Which record of a table has a piece: a hash table of 12 to 20 bytes for each record, where a dict would take 120."""

from __future__ import annotations

from array import array

from ctxpack_bundle.table import Table

__all__ = ["PieceIndex"]

_COPIES = 16  # records of one piece that are looked at


class PieceIndex:
    """Finds records of table by the digest of their piece."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._mask = (1 << (2 * len(table)).bit_length()) - 1
        self._slots = array("I", bytes(4 * (self._mask + 1)))  # number of the record and 1; 0 in a free slot
        self._later = array("i", bytes(4 * len(table)))  # number of the next record with the same piece, or -1
        for number in reversed(range(len(table))):
            slot, self._later[number] = self._look(table.sha256(number))
            self._slots[slot] = number + 1

    def find(self, sha256: bytes, after: int = -1) -> int:
        """Return the number of a record whose piece has this digest (32 bytes), or -1.

        Of several, the next one after this number, else the first. So a stream like the table's finds records in
        order, although the stream has some pieces more than once.
        """
        first = number = self._look(sha256)[1]
        if 0 <= number <= after < len(self._table) - 1 and self._table.sha256(after + 1) == sha256:
            return after + 1
        for _ in range(_COPIES):
            if number > after:
                return number
            if number < 0:
                break
            number = self._later[number]
        return first

    def _look(self, sha256: bytes) -> tuple[int, int]:
        slot = hash(sha256) & self._mask  # keyed: a table can hold digests that were chosen to collide
        while (number := self._slots[slot] - 1) >= 0:
            if self._table.sha256(number) == sha256:
                return slot, number
            slot = (slot + 1) & self._mask
        return slot, -1
