"""Run notes: which run of which contract left what is at an output's place, or which pack was placed there.

Advice for the next run there. One note for each output, ``runs/<64 hex>``, named after the SHA-256 of its resolved
path, which it has as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from ctxpack_identity.digest import digest_of, hex_of
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_pantry.notes import Notes

if TYPE_CHECKING:
    from ctxpack_cache import Cache

__all__ = ["RunNote", "RunNotes"]

_KIND = "runs"
_MAX_NOTE = 64 << 10  # bytes
_PATH = "path"  # beside the members of a note


class RunNote(NamedTuple):
    """What a run said of one output. uri: of the contract; with made and without ours, a pack of it was placed there.

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
        return _parsed(self._notes.read(_name(real), _MAX_NOTE))[1]

    def places(self) -> Iterator[tuple[str, RunNote]]:
        """Yield the path of each output, resolved, and its note; "" where an earlier version noted no path."""
        for name in sorted(self._notes.names()):
            path, note = _parsed(self._notes.read(name, _MAX_NOTE))
            if note is not None:
                yield (path if path and _name(path) == name else ""), note

    def write(self, real: str, note: RunNote) -> None:
        """Replace the note about the output at a resolved path."""
        self._notes.write(_name(real), json.dumps({**note._asdict(), _PATH: real}).encode())

    def replace(self, real: str, note: RunNote | None) -> None:
        """Write the note, or remove the one that is there."""
        if note is None:
            self._notes.remove(_name(real))
        else:
            self.write(real, note)


_LIKE = RunNote("")


def _parsed(data: bytes) -> tuple[str, RunNote | None]:
    """Return the path and the note that data is; "" for a path that is not there, None for what is no note."""
    try:
        members = json.loads(data)
        path = members.pop(_PATH, "")
        note = RunNote(**members)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return "", None
    is_note = isinstance(path, str) and all(type(value) is type(kind) for value, kind in zip(note, _LIKE, strict=True))
    return (path, note) if is_note else ("", None)


def _name(real: str) -> str:
    return hex_of(digest_of(os.fsencode(real)))
