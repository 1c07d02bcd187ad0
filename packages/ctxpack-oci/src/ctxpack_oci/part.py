"""A part of a blob: one GET with a Range header, and what may answer it (RFC 9110, section 14).

A registry should support ranges (distribution-spec, "Pulling blobs"): one that does not sends the whole blob.
"""

from __future__ import annotations

import msgspec

from ctxpack_identity.errors import IntegrityError
from ctxpack_oci.descriptor import DAMAGED, MAX_WHOLE_BYTES, Descriptor, check_bytes
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.patience import Deadline, Transient
from ctxpack_oci.refusal import ASK_OPERATOR, message_of
from ctxpack_oci.repository import Repository

__all__ = ["fetch_part"]


def fetch_part(repository: Repository, whole: Request, descriptor: Descriptor, start: int, size: int) -> bytes | None:
    """Return size bytes from start on, the whole blob, or None; see `Target.fetch_range`.

    whole: the request for the whole blob.
    """
    where = whole.where
    limit = descriptor.size if descriptor.size <= MAX_WHOLE_BYTES else None
    headers = {**whole.headers, "Range": f"bytes={start}-{start + size - 1}"}
    request = msgspec.structs.replace(whole, headers=headers, limit=limit, part_limit=size)

    def attempt(deadline: Deadline) -> Reply:
        reply = repository.send(request, deadline)
        if reply.status == 206:
            _expect_part(reply, f"bytes {start}-{start + size - 1}", descriptor.size, where)
            if len(reply.body) < size:
                raise Transient("the answer was cut short", where=where)
        return reply

    reply = repository.persist(attempt, size=max(size, limit or 0))
    if reply.status == 206:
        return reply.body
    if reply.status == 416:
        raise IntegrityError(
            "the registry holds fewer bytes",
            where=where,
            expected=f"{descriptor.size} bytes",
            got=message_of(reply),
            fix=DAMAGED,
            code="E_SIZE",
        )
    repository.expect(reply, (200,), where)
    if limit is None:
        return None
    check_bytes(reply.body, descriptor, where=where, fix=DAMAGED)
    return reply.body


def _expect_part(reply: Reply, part: str, total: int, where: str) -> None:
    """Return if Content-Range says part. An answer of several parts does not have this header (RFC 9110, 15.3.7.2)."""
    got = reply.headers.get("Content-Range", "").strip()
    if got.lower() not in (f"{part}/{total}", f"{part}/*"):
        raise IntegrityError(
            "answer is another part",
            where=where,
            expected=f"{part}/{total}",
            got=got[:80] or "no Content-Range",
            fix=ASK_OPERATOR,
            code="E_PROTOCOL",
        )
