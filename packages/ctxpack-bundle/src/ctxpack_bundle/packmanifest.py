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
    parse_json,
    uri_for,
)
from ctxpack_identity.contract import MAX_CONTRACT_BYTES
from ctxpack_identity.contractview import output_names
from ctxpack_identity.digest import DIGEST_PATTERN
from ctxpack_identity.packpath import check_path
from ctxpack_identity.packtext import MAX_TEXT_BYTES

__all__ = [
    "FILES",
    "LISTING_PATTERN",
    "MAX_PACK_MANIFEST_BYTES",
    "Listing",
    "Outputs",
    "PackManifest",
    "Root",
    "check_root_name",
    "encode_pack_manifest",
    "parse_pack_manifest",
]

FILES = "files.jsonl"
MAX_PACK_MANIFEST_BYTES = 16 << 20  # the contract has at most 4 MiB, and provenance repeats at most parts of it
_SHOWN = 500  # characters of foreign text in a message

_INPUT, _INDEX = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", r"(0|[1-9][0-9]{0,5})"  # _INDEX: of a transform
LISTING_PATTERN = rf"\A((files|inputs/{_INPUT}|code/{_INDEX}|environment/{_INDEX})\.jsonl|environment/{_INDEX}\.txt)\Z"

_DigestField = Annotated[Digest, msgspec.Meta(pattern=DIGEST_PATTERN)]
_Count = Annotated[int, msgspec.Meta(ge=0)]  # above 2^53 - 1, parse_json returns floats


class Root(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One output. name: a path of one segment, that of the contract if it names its outputs; type: file or folder."""

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
    """The descriptor of a listing, or of the text of an environment. size: bytes.

    path: FILES; ``<root>.jsonl``, root being ``inputs/<name>``, ``code/<i>`` or ``environment/<i>``, and ``<i>`` the
    index of the transform; or ``environment/<i>.txt``, a text.
    """

    digest: _DigestField
    path: Annotated[str, msgspec.Meta(pattern=LISTING_PATTERN)]
    size: _Count

    @property
    def is_text(self) -> bool:
        return self.path.endswith(".txt")


class PackManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first member of a pack.

    contract: the canonical contract, as a value; of any schema. listings: in archive order, FILES first. provenance:
    who made the pack, when and how; unsigned, and never part of the identity.
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

    @property
    def digest(self) -> Digest:
        """The digest of manifest.json. Raises: as encode_pack_manifest does."""
        return digest_of(encode_pack_manifest(self))


# So that convert knows the type: two threads that are the first to convert to one crash msgspec 0.22.
msgspec.json.Decoder(PackManifest)


def encode_pack_manifest(manifest: PackManifest) -> bytes:
    """Return the canonical JSON of manifest.

    Raises: InvalidInput when it would be larger than readers accept, or provenance holds a value that JSON lacks.
    """
    data = canonical_json(msgspec.to_builtins(manifest), where="manifest.json")
    if len(data) > MAX_PACK_MANIFEST_BYTES:
        raise InvalidInput(
            "manifest is too large",
            where="manifest.json",
            expected=f"at most {MAX_PACK_MANIFEST_BYTES} bytes",
            got=str(len(data)),
            fix="shorten what it says of the command and the labels",
            code="E_TOO_LARGE",
        )
    return data


def parse_pack_manifest(data: bytes, *, where: str = "manifest.json") -> PackManifest:
    """Return the manifest that data, canonical JSON, holds. Its contract may have any schema: resolving judges it.

    Raises: IntegrityError unless data is canonical, follows the schema, holds a contract whose digest is its URI,
    lists FILES first and the others sorted by path, and names its roots in order, as the contract does if it names any.
    """
    if len(data) > MAX_PACK_MANIFEST_BYTES:
        raise _refused("manifest is too large", where, f"at most {MAX_PACK_MANIFEST_BYTES} bytes", str(len(data)))
    try:
        value = parse_json(data, where=where)
        if canonical_json(value, where=where) != data:
            raise _refused("not canonical JSON (RFC 8785)", where)
        manifest = msgspec.convert(value, PackManifest)
        _check_roots(manifest.outputs.roots)
    except (InvalidInput, msgspec.ValidationError) as error:
        raise _refused(f"malformed: {str(error)[:_SHOWN]}", where) from error
    _check_contract(manifest, where)
    _check_listings(manifest.listings, where)
    return manifest


def check_root_name(name: str) -> None:
    """Raise InvalidInput unless an output may have this name: one segment of a path."""
    check_path(name)
    if "/" in name:
        raise InvalidInput("name of an output holds a slash", where=repr(name), fix="name it without", code="E_PATH")


def _refused(what: str, where: str, expected: str = "", got: str = "") -> IntegrityError:
    fix = "the pack is damaged, or needs a newer ctxpack"
    return IntegrityError(what, where=where, expected=expected[:_SHOWN], got=got[:_SHOWN], fix=fix)


def _check_roots(roots: tuple[Root, ...]) -> None:
    """Raise InvalidInput for a name that is not one segment, or does not come after the name before it."""
    for root in roots:
        check_root_name(root.name)
    for one, other in pairwise(roots):
        if one.name >= other.name:
            raise InvalidInput("outputs are not in order", where=repr(other.name), got=f"after {one.name!r}")


def _check_contract(manifest: PackManifest, where: str) -> None:
    contract = manifest.contract_bytes
    named = uri_for(digest_of(contract))
    if manifest.uri != named:
        raise _refused("contract is not the URI's", where, manifest.uri, named)
    if len(contract) > MAX_CONTRACT_BYTES:
        raise _refused("contract is too large", where, f"at most {MAX_CONTRACT_BYTES} bytes", str(len(contract)))
    if not isinstance(manifest.contract.get("schema"), str):
        raise _refused("contract has no schema", where, "a text")
    declared, names = output_names(manifest.contract), [root.name for root in manifest.outputs.roots]
    if declared and declared != names:
        raise _refused("outputs are not those that the contract names", where, str(declared), str(names))


def _check_listings(listings: tuple[Listing, ...], where: str) -> None:
    paths = [listing.path for listing in listings]
    if paths != [FILES, *sorted(set(paths) - {FILES})]:
        raise _refused("listings are not in order", where, f"{FILES}, then the others by path", str(paths))
    for listing in listings:
        if listing.is_text and listing.size > MAX_TEXT_BYTES:
            where = f"{where}, {listing.path}"
            raise _refused("text is too long", where, f"at most {MAX_TEXT_BYTES} bytes", str(listing.size))
