"""How bytes become a name: canonical JSON, tree digests, contracts and ``ctx://`` URIs. SPEC.md is normative."""

from __future__ import annotations

from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_identity.canonical import canonical_json, parse_json
    from ctxpack_identity.contract import canonical_contract, parse_canonical_contract
    from ctxpack_identity.contractfile import ContractFile, parse_contract_file, with_command
    from ctxpack_identity.digest import Digest, digest_from_hex, digest_of, hex_of, parse_digest
    from ctxpack_identity.errors import (
        AccessDenied,
        Conflict,
        CtxPackError,
        IntegrityError,
        InvalidInput,
        LocalFailure,
        NotFound,
        PolicyRefused,
        Unavailable,
        printable,
    )
    from ctxpack_identity.faults import ContractInvalid
    from ctxpack_identity.hashing.deephash import DEFAULT_HASHING, Hashing, KnownDigests, hash_tree
    from ctxpack_identity.hashing.resolve import Resolution, ResolvedInput, resolve
    from ctxpack_identity.hashing.roots import HashedRoot
    from ctxpack_identity.progress import Progress, silent
    from ctxpack_identity.tree import FolderDigest, Tree, TreeEntry, tree_digest
    from ctxpack_identity.uri import CtxUri, parse_uri, uri_digest, uri_for
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "canonical": "canonical_json parse_json",
            "contract": "canonical_contract parse_canonical_contract",
            "contractfile": "ContractFile parse_contract_file with_command",
            "digest": "Digest digest_from_hex digest_of hex_of parse_digest",
            "errors": (
                "AccessDenied Conflict CtxPackError IntegrityError InvalidInput LocalFailure NotFound PolicyRefused "
                "Unavailable printable"
            ),
            "faults": "ContractInvalid",
            "hashing.deephash": "DEFAULT_HASHING Hashing KnownDigests hash_tree",
            "hashing.resolve": "Resolution ResolvedInput resolve",
            "hashing.roots": "HashedRoot",
            "progress": "Progress silent",
            "tree": "FolderDigest Tree TreeEntry tree_digest",
            "uri": "CtxUri parse_uri uri_digest uri_for",
        },
    )

__all__ = [
    "DEFAULT_HASHING",
    "AccessDenied",
    "Conflict",
    "ContractFile",
    "ContractInvalid",
    "CtxPackError",
    "CtxUri",
    "Digest",
    "FolderDigest",
    "HashedRoot",
    "Hashing",
    "IntegrityError",
    "InvalidInput",
    "KnownDigests",
    "LocalFailure",
    "NotFound",
    "PolicyRefused",
    "Progress",
    "Resolution",
    "ResolvedInput",
    "Tree",
    "TreeEntry",
    "Unavailable",
    "canonical_contract",
    "canonical_json",
    "digest_from_hex",
    "digest_of",
    "hash_tree",
    "hex_of",
    "parse_canonical_contract",
    "parse_contract_file",
    "parse_digest",
    "parse_json",
    "parse_uri",
    "printable",
    "resolve",
    "silent",
    "tree_digest",
    "uri_digest",
    "uri_for",
    "with_command",
]
