"""A server on loopback that runs in a thread of this process."""

from __future__ import annotations

import threading
from socketserver import TCPServer
from types import TracebackType
from typing import Self

__all__ = ["LoopbackServer"]

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
