"""A request and its answer, as values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Reply", "Request"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request. where: for messages.

    limit: most bytes of the body of a successful answer. None: the body is not needed, and is empty in the Reply.
    """

    method: str
    url: str
    where: str
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    limit: int | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. url: where it came from, after redirects. body: as much as the transport allows."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
