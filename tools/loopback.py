"""Loopback: a server that runs in a thread of this process, and requests that no proxy sees."""

from __future__ import annotations

import threading
import urllib.request
from socketserver import TCPServer
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from http.client import HTTPResponse

__all__ = ["LoopbackServer", "open_url"]

POLL_SECONDS = 0.02  # how soon the server notices that it is to end


class LoopbackServer:
    """Serves inside ``with``."""

    def __init__(self, server: TCPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"


def open_url(request: str | urllib.request.Request, *, timeout: float) -> HTTPResponse:
    """Return the answer to a request. Raises: HTTPError, URLError, which are OSErrors.

    The proxy of the environment is not used: it may not serve loopback. timeout: seconds.
    """
    answer: HTTPResponse = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout)
    return answer
