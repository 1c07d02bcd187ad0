"""Round trips: which requests of a client waited for which other requests.

The number of round trips is the length of the longest chain of requests in which each begins after the one before it
has ended. A client waits so many times for the registry, however far away it is.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from bench.wire import UP

__all__ = ["Listener", "Request", "kind_of", "trips"]

_START = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n")

# What a path means in the distribution specification; the first match counts. Only a digest has a colon.
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
class Request:
    """A request. kind: method and kind of path, "PUT manifest"; begun, ended: seconds of one clock."""

    kind: str
    begun: float
    ended: float = math.inf
    answered: bool = False


class Listener:
    """Records the requests on the connections of a Meter: ``Meter(address, listener.observe)``.

    A client sends nothing on a connection between a request and the end of its answer. So the first block up after a
    block down begins a request, and the last block down ends it. Bodies are not parsed.

    delay: seconds by which every answer is delayed, as if the registry were far away. Without it, requests that several
    threads send at once may seem to follow each other, because each is answered before the next thread runs.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._noting = threading.Lock()
        self._requests: list[Request] = []
        self._latest: dict[int, Request] = {}  # of each connection

    def observe(self, connection: int, direction: int, block: bytes) -> None:
        if direction == UP:
            self._observe_request(connection, block)
        else:
            self._observe_answer(connection)

    def take(self) -> list[Request]:
        """Return the requests since the last call, in the order in which they began."""
        with self._noting:
            taken, self._requests = self._requests, []
        return taken

    def _observe_request(self, connection: int, block: bytes) -> None:
        with self._noting:
            latest = self._latest.get(connection)
            start = _START.match(block)
            if start and (latest is None or latest.answered):
                kind = kind_of(start[1].decode(), start[2].decode())
                self._latest[connection] = Request(kind, time.monotonic())
                self._requests.append(self._latest[connection])

    def _observe_answer(self, connection: int) -> None:
        latest = self._latest.get(connection)
        if latest is None:  # the connection carries no HTTP
            return
        if not latest.answered:
            time.sleep(self._delay)
        with self._noting:
            # Now, before the client has the answer: its next request begins later.
            latest.answered, latest.ended = True, time.monotonic()


def kind_of(method: str, path: str) -> str:
    """Return "HEAD tag", "POST upload", "PUT blob" and the like; a path that no registry has stays as it is."""
    plain = path.partition("?")[0]
    return f"{method} {next((kind for pattern, kind in _KINDS if pattern.fullmatch(plain)), plain)}"


def trips(requests: Iterable[Request]) -> list[list[str]]:
    """Return the kinds of requests by round trip. The first round trip has the requests that waited for no other."""
    placed: list[tuple[float, int]] = []  # end and round trip of each
    found: list[list[str]] = []
    for one in sorted(requests, key=lambda one: one.begun):
        trip = max((trip + 1 for ended, trip in placed if ended <= one.begun), default=0)
        placed.append((one.ended, trip))
        found.extend([] for _ in range(trip + 1 - len(found)))
        found[trip].append(one.kind)
    return found
