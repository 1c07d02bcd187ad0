"""A request and its answer, as values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ctxpack_oci.content import Incoming, Outgoing

__all__ = ["Reply", "Request"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request. where: for messages. body: if it is Outgoing, each sending rewinds it.

    limit: most bytes of the body of a successful answer. None: the body is not needed, and is empty in the Reply.
    part_limit: the same for a 206 (Partial Content), which limit does not cover.
    sink: takes the body of a successful answer, which is then empty in the Reply. It takes no other body.
    """

    method: str
    url: str
    where: str
    headers: Mapping[str, str] = {}
    body: bytes | Outgoing | None = None
    limit: int | None = None
    part_limit: int | None = None
    sink: Incoming | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. url: where it came from, after redirects. body: as much as the transport allows."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
