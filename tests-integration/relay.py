"""A server between CtxPack and a real registry: it records requests, and changes what a test wants changed.

``Relay(registry.address)`` forwards everything. Its ``rule`` gets each request first: the rule may forward the request,
change the answer, answer itself, or wait.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, TypeAlias

from loopback import LoopbackServer

__all__ = ["Answer", "Forward", "Hold", "Relay", "Request", "Rule"]

PATIENCE = 60.0  # seconds; longer than any test needs, so that no test hangs
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class Request(NamedTuple):
    """A request. headers: names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def sends_blob(self) -> bool:
        return self.method == "PUT" and "/blobs/uploads/" in self.path


class Hold:
    """A point where the relay waits until the test releases it, or until the relay closes."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()

    def wait(self) -> None:
        """For the relay: record that it is here, and wait."""
        self._reached.set()
        self._released.wait(PATIENCE)

    def until_reached(self) -> None:
        """For the test: return when the relay is here. Raises: AssertionError if it does not come."""
        assert self._reached.wait(PATIENCE), "the relay did not come to the hold"

    @property
    def reached(self) -> bool:
        return self._reached.is_set()

    def release(self) -> None:
        self._released.set()


class Answer(NamedTuple):
    """An answer. body: all of it; length: Content-Length, unless it is the length of body.

    pause_at: after so many bytes of the body the relay waits at hold, or resets the connection if hold is None.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    length: int | None = None
    pause_at: int | None = None
    hold: Hold | None = None


Forward: TypeAlias = Callable[[Request], Answer]
"""Sends a request to the registry, this one or another one, and returns the answer."""

Rule: TypeAlias = Callable[[Request, Forward], Answer]
"""Answers a request instead of the relay."""


class Relay(LoopbackServer):
    """A reverse proxy that runs inside ``with``. upstream: host:port of the registry, "" for none."""

    def __init__(self, upstream: str = "", rule: Rule | None = None) -> None:
        self.rule = rule
        self._upstream = upstream
        self._lock = threading.Lock()
        self._log: list[Request] = []
        self._holds: list[Hold] = []
        relay = self

        class Handler(_Handler):
            def answer(self, request: Request) -> Answer:
                return relay._answer(request)

        super().__init__(_Server(("127.0.0.1", 0), Handler))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hold in self._holds:
            hold.release()
        super().__exit__(kind, error, trace)

    def hold(self) -> Hold:
        """Return a new hold, which is released when the relay closes, if not before."""
        self._holds.append(Hold())
        return self._holds[-1]

    def seen(self, method: str = "", path: str = "") -> list[Request]:
        """Return the requests of method whose path matches the pattern, in order of arrival."""
        with self._lock:
            return [one for one in self._log if method in ("", one.method) and re.search(path, one.path)]

    def forget(self) -> None:
        with self._lock:
            self._log.clear()

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self._log.append(request)
        return self.rule(request, self._forward) if self.rule else self._forward(request)

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(self._upstream, timeout=PATIENCE)
        try:
            # Host stays: the registry builds the URLs of its Location headers from it.
            headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
            if request.body or request.method not in ("GET", "HEAD"):
                headers["Content-Length"] = str(len(request.body))
            connection.request(request.method, request.path, body=request.body or None, headers=headers)
            reply = connection.getresponse()
            body = reply.read()
            kept = {name: value for name, value in reply.getheaders() if name.lower() not in _HOP_BY_HOP}
            length = reply.getheader("Content-Length") if request.method == "HEAD" else None
            return Answer(reply.status, kept, body, length=int(length) if length else None)
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: in many tests the client goes away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    disable_nagle_algorithm = True  # headers and body go out in two writes; the second must not wait for an ACK

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.answer(Request(self.command, self.path, headers, body))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(answer.body[: answer.pause_at])
        if answer.pause_at is not None:
            self.wfile.flush()
            if answer.hold is None:
                self._reset()
                return
            answer.hold.wait()
            self.wfile.write(answer.body[answer.pause_at :])
        if answer.length is not None and answer.length != len(answer.body):
            self.close_connection = True  # the client would read the next answer as the end of this body

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def _reset(self) -> None:
        """End the connection with RST, as a crashed server or a firewall does."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with contextlib.suppress(OSError):
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
