"""``manifest.json``: what a pack is, what made it and what it holds. FORMAT.md, "Manifest"."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec

from ctxpack_identity import (
    CtxUri,
    Digest,
    IntegrityError,
    InvalidInput,
    canonical_json,
    digest_of,
    parse_canonical_contract,
    parse_json,
    uri_for,
)
from ctxpack_identity.contract import MAX_CONTRACT_BYTES
from ctxpack_identity.digest import DIGEST_PATTERN
from ctxpack_identity.packpath import check_path

__all__ = [
    "FILES",
    "MAX_PACK_MANIFEST_BYTES",
    "Listing",
    "Outputs",
    "PackManifest",
    "Root",
    "encode_pack_manifest",
    "parse_pack_manifest",
]

FILES = "files.jsonl"
MAX_PACK_MANIFEST_BYTES = 16 << 20  # the contract has at most 4 MiB, and provenance repeats at most parts of it
_SHOWN = 500  # characters of foreign text in a message

_DigestField = Annotated[Digest, msgspec.Meta(pattern=DIGEST_PATTERN)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Root(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One output as it was given to seed. name: its base name, a path of one segment; type: what it was on disk."""

    name: str
    type: Literal["file", "folder"]


class Outputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is below ``artifacts/``. digest: tree digest; size: bytes of all files.

    roots: sorted by name; `nested` says where each lies.
    """

    digest: _DigestField
    empty_folders: _Count
    files: _Count
    roots: tuple[Root, ...]
    size: _Count

    @property
    def nested(self) -> bool:
        """Whether each root lies in ``artifacts/`` by its name; a single folder's content lies there directly."""
        return [root.type for root in self.roots] != ["folder"]


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A listing's descriptor. path: FILES, or ``inputs/<name>.jsonl``; size: bytes."""

    digest: _DigestField
    path: Annotated[str, msgspec.Meta(pattern=r"\A(files|inputs/[A-Za-z0-9_][A-Za-z0-9._-]{0,127})\.jsonl\Z")]
    size: _Count


class PackManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first member of a pack.

    contract: the canonical contract, as a value. listings: in archive order, FILES first. provenance: who made the
    pack, when and how; unsigned, and never part of the identity.
    """

    contract: dict[str, Any]
    listings: tuple[Listing, ...]
    outputs: Outputs
    provenance: dict[str, Any]
    schema: Literal["ctxpack/pack/v1"]
    uri: CtxUri

    @property
    def contract_bytes(self) -> bytes:
        """The canonical contract; its SHA-256 is the URI."""
        return canonical_json(self.contract, where="contract")

    @property
    def outputs_digest(self) -> Digest:
        return self.outputs.digest


def encode_pack_manifest(manifest: PackManifest) -> bytes:
    """Return the canonical JSON of manifest. Raises: InvalidInput when provenance holds a value that JSON lacks."""
    return canonical_json(msgspec.to_builtins(manifest), where="manifest.json")


def parse_pack_manifest(data: bytes, *, where: str = "manifest.json") -> PackManifest:
    """Return the manifest that data, canonical JSON, holds.

    Raises: IntegrityError unless data is canonical, follows the schema, holds a contract whose digest is its URI,
    lists FILES first and the inputs sorted by path, and names its roots in order.
    """
    if len(data) > MAX_PACK_MANIFEST_BYTES:
        raise _refused("manifest is too large", where, f"at most {MAX_PACK_MANIFEST_BYTES} bytes", str(len(data)))
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_CONTRACT_BYTES:
        raise _refused("manifest holds too many values", where)  # in memory, a few MiB of JSON can become a GiB
    try:
        value = parse_json(data, where=where)
        if canonical_json(value, where=where) != data:
            raise _refused("not canonical JSON (RFC 8785)", where)
        manifest = msgspec.convert(value, PackManifest)
        parse_canonical_contract(manifest.contract_bytes, where=f"{where}, /contract")
        _check_roots(manifest.outputs.roots)
    except (InvalidInput, msgspec.ValidationError) as error:
        raise _refused(f"malformed: {str(error)[:_SHOWN]}", where) from error
    named = uri_for(digest_of(manifest.contract_bytes))
    if manifest.uri != named:
        raise _refused("contract is not the URI's", where, manifest.uri, named)
    paths = [listing.path for listing in manifest.listings]
    if paths != [FILES, *sorted(set(paths) - {FILES})]:
        raise _refused("listings are not in order", where, f"{FILES}, then inputs", str(paths)[:_SHOWN])
    return manifest


def _refused(what: str, where: str, expected: str = "", got: str = "") -> IntegrityError:
    fix = "the pack is damaged, or needs a newer ctxpack"
    return IntegrityError(what, where=where, expected=expected, got=got, fix=fix)


def _check_roots(roots: tuple[Root, ...]) -> None:
    """Raise InvalidInput for a name that is not one segment, or does not come after the name before it."""
    for root in roots:
        check_path(root.name)
        if "/" in root.name:
            raise InvalidInput("name of an output holds a slash", where=repr(root.name))
    for one, other in pairwise(roots):
        if one.name >= other.name:
            raise InvalidInput("outputs are not in order", where=repr(other.name), got=f"after {one.name!r}")
