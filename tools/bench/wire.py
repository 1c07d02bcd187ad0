"""What passes between a client and a registry: bytes in both directions, and requests."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from loopback import LoopbackServer

__all__ = ["DOWN", "UP", "Meter", "Observer", "Traffic", "blobs_in", "requests_in"]

BLOCK = 1 << 16  # bytes
UP, DOWN = 0, 1

Observer: TypeAlias = Callable[[int, int, bytes], None]
"""Called with the number of a connection, a direction and a block, before the block is passed on."""

# A line of the registry's access log, which is in Apache's combined format. A PUT ends the upload of each blob.
_LINE = r"^\S+ - \S+ \[[^]]*\] "
_REQUEST = re.compile(_LINE + '"(?:GET|HEAD|POST|PUT|PATCH|DELETE) /v2/', re.MULTILINE)
_BLOB = re.compile(_LINE + r'"PUT /v2/\S+/blobs/uploads/', re.MULTILINE)


class Traffic(NamedTuple):
    """Bytes of TCP payload, HTTP's own lines included. up: to the registry."""

    up: int
    down: int


class Meter(LoopbackServer):
    """Passes TCP connections on to a registry inside ``with``, and counts their bytes.

    For counting, not for timing: each direction has a thread. observe: called by these threads, for every block.
    """

    def __init__(self, upstream: str, observe: Observer = lambda connection, direction, block: None) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._observe = observe
        self._connections = itertools.count()
        self._counting = threading.Lock()
        self._passed = [0, 0]
        meter = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                meter._pass_on(self.request)

        super().__init__(_Server(("127.0.0.1", 0), Handler))

    def take(self) -> Traffic:
        """Return what has passed since the last call."""
        with self._counting:
            taken, self._passed = Traffic(*self._passed), [0, 0]
        return taken

    def _pass_on(self, client: socket.socket) -> None:
        connection = next(self._connections)
        with socket.create_connection(self._upstream) as server:
            up = threading.Thread(target=self._copy, args=(connection, client, server, UP))
            up.start()
            self._copy(connection, server, client, DOWN)
            up.join()

    def _copy(self, connection: int, source: socket.socket, sink: socket.socket, direction: int) -> None:
        try:
            while block := source.recv(BLOCK):
                with self._counting:
                    self._passed[direction] += len(block)
                self._observe(connection, direction, block)
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # one side went away: the other must not wait for it
            for end in (source, sink):
                _hang_up(end)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def requests_in(log: Path) -> int:
    """Return how many requests a registry:2 has logged so far."""
    return _count(_REQUEST, log)


def blobs_in(log: Path) -> int:
    """Return how many blobs clients have sent to a registry:2 so far."""
    return _count(_BLOB, log)


def _count(line: re.Pattern[str], log: Path) -> int:
    return len(line.findall(log.read_text(encoding="utf-8", errors="replace")))
