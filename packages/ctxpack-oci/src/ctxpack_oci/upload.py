"""Upload a blob with one POST and one PUT (distribution-spec, "POST then PUT")."""

from __future__ import annotations

from urllib.parse import quote

from ctxpack_identity.digest import Digest
from ctxpack_identity.errors import IntegrityError
from ctxpack_oci.content import Outgoing
from ctxpack_oci.descriptor import Descriptor
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.origin import join
from ctxpack_oci.patience import Deadline, Transient
from ctxpack_oci.refusal import codes_of, message_of
from ctxpack_oci.repository import Repository

__all__ = ["upload_blob"]

_LOST = frozenset({404, 416})  # the session is gone, for example because another node answers: a new one may work


def upload_blob(repository: Repository, descriptor: Descriptor, content: bytes | Outgoing, *, where: str) -> None:
    """Upload content, which has the size in descriptor. The registry checks the digest.

    Raises: IntegrityError, when the registry received other bytes.
    """
    repository.persist(lambda deadline: _upload(repository, descriptor, content, deadline, where), size=descriptor.size)


def _upload(
    repository: Repository, descriptor: Descriptor, content: bytes | Outgoing, deadline: Deadline, where: str
) -> None:
    """One attempt, in a session of its own: after a failed PUT the state of its session is unknown."""
    start = Request(method="POST", url=f"{repository.base}/blobs/uploads/", where=where)
    started = repository.send(start, deadline, action="pull,push")
    repository.expect(started, (202,), where)
    url = _upload_url(repository, started, descriptor.digest, where)
    headers = {"Content-Type": "application/octet-stream"}
    request = Request(method="PUT", url=url, where=where, headers=headers, body=content)
    reply = repository.send(request, deadline, action="pull,push")
    if reply.status in _LOST:
        raise Transient(f"the upload was lost: {message_of(reply)}", where=where)
    if "DIGEST_INVALID" in codes_of(reply):
        raise IntegrityError(
            "digest differs from what the registry received",
            where=where,
            expected=descriptor.digest,
            got=message_of(reply),
            fix="run ctxpack push again",
            code="E_DIGEST",
        )
    repository.expect_created(reply, descriptor.digest, where)


def _upload_url(repository: Repository, started: Reply, digest: Digest, where: str) -> str:
    """The URL for the bytes: the Location with its query, resolved against the URL of the reply, and the digest."""
    location = started.headers.get("Location", "")
    url = join(started.url, location) if location else ""
    repository.expect_home(url, "upload location is not used", where)
    return f"{url}{'&' if '?' in url else '?'}digest={quote(digest, safe='')}"
