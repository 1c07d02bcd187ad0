"""A repository on a registry (OCI distribution-spec 1.1), as a Target."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import msgspec

from ctxpack_identity.digest import Digest, digest_of, parse_digest
from ctxpack_identity.errors import AccessDenied, Conflict, IntegrityError, InvalidInput, Unavailable
from ctxpack_oci.content import Incoming, Outgoing, callers_errors
from ctxpack_oci.credentials import Credentials, find_login
from ctxpack_oci.descriptor import DAMAGED, Descriptor, check_bytes, check_digest, check_length
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.imagemanifest import (
    INDEX_MEDIA_TYPE,
    MANIFEST_KINDS,
    MAX_IMAGE_MANIFEST_BYTES,
    check_size,
    is_manifest,
)
from ctxpack_oci.location import RegistryLocation
from ctxpack_oci.pages import PAGE_ITEMS, pages
from ctxpack_oci.part import fetch_part
from ctxpack_oci.patience import Deadline, Patience, Transient
from ctxpack_oci.proxy import Network, network_from
from ctxpack_oci.referrers import (
    at_most,
    candidates_in,
    fallback_tag,
    parse_referrer,
    where_referrers,
    with_referrer,
)
from ctxpack_oci.refusal import ASK_OPERATOR, CHECK_SETTING, codes_of, message_of
from ctxpack_oci.repository import Repository, is_page_for_people, receipt_of
from ctxpack_oci.target import TaggedManifest, check_range, check_tag, expect_blob, where_content, where_tag
from ctxpack_oci.upload import upload_blob

__all__ = ["Registry", "open_registry"]

KEPT_MANIFESTS = 8  # pushed manifests kept in memory until they are tagged

# All kinds: for a tag that names a kind not asked for, a registry answers 404, which would be a miss.
_ACCEPT = ", ".join(MANIFEST_KINDS)


class _MediaType(msgspec.Struct, rename="camel"):
    media_type: str = ""


class _TagList(msgspec.Struct):
    tags: list[str] | None = None


_decode_media_type = msgspec.json.Decoder(_MediaType).decode  # see imagemanifest
_decode_tags = msgspec.json.Decoder(_TagList).decode


class _IndexReplaced(Transient):
    """Another client writes the index that this one writes."""

    def __init__(self, where: str) -> None:
        super().__init__(
            "other pushes change this list of referrers at the same time", where=where, fix="try again when they ended"
        )


_UNKNOWN_TO_ITSELF = {"MANIFEST_BLOB_UNKNOWN", "DIGEST_INVALID"}
"""What registry:2 answers to one client about content that another pushes again: it does not know it for a moment."""


class Registry:
    """A Target over HTTP(S). Safe for use from several threads, which share connections."""

    def __init__(
        self,
        location: RegistryLocation,
        *,
        credentials: Credentials | None = None,
        patience: Patience | None = None,
        network: Network | None = None,
        advice: str = "",
    ) -> None:
        self._repository = Repository(
            location,
            credentials=credentials,
            patience=patience or Patience(),
            network=network or Network(),
            advice=advice,
        )
        self._lock = threading.Lock()
        self._manifests: dict[Digest, bytes] = {}

    @property
    def name(self) -> str:
        return self._repository.name

    @property
    def conditional_tags(self) -> bool:
        return False

    def fetch_tag(self, tag: str) -> TaggedManifest | None:
        check_tag(tag)
        url, where = f"{self._repository.base}/manifests/{tag}", where_tag(self.name, tag)
        request = Request(
            method="GET", url=url, where=where, headers={"Accept": _ACCEPT}, limit=MAX_IMAGE_MANIFEST_BYTES
        )
        reply = self._repository.ask(request)
        if reply.status == 404:
            self._repository.expect_miss(reply, where)
            return None
        self._repository.expect(reply, (200,), where)
        digest = receipt_of(reply) or digest_of(reply.body)
        check_digest(digest_of(reply.body), digest, where=where, fix=DAMAGED)
        descriptor = Descriptor(media_type=_kind_of_body(reply, where), digest=digest, size=len(reply.body))
        return TaggedManifest(descriptor, reply.body)

    def resolve_tag(self, tag: str) -> Digest | None:
        check_tag(tag)
        url, where = f"{self._repository.base}/manifests/{tag}", where_tag(self.name, tag)
        head = Request(method="HEAD", url=url, where=where, headers={"Accept": _ACCEPT})
        reply = self._repository.ask(head)
        if reply.status == 404:
            self._repository.expect_miss(reply, where)
            return None
        self._repository.expect(reply, (200,), where)
        receipt = receipt_of(reply)
        if receipt is None:
            whole = msgspec.structs.replace(head, method="GET", limit=MAX_IMAGE_MANIFEST_BYTES)
            reply = self._repository.ask(whole)
            self._repository.expect(reply, (200,), where)
            receipt = receipt_of(reply) or digest_of(reply.body)
        return receipt

    def exists(self, descriptor: Descriptor) -> bool:
        where = where_content(self.name, descriptor)
        request = Request(method="HEAD", url=self._url(descriptor), where=where, headers=_accept(descriptor))
        reply = self._repository.ask(request)
        if reply.status != 404:
            self._repository.expect(reply, (200,), where)
        return reply.status == 200

    def fetch(self, descriptor: Descriptor) -> bytes:
        where = where_content(self.name, descriptor)
        check_size(descriptor, where=where)
        reply = self._repository.ask(self._get(descriptor))
        self._repository.expect(reply, (200,), where)
        check_bytes(reply.body, descriptor, where=where, fix=DAMAGED)
        return reply.body

    def fetch_range(self, descriptor: Descriptor, start: int, size: int) -> bytes | None:
        check_range(descriptor, start, size, where=where_content(self.name, descriptor))
        return fetch_part(self._repository, self._get(descriptor), descriptor, start, size)

    def fetch_into(self, descriptor: Descriptor, file: BinaryIO) -> None:
        with callers_errors():
            self._repository.persist(lambda deadline: self._receive(descriptor, file, deadline), size=descriptor.size)

    def push(self, descriptor: Descriptor, content: bytes | BinaryIO) -> None:
        where = where_content(self.name, descriptor)
        if not isinstance(content, bytes):
            expect_blob(descriptor)
            with callers_errors():
                upload_blob(self._repository, descriptor, Outgoing(descriptor, content, where=where), where=where)
            return
        check_size(descriptor, where=where)
        if is_manifest(descriptor.media_type):
            check_bytes(content, descriptor, where=where)
            reply = self._put_manifest(descriptor, content, descriptor.digest, where)
            self._repository.expect_created(reply, descriptor.digest, where)
            self._keep(descriptor.digest, content)
        else:
            # Not the digest, which the registry checks: it would be a third of the CPU time of an upload.
            check_length(len(content), descriptor, where=where)
            upload_blob(self._repository, descriptor, content, where=where)

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        check_tag(tag)
        where = where_tag(self.name, tag)
        with self._lock:
            data = self._manifests.get(descriptor.digest)
        reply = self._put_manifest(descriptor, self.fetch(descriptor) if data is None else data, tag, where)
        if _says_immutable(reply):
            self._accept_immutable(descriptor, tag, reply)
        else:
            self._repository.expect_created(reply, descriptor.digest, where)

    def tag_if(self, descriptor: Descriptor, tag: str, before: Digest | None) -> bool:
        raise TypeError("registries have no conditional tag")

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor] | None:
        listed = at_most(self._listed(subject, where_referrers(self.name, subject)), artifact_type)
        # An empty list too: some registries answer so without knowing referrers, and those of before are in the index.
        return at_most(self._in_fallback(subject), artifact_type) if listed == [] else listed

    def attach(self, descriptor: Descriptor, data: bytes, tag: str = "") -> None:
        where = where_content(self.name, descriptor)
        subject, entry = parse_referrer(descriptor, data, where=where)
        if tag:
            check_tag(tag)
            where = where_tag(self.name, tag)
        reply = self._put_manifest(descriptor, data, tag or descriptor.digest, where)
        if tag and _says_immutable(reply):
            self._accept_immutable(descriptor, tag, reply)
            reply = self._put_manifest(descriptor, data, descriptor.digest, where)  # to learn who keeps the list
        self._repository.expect_created(reply, descriptor.digest, where)
        self._keep(descriptor.digest, data)
        if reply.headers.get("OCI-Subject") != subject:
            self._keep_index(subject, entry)

    def delete(self, tag: str) -> Digest | None:
        digest = self.resolve_tag(tag)
        if digest is None:
            return None
        # By digest, which every registry that deletes can do, and which takes its tags along nearly everywhere.
        self._delete(digest, tag)
        if self.resolve_tag(tag) == digest:
            self._delete(tag, tag)
        return digest

    def tags(self) -> Iterator[str]:
        where = f"tags of {self.name}"
        url = f"{self._repository.base}/tags/list?n={PAGE_ITEMS}"
        yielded: set[str] = set()
        for reply in pages(self._repository, url, where=where):
            new = dict.fromkeys(tag for tag in _tags_in(reply, where) if tag not in yielded)
            yielded.update(new)
            yield from new

    def close(self) -> None:
        self._repository.close()

    def _url(self, descriptor: Descriptor) -> str:
        kind = "manifests" if is_manifest(descriptor.media_type) else "blobs"
        return f"{self._repository.base}/{kind}/{parse_digest(descriptor.digest)}"

    def _get(self, descriptor: Descriptor) -> Request:
        """The request for the whole content."""
        where, url = where_content(self.name, descriptor), self._url(descriptor)
        return Request(method="GET", url=url, where=where, headers=_accept(descriptor), limit=descriptor.size)

    def _receive(self, descriptor: Descriptor, file: BinaryIO, deadline: Deadline) -> None:
        """One attempt to fetch the whole content into file."""
        request = self._get(descriptor)
        sink = Incoming(descriptor, file, where=request.where, fix=DAMAGED)
        reply = self._repository.send(msgspec.structs.replace(request, sink=sink), deadline)
        self._repository.expect(reply, (200,), request.where)
        sink.finish()

    def _put_manifest(self, descriptor: Descriptor, data: bytes, reference: str, where: str) -> Reply:
        """Return the answer to a PUT of a manifest. reference: its digest, or its new tag."""
        url, headers = f"{self._repository.base}/manifests/{reference}", {"Content-Type": descriptor.media_type}
        request = Request(method="PUT", url=url, where=where, headers=headers, body=data)
        return self._repository.persist(lambda deadline: self._send_manifest(request, deadline), size=len(data))

    def _send_manifest(self, request: Request, deadline: Deadline) -> Reply:
        """One PUT."""
        reply = self._repository.send(request, deadline, action="pull,push")
        if codes_of(reply) & _UNKNOWN_TO_ITSELF:
            raise Transient(message_of(reply), where=request.where)
        return reply

    def _listed(self, subject: Digest, where: str) -> Iterator[Descriptor]:
        """What the registry itself lists; nothing when it says that it does not do so."""
        url = f"{self._repository.base}/referrers/{parse_digest(subject)}"
        for reply in pages(self._repository, url, where=where, lacking=_without_referrers):
            yield from candidates_in(reply.body, media_type=reply.headers.get("Content-Type", ""), where=where)

    def _in_fallback(self, subject: Digest) -> Iterator[Descriptor]:
        """What the index lists that clients write where the registry lists nothing."""
        tag = fallback_tag(subject)
        found = self.fetch_tag(tag)
        if found is not None and found.descriptor.digest != subject:  # GitLab takes this tag for the digest
            yield from candidates_in(
                found.data, media_type=found.descriptor.media_type, where=where_tag(self.name, tag)
            )

    def _keep_index(self, subject: Digest, entry: Descriptor) -> None:
        """Have entry in the index that clients write."""
        size = MAX_IMAGE_MANIFEST_BYTES
        try:
            self._repository.persist(lambda deadline: self._append(subject, entry, deadline), size=size)
        except Unavailable as error:
            if isinstance(error.__cause__, _IndexReplaced):
                raise Unavailable(error.what, where=error.where, fix=error.fix, code="E_REFERRERS") from error
            raise

    def _append(self, subject: Digest, entry: Descriptor, deadline: Deadline) -> None:
        """One attempt to have entry in the index that clients write. Raises: _IndexReplaced, when another is there."""
        tag = fallback_tag(subject)
        where = where_tag(self.name, tag)
        found = self.fetch_tag(tag)
        if found is not None and found.descriptor.digest == subject:  # see _in_fallback: it has no room for an index
            return
        old = None if found is None else found.data
        others = [] if old is None else list(candidates_in(old, media_type=INDEX_MEDIA_TYPE, where=where))
        if any(other.digest == entry.digest for other in others):
            return
        data = with_referrer(old, entry, where=where)
        reply = self._put_index(data, tag, where, deadline)
        # Most registries refuse an index with an entry whose manifest is gone, after a garbage collection for example.
        if 400 <= reply.status < 500 and (dead := {other.digest for other in others if not self.exists(other)}):
            data = with_referrer(old, entry, dead=dead, where=where)
            reply = self._put_index(data, tag, where, deadline)
        if codes_of(reply) & _UNKNOWN_TO_ITSELF:
            raise _IndexReplaced(where)
        if 400 <= reply.status < 500 and reply.status not in (401, 403):
            what = f"the registry takes no list of referrers: {message_of(reply)}"
            raise IntegrityError(what, where=where, fix=ASK_OPERATOR, code="E_REFERRERS")
        self._repository.expect_created(reply, digest_of(data), where)
        if all(listed.digest != entry.digest for listed in self._in_fallback(subject)):
            raise _IndexReplaced(where)

    def _put_index(self, data: bytes, tag: str, where: str, deadline: Deadline) -> Reply:
        url, headers = f"{self._repository.base}/manifests/{tag}", {"Content-Type": INDEX_MEDIA_TYPE}
        request = Request(method="PUT", url=url, where=where, headers=headers, body=data)
        return self._repository.send(request, deadline, action="pull,push")

    def _delete(self, reference: str, tag: str) -> None:
        """Delete a manifest, or only a tag. reference: digest or tag. One that is gone already is no error."""
        where = where_tag(self.name, tag)
        request = Request(method="DELETE", url=f"{self._repository.base}/manifests/{reference}", where=where)
        # registry:2 takes "delete" for a scope of its own, others want that of a push.
        reply = self._repository.persist(
            lambda deadline: self._repository.send(request, deadline, action="pull,push,delete"), size=0
        )
        if reply.status == 405 or "UNSUPPORTED" in codes_of(reply):
            raise AccessDenied(
                f"the registry does not delete: {message_of(reply)}",
                where=where,
                fix="delete the tag in its own interface, or let its operator allow deletion; "
                "`ctxpack push --replace` puts another pack there",
                code="E_NO_DELETION",
            )
        if reply.status != 404:
            self._repository.expect(reply, (202, 200, 204), where)

    def _accept_immutable(self, descriptor: Descriptor, tag: str, reply: Reply) -> None:
        """Return if tag names descriptor already. ECR with immutable tags refuses a PUT in this case too."""
        found = self.fetch_tag(tag)
        where = where_tag(self.name, tag)
        if found is None:
            raise self._repository.refusal(reply, where)
        if found.descriptor.digest != descriptor.digest:
            raise Conflict(
                "tag is immutable and names another manifest",
                where=where,
                expected=descriptor.digest,
                got=found.descriptor.digest,
                fix="this push overwrote nothing; another pack has this tag",
            )

    def _keep(self, digest: Digest, data: bytes) -> None:
        with self._lock:
            self._manifests[digest] = data
            while len(self._manifests) > KEPT_MANIFESTS:
                del self._manifests[next(iter(self._manifests))]


def open_registry(location: RegistryLocation, environ: Mapping[str, str], *, named_by: str = "") -> Registry:
    """Return the registry at location, with what environ says of credentials, proxies and certificate authorities.

    Where a password could be read on the way, none is looked for. named_by: see `open_target`.
    Raises: InvalidInput, when what environ names is malformed.
    """
    network = network_from(environ)
    if not location.origin.is_confidential:
        return Registry(location, network=network)
    login = find_login(location.host, environ, repository=location.repository, named_by=named_by)
    return Registry(location, credentials=login.credentials, advice=login.advice, network=network)


def _accept(descriptor: Descriptor) -> dict[str, str]:
    return {"Accept": descriptor.media_type} if is_manifest(descriptor.media_type) else {}


def _kind_of_body(reply: Reply, where: str) -> str:
    """The media type of a manifest: first from its own bytes, because the header is not hashed."""
    try:
        media_type = _decode_media_type(reply.body).media_type
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        media_type = ""
    media_type = media_type or reply.headers.get("Content-Type", "").partition(";")[0].strip()
    if not is_manifest(media_type):
        raise IntegrityError("not a manifest", where=where, got=media_type[:120] or "no media type", fix=CHECK_SETTING)
    return media_type


def _says_immutable(reply: Reply) -> bool:
    return reply.status in (409, 412) or (reply.status == 400 and "TAG_INVALID" in codes_of(reply))


def _without_referrers(reply: Reply) -> bool:
    """Whether reply says, as a 404 does, that the registry lists no referrers. Artifactory: 406; Google: a web page."""
    return reply.status in (400, 405, 406, 501) or is_page_for_people(reply)


def _tags_in(reply: Reply, where: str) -> list[str]:
    try:
        tags = _decode_tags(reply.body).tags or []
        for tag in tags:
            check_tag(tag)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput) as error:
        raise IntegrityError(
            f"not a list of tags: {error}", where=where, fix=CHECK_SETTING, code="E_PROTOCOL"
        ) from error
    return tags
