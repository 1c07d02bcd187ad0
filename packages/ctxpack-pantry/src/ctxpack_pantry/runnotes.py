"""Run notes: which run of which contract left what is at an output's place. Advice for the next run there.

One note for each output, ``runs/<64 hex>``, named after the SHA-256 of its resolved path.
"""

from __future__ import annotations

import json
import os

from ctxpack_identity.digest import digest_of, hex_of
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_pantry.notes import Notes

if TYPE_CHECKING:
    from ctxpack_cache import Cache

__all__ = ["RunNote", "RunNotes"]

_KIND = "runs"
_MAX_NOTE = 64 << 10  # bytes


class RunNote(NamedTuple):
    """What a run said of one output. uri: of the contract.

    ours: whether what is there may be deleted, because the run left it, or because it can be made again. left: a look
    (replacing.Site) at it; "" from the start of the command on, and for ever when the run was killed: then only what
    came into being since began (ns since the epoch) is ours. made: whether it is no failed run's. aside: where the run
    moved what was there before, "" for nothing. held: whether that can be made again. aside_of: the contract whose
    failed run had left that, "" if none had.
    """

    uri: str
    ours: bool = False
    left: str = ""
    made: bool = False
    began: int = 0
    aside: str = ""
    held: bool = False
    aside_of: str = ""


class RunNotes:
    """The notes of the runs that used this cache."""

    def __init__(self, cache: Cache) -> None:
        self._notes = Notes(cache, _KIND)

    def read(self, real: str) -> RunNote | None:
        """Return the note about the output at a resolved path, or None."""
        try:
            note = RunNote(**json.loads(self._notes.read(_name(real), _MAX_NOTE)))
        except (ValueError, TypeError, RecursionError):
            return None
        return note if all(type(value) is type(kind) for value, kind in zip(note, _LIKE, strict=True)) else None

    def write(self, real: str, note: RunNote) -> None:
        """Replace the note about the output at a resolved path."""
        self._notes.write(_name(real), json.dumps(note._asdict()).encode())

    def replace(self, real: str, note: RunNote | None) -> None:
        """Write the note, or remove the one that is there."""
        if note is None:
            self._notes.remove(_name(real))
        else:
            self.write(real, note)


_LIKE = RunNote("")


def _name(real: str) -> str:
    return hex_of(digest_of(os.fsencode(real)))
