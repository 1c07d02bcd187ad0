"""Round trips: which requests of a client waited for which.

A round trip is a request that begins after the one before has ended, together with all that are under way beside it.
Their number is the length of the longest chain of requests in which each begins after the one before it has ended:
how often a client waits for a registry, however far away, when it waits for nothing else.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from bench.wire import UP

__all__ = ["Asked", "Listener", "kind_of", "trips"]

_START = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n")

# What a path means in the distribution specification; the first that matches. Only a digest has a colon.
_KINDS = (
    (re.compile(r"/v2/?"), "root"),
    (re.compile(r"/v2/.+/manifests/[^/]+:[^/]+"), "manifest"),
    (re.compile(r"/v2/.+/manifests/[^/]+"), "tag"),
    (re.compile(r"/v2/.+/blobs/uploads/?"), "upload"),
    (re.compile(r"/v2/.+/blobs/.+"), "blob"),  # also the URL of an upload, which takes the blob
    (re.compile(r"/v2/.+/tags/list"), "tags"),
    (re.compile(r"/v2/.+/referrers/[^/]+"), "referrers"),
)


@dataclass
class Asked:
    """A request. kind: method and kind of path, "PUT manifest"; begun, ended: seconds of one clock."""

    kind: str
    begun: float
    ended: float = math.inf
    answered: bool = False


class Listener:
    """Notes the requests on the connections of a Meter: ``Meter(address, listener.hear)``.

    A client sends nothing on a connection between a request and its answer's end, so the first piece up after a piece
    down begins a request, and the last piece down ends it. Bodies are not looked at.

    delay: seconds for which every answer is held back, as if the registry were far away. Without it, requests made by
    several threads at once may seem to follow each other, since each has its answer before the next thread runs.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._noting = threading.Lock()
        self._asked: list[Asked] = []
        self._latest: dict[int, Asked] = {}  # of each connection

    def hear(self, connection: int, direction: int, piece: bytes) -> None:
        if direction == UP:
            self._hear_request(connection, piece)
        else:
            self._hear_answer(connection)

    def take(self) -> list[Asked]:
        """Return the requests since the last time, in the order in which they began."""
        with self._noting:
            taken, self._asked = self._asked, []
        return taken

    def _hear_request(self, connection: int, piece: bytes) -> None:
        with self._noting:
            latest = self._latest.get(connection)
            start = _START.match(piece)
            if start and (latest is None or latest.answered):
                kind = kind_of(start[1].decode(), start[2].decode())
                self._latest[connection] = Asked(kind, time.monotonic())
                self._asked.append(self._latest[connection])

    def _hear_answer(self, connection: int) -> None:
        latest = self._latest.get(connection)
        if latest is None:  # what was asked was no HTTP
            return
        if not latest.answered:
            time.sleep(self._delay)
        with self._noting:
            # Before the client has it: what it asks for next, it asks for afterwards.
            latest.answered, latest.ended = True, time.monotonic()


def kind_of(method: str, path: str) -> str:
    """Return "HEAD tag", "POST upload", "PUT blob" and the like, or the path as it is if it is none of a registry's."""
    plain = path.partition("?")[0]
    return f"{method} {next((kind for pattern, kind in _KINDS if pattern.fullmatch(plain)), plain)}"


def trips(asked: Iterable[Asked]) -> list[list[str]]:
    """Return the kinds of requests by round trip: in the first those that waited for none, and so on."""
    placed: list[tuple[float, int]] = []  # end and round trip of each
    found: list[list[str]] = []
    for one in sorted(asked, key=lambda one: one.begun):
        trip = max((trip + 1 for ended, trip in placed if ended <= one.begun), default=0)
        placed.append((one.ended, trip))
        found.extend([] for _ in range(trip + 1 - len(found)))
        found[trip].append(one.kind)
    return found
