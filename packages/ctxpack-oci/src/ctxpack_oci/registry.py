"""A repository on a registry (OCI distribution-spec 1.1), behind the Target shape."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import quote

import msgspec

from ctxpack_identity.digest import Digest, digest_of, parse_digest
from ctxpack_identity.errors import Conflict, IntegrityError, InvalidInput
from ctxpack_oci.auth import Action, Authenticator
from ctxpack_oci.credentials import Credentials
from ctxpack_oci.descriptor import Descriptor, check_bytes, check_digest, check_length
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.http import Transport
from ctxpack_oci.imagemanifest import MANIFEST_KINDS, MAX_IMAGE_MANIFEST_BYTES, check_size, is_manifest
from ctxpack_oci.location import RegistryLocation
from ctxpack_oci.origin import join, origin_of
from ctxpack_oci.patience import Deadline, Patience, Transient, persist
from ctxpack_oci.proxy import Network
from ctxpack_oci.refusal import codes_of, message_of, refusal
from ctxpack_oci.target import TaggedManifest, check_tag

__all__ = ["Registry"]

T = TypeVar("T")

PAGE_TAGS = 1000  # asked for per page; ECR takes no more
MAX_PAGES = 100
MAX_PAGE_BYTES = 4 * 1024 * 1024  # bytes
KEPT_MANIFESTS = 8  # pushed manifests kept in memory until they are tagged

# All kinds, since a registry says 404 for a tag that names a kind not asked for, and that would look like a miss.
_ACCEPT = ", ".join(MANIFEST_KINDS)
_CREATED = (201, 200, 204)  # the specification says 201; some registries say another success
_LOST_UPLOAD = frozenset({404, 416})  # the session is gone, for example on another node: a new one may do


class _MediaType(msgspec.Struct, rename="camel"):
    media_type: str = ""


class _Page(msgspec.Struct):
    tags: list[str] | None = None


class Registry:
    """A Target over HTTP(S). Safe for use from several threads; connections are shared among them."""

    def __init__(
        self,
        location: RegistryLocation,
        *,
        credentials: Credentials | None = None,
        patience: Patience | None = None,
        network: Network | None = None,
    ) -> None:
        self._home = location.origin
        self._base = f"{self._home}/v2/{location.repository}"
        self._name = str(location)
        self._patience = patience or Patience()
        self._transport = Transport(self._home, patience=self._patience, network=network or Network())
        self._auth = Authenticator(
            self._transport,
            home=self._home,
            host=location.host,
            repository=location.repository,
            credentials=credentials,
            patience=self._patience,
        )
        self._lock = threading.Lock()
        self._manifests: dict[Digest, bytes] = {}

    @property
    def name(self) -> str:
        return self._name

    def fetch_tag(self, tag: str) -> TaggedManifest | None:
        check_tag(tag)
        url, where = f"{self._base}/manifests/{tag}", f"tag {tag} of {self._name}"
        request = Request(
            method="GET", url=url, where=where, headers={"Accept": _ACCEPT}, limit=MAX_IMAGE_MANIFEST_BYTES
        )
        reply = self._ask(request)
        if reply.status == 404:
            return None
        self._expect(reply, (200,), where)
        digest = _told_digest(reply) or digest_of(reply.body)
        check_digest(reply.body, digest, where=where)
        descriptor = Descriptor(media_type=_kind_of_body(reply, where), digest=digest, size=len(reply.body))
        return TaggedManifest(descriptor, reply.body)

    def exists(self, descriptor: Descriptor) -> bool:
        where = self._where(descriptor)
        headers = {"Accept": descriptor.media_type} if is_manifest(descriptor.media_type) else {}
        reply = self._ask(Request(method="HEAD", url=self._url(descriptor), where=where, headers=headers))
        if reply.status != 404:
            self._expect(reply, (200,), where)
        return reply.status == 200

    def fetch(self, descriptor: Descriptor) -> bytes:
        where = self._where(descriptor)
        manifest = is_manifest(descriptor.media_type)
        check_size(descriptor, where=where)
        headers = {"Accept": descriptor.media_type} if manifest else {}
        request = Request(method="GET", url=self._url(descriptor), where=where, headers=headers, limit=descriptor.size)
        reply = self._ask(request)
        self._expect(reply, (200,), where)
        check_bytes(reply.body, descriptor, where=where)
        return reply.body

    def push(self, descriptor: Descriptor, data: bytes) -> None:
        where = self._where(descriptor)
        check_size(descriptor, where=where)
        if is_manifest(descriptor.media_type):
            check_bytes(data, descriptor, where=where)
            self._put_manifest(descriptor, data, descriptor.digest)
            self._keep(descriptor.digest, data)
        else:
            check_length(data, descriptor, where=where)  # the registry checks the digest; a third of an upload's CPU
            self._persist(lambda deadline: self._upload(descriptor, data, deadline), size=len(data))

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        check_tag(tag)
        with self._lock:
            data = self._manifests.get(descriptor.digest)
        self._put_manifest(descriptor, data if data is not None else self.fetch(descriptor), tag)

    def tags(self) -> Iterator[str]:
        url = f"{self._base}/tags/list?n={PAGE_TAGS}"
        where = f"tags of {self._name}"
        asked: set[str] = set()
        told: set[str] = set()
        while url:
            if url in asked or len(asked) == MAX_PAGES:
                raise IntegrityError("the list of tags does not end", where=where, code="E_PROTOCOL")
            asked.add(url)
            reply = self._ask(Request(method="GET", url=url, where=where, limit=MAX_PAGE_BYTES))
            if reply.status == 404:
                return  # a repository that nobody has pushed to
            self._expect(reply, (200,), where)
            new = [tag for tag in _page(reply, where) if tag not in told]
            told.update(new)
            yield from dict.fromkeys(new)
            url = self._next_page(reply, url, where)

    def close(self) -> None:
        self._transport.close()

    def _ask(self, request: Request, *, action: Action = "pull") -> Reply:
        size = max(request.limit or 0, len(request.body or b""))
        return self._persist(lambda deadline: self._auth.exchange(request, deadline, action=action), size=size)

    def _persist(self, attempt: Callable[[Deadline], T], *, size: int) -> T:
        return persist(attempt, size=size, patience=self._patience)

    def _expect(self, reply: Reply, statuses: tuple[int, ...], where: str) -> None:
        if reply.status not in statuses:
            raise refusal(reply, where=where, login=self._auth.login)

    def _where(self, descriptor: Descriptor) -> str:
        kind = "manifest" if is_manifest(descriptor.media_type) else "blob"
        return f"{kind} {descriptor.digest[:19]} of {self._name}"

    def _url(self, descriptor: Descriptor) -> str:
        kind = "manifests" if is_manifest(descriptor.media_type) else "blobs"
        return f"{self._base}/{kind}/{parse_digest(descriptor.digest)}"

    def _upload(self, descriptor: Descriptor, data: bytes, deadline: Deadline) -> None:
        """One POST and one PUT. Whatever goes wrong in the PUT, the next attempt begins with a session of its own."""
        where = self._where(descriptor)
        start = Request(method="POST", url=f"{self._base}/blobs/uploads/", where=where)
        started = self._auth.exchange(start, deadline, action="pull,push")
        self._expect(started, (202,), where)
        url = self._upload_url(started, descriptor.digest, where)
        headers = {"Content-Type": "application/octet-stream"}
        request = Request(method="PUT", url=url, where=where, headers=headers, body=data)
        reply = self._auth.exchange(request, deadline, action="pull,push")
        if reply.status in _LOST_UPLOAD:
            raise Transient(f"the upload was lost: {message_of(reply)}", where=where)
        if "DIGEST_INVALID" in codes_of(reply):
            raise IntegrityError(
                "digest differs from what the registry received",
                where=where,
                expected=descriptor.digest,
                got=message_of(reply),
                code="E_DIGEST",
            )
        self._expect(reply, _CREATED, where)
        _expect_digest(reply, descriptor.digest, where)

    def _upload_url(self, started: Reply, digest: Digest, where: str) -> str:
        """Where the bytes go: the Location as given, with its query, joined to what was asked, and digest added."""
        location = started.headers.get("Location", "")
        url = join(started.url, location)
        if not location or origin_of(url) != self._home:
            raise IntegrityError(
                "upload location is not used",
                where=where,
                expected=f"a URL at {self._home}",
                got=str(origin_of(url) or "a malformed URL") if location else "none",
                fix="ask who runs the registry",
                code="E_REDIRECT",
            )
        return f"{url}{'&' if '?' in url else '?'}digest={quote(digest, safe='')}"

    def _put_manifest(self, descriptor: Descriptor, data: bytes, reference: str) -> None:
        where = self._where(descriptor) if reference == descriptor.digest else f"tag {reference} of {self._name}"
        request = Request(
            method="PUT",
            url=f"{self._base}/manifests/{reference}",
            where=where,
            headers={"Content-Type": descriptor.media_type},
            body=data,
        )
        reply = self._persist(lambda deadline: self._send_manifest(request, deadline), size=len(data))
        if reference != descriptor.digest and _says_immutable(reply):
            self._accept_immutable(descriptor, reference, reply)
            return
        self._expect(reply, _CREATED, where)
        _expect_digest(reply, descriptor.digest, where)

    def _send_manifest(self, request: Request, deadline: Deadline) -> Reply:
        """One PUT. registry:2 does not know a blob, pushed before, while another client pushes it once more."""
        reply = self._auth.exchange(request, deadline, action="pull,push")
        if "MANIFEST_BLOB_UNKNOWN" in codes_of(reply):
            raise Transient(message_of(reply), where=request.where)
        return reply

    def _accept_immutable(self, descriptor: Descriptor, tag: str, reply: Reply) -> None:
        """ECR with immutable tags refuses even the digest a tag has already: that is what was wanted."""
        found = self.fetch_tag(tag)
        where = f"tag {tag} of {self._name}"
        if found is None:
            raise refusal(reply, where=where, login=self._auth.login)
        if found.descriptor.digest != descriptor.digest:
            raise Conflict(
                "tag is immutable and names another manifest",
                where=where,
                expected=descriptor.digest,
                got=found.descriptor.digest,
            )

    def _keep(self, digest: Digest, data: bytes) -> None:
        with self._lock:
            self._manifests[digest] = data
            while len(self._manifests) > KEPT_MANIFESTS:
                del self._manifests[next(iter(self._manifests))]

    def _next_page(self, reply: Reply, url: str, where: str) -> str:
        found = re.search(r'<([^<>]*)>\s*;[^,]*\brel="?next"?', reply.headers.get("Link", "")[:8192])
        if not found:
            return ""
        following = join(url, str(found[1]))
        if origin_of(following) != self._home:
            raise IntegrityError(
                "next page is not followed",
                where=where,
                expected=f"a URL at {self._home}",
                got=str(origin_of(following) or "a malformed URL"),
                code="E_REDIRECT",
            )
        return following


def _kind_of_body(reply: Reply, where: str) -> str:
    """The media type of a manifest: what its own bytes say, since the header is not hashed."""
    try:
        said = msgspec.json.decode(reply.body, type=_MediaType).media_type
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = ""
    media_type = said or _media_type(reply)
    if not is_manifest(media_type):
        raise IntegrityError(
            "not a manifest", where=where, got=media_type[:120] or "no media type", fix="is this a registry?"
        )
    return media_type


def _media_type(reply: Reply) -> str:
    return reply.headers.get("Content-Type", "").partition(";")[0].strip()


def _told_digest(reply: Reply) -> Digest | None:
    try:
        return parse_digest(reply.headers.get("Docker-Content-Digest"))
    except InvalidInput:
        return None  # ECR leaves it out, and another algorithm than ours says nothing about our bytes


def _expect_digest(reply: Reply, digest: Digest, where: str) -> None:
    told = _told_digest(reply)
    if told not in (None, digest):
        raise IntegrityError("registry names other bytes", where=where, expected=digest, got=str(told), code="E_DIGEST")


def _says_immutable(reply: Reply) -> bool:
    return reply.status in (409, 412) or (reply.status == 400 and "TAG_INVALID" in codes_of(reply))


def _page(reply: Reply, where: str) -> list[str]:
    try:
        tags = msgspec.json.decode(reply.body, type=_Page).tags or []
        for tag in tags:
            check_tag(tag)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput) as error:
        raise IntegrityError(f"not a list of tags: {error}", where=where, code="E_PROTOCOL") from error
    return tags
