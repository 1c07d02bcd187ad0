"""Which manifests name another one as their `subject` (OCI distribution-spec, "Listing Referrers").

A registry without that interface keeps them in an index under a tag ("Referrers Tag Schema"), which clients write. Both
lists come from strangers: an entry is a candidate, and only the manifest that it names says what it is.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

import msgspec

from ctxpack_identity.digest import Digest, hex_of, parse_digest
from ctxpack_identity.errors import IntegrityError, InvalidInput
from ctxpack_oci.descriptor import Descriptor
from ctxpack_oci.imagemanifest import INDEX_MEDIA_TYPE, MAX_IMAGE_MANIFEST_BYTES, is_manifest, parse_image_manifest

__all__ = [
    "MAX_REFERRERS",
    "at_most",
    "candidates_in",
    "fallback_tag",
    "names_subject",
    "parse_referrer",
    "where_referrers",
    "with_referrer",
]

MAX_REFERRERS = 64  # of one manifest that are handed out: a flood must not become as many requests
_MAX_ENTRIES = 1000  # of a list, that are read or written again

_FLOOD = "delete those that nobody needs in the registry's own interface, or ask its operator who made them"
_REWRITE = "delete the tag in the registry's own interface; then the next push begins it anew"


class _Entry(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None


class _Index(msgspec.Struct, rename="camel"):
    manifests: list[_Entry] | None  # registries written in Go say null for an empty list
    media_type: str = ""


class _Subject(msgspec.Struct):
    digest: str = ""


class _Referrer(msgspec.Struct):
    subject: _Subject | None = None


_decode_index = msgspec.json.Decoder(_Index).decode  # see imagemanifest
_decode_referrer = msgspec.json.Decoder(_Referrer).decode
_NO_REFERRERS = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % INDEX_MEDIA_TYPE.encode()
_decode_members = msgspec.json.Decoder(dict[str, Any]).decode


def fallback_tag(subject: Digest) -> str:
    """Return the tag of the index of subject's referrers, for a registry that does not list them itself.

    >>> fallback_tag(Digest("sha256:" + "0f" * 32))[:15]
    'sha256-0f0f0f0f'
    """
    return f"sha256-{hex_of(subject)}"


def where_referrers(target: str, subject: Digest) -> str:
    """Return the name of a list of referrers in messages. target: the name of the target."""
    return f"referrers of {parse_digest(subject)[:19]} in {target}"


def candidates_in(index: bytes, *, media_type: str, where: str) -> Iterator[Descriptor]:
    """Yield what an index lists and may be read: manifests that a SHA-256 names, of at most MAX_IMAGE_MANIFEST_BYTES.

    media_type: what the registry says that index is; its own member counts first. `data` of an entry is dropped.
    Raises: IntegrityError (E_REFERRERS), unless index is an OCI image index.
    """
    try:
        listed = _decode_index(index)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(
            f"not a list of referrers: {error}", where=where, fix=_REWRITE, code="E_REFERRERS"
        ) from error
    kind = listed.media_type or media_type.partition(";")[0].strip()
    if kind != INDEX_MEDIA_TYPE:
        raise IntegrityError(
            "not a list of referrers",
            where=where,
            expected=INDEX_MEDIA_TYPE,
            got=kind[:120] or "no media type",
            fix=_REWRITE,
            code="E_REFERRERS",
        )
    for entry in listed.manifests or ():
        if is_manifest(entry.media_type) and 0 <= entry.size <= MAX_IMAGE_MANIFEST_BYTES and _is_digest(entry.digest):
            yield Descriptor(
                media_type=entry.media_type,
                digest=parse_digest(entry.digest),
                size=entry.size,
                annotations=entry.annotations or {},
                artifact_type=entry.artifact_type or "",
            )


def at_most(found: Iterable[Descriptor], artifact_type: str) -> list[Descriptor] | None:
    """Return found, each manifest once, or None when there are more than MAX_REFERRERS.

    Those that the list says have another type than artifact_type are left out before it is too long. "": no type is
    another one. The list is not read to its end when it is very long.
    """
    each: dict[Digest, Descriptor] = {}
    for descriptor in found:
        each.setdefault(descriptor.digest, descriptor)
        if len(each) > _MAX_ENTRIES:
            return None
    if len(each) > MAX_REFERRERS and artifact_type:
        each = {digest: one for digest, one in each.items() if one.artifact_type in ("", artifact_type)}
    return None if len(each) > MAX_REFERRERS else list(each.values())


def names_subject(manifest: bytes, subject: Digest) -> bool:
    """Whether manifest, of any kind, names subject as its subject. False for what is no JSON object."""
    if hex_of(subject).encode() not in manifest:  # parsing every manifest of a large layout would take long
        return False
    try:
        found = _decode_referrer(manifest).subject
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return found is not None and found.digest == subject


def parse_referrer(descriptor: Descriptor, data: bytes, *, where: str) -> tuple[Digest, Descriptor]:
    """Return the subject of the image manifest in data, and its entry in a list of referrers.

    Raises: IntegrityError, unless data is what descriptor names, an image manifest with a subject.
    Source: distribution-spec, "Pushing Manifests with Subject", step 5.
    """
    manifest = parse_image_manifest(data, descriptor, where=where)
    if manifest.subject is None:
        raise IntegrityError("missing member", where=f"{where} subject", code="E_MANIFEST")
    entry = Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=manifest.annotations,
        artifact_type=manifest.artifact_type or manifest.config.media_type,
    )
    return manifest.subject.digest, entry


def with_referrer(index: bytes | None, entry: Descriptor, *, dead: Container[Digest] = (), where: str) -> bytes:
    """Return the index with entry appended and without the entries in dead; what else other tools wrote is kept.

    index: what `candidates_in` takes; None: there is none yet.
    Raises: IntegrityError (E_REFERRERS), when it has too many entries.
    """
    members = _decode_members(index or _NO_REFERRERS)
    kept = [other for other in members.get("manifests") or () if other["digest"] not in dead]
    if len(kept) >= _MAX_ENTRIES:
        raise IntegrityError(
            "too many referrers",
            where=where,
            expected=f"at most {_MAX_ENTRIES}",
            got=str(len(kept)),
            fix=_FLOOD,
            code="E_REFERRERS",
        )
    members["manifests"] = [*kept, msgspec.to_builtins(entry)]
    return msgspec.json.encode(members)


def _is_digest(text: str) -> bool:
    try:
        parse_digest(text)
    except InvalidInput:
        return False
    return True
