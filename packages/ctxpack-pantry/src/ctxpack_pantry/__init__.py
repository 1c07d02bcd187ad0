"""The Python API of CtxPack: resolve, seed, push, pull, inspect, run. Pantry is the entry point."""

from __future__ import annotations

from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxPackError,
    CtxUri,
    IntegrityError,
    InvalidInput,
    LocalFailure,
    NotFound,
    PolicyRefused,
    Progress,
    Unavailable,
    parse_uri,
    printable,
)
from ctxpack_identity.contractview import transforms
from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.contractfile import LoadedContractFile, load_contract_file
    from ctxpack_pantry.difference import Explained
    from ctxpack_pantry.inspection import FileList
    from ctxpack_pantry.lineage import Lineage
    from ctxpack_pantry.memoized import memo
    from ctxpack_pantry.pantry import Pantry
    from ctxpack_pantry.policy import Candidate, Policy
    from ctxpack_pantry.rebuilding import Rebuilt
    from ctxpack_pantry.referencekind import Reference, parse_reference
    from ctxpack_pantry.results import (
        Exported,
        FailedItem,
        Identified,
        Initialised,
        Inspected,
        Listed,
        Mapped,
        NamedBefore,
        Pulled,
        Pushed,
        Ran,
        Removed,
        Replaced,
        Seeded,
        Signed,
        SignedAll,
        StoredPack,
        Tagged,
        Unsigned,
        Verified,
        VerifiedPack,
        error_as_json,
    )
    from ctxpack_pantry.schemafiles import Schemas, list_schemas, schema, schema_names
    from ctxpack_pantry.settings import Settings, load_settings
    from ctxpack_pantry.signer import Keygen, keygen, open_signer
    from ctxpack_pantry.starter import init
    from ctxpack_pantry.trustresults import Denied, ShownKey, Trusted
    from ctxpack_pantry.verdict import Verdict
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "context": "Context",
            "contractfile": "LoadedContractFile load_contract_file",
            "inspection": "FileList",
            "lineage": "Lineage",
            "memoized": "memo",
            "difference": "Explained",
            "pantry": "Pantry",
            "policy": "Candidate Policy",
            "rebuilding": "Rebuilt",
            "results": (
                "Exported FailedItem Identified Initialised Inspected Listed Mapped "
                "NamedBefore Pulled Pushed Ran Removed Replaced Seeded Signed SignedAll "
                "StoredPack Tagged Unsigned Verified VerifiedPack error_as_json"
            ),
            "referencekind": "Reference parse_reference",
            "schemafiles": "Schemas list_schemas schema schema_names",
            "settings": "Settings load_settings",
            "signer": "Keygen keygen open_signer",
            "starter": "init",
            "trustresults": "Denied ShownKey Trusted",
            "verdict": "Verdict",
        },
    )

__all__ = [
    "AccessDenied",
    "Candidate",
    "Conflict",
    "Context",
    "CtxPackError",
    "CtxUri",
    "Denied",
    "Explained",
    "Exported",
    "FailedItem",
    "FileList",
    "Identified",
    "Initialised",
    "Inspected",
    "IntegrityError",
    "InvalidInput",
    "Keygen",
    "Lineage",
    "Listed",
    "LoadedContractFile",
    "LocalFailure",
    "Mapped",
    "NamedBefore",
    "NotFound",
    "Pantry",
    "Policy",
    "PolicyRefused",
    "Progress",
    "Pulled",
    "Pushed",
    "Ran",
    "Rebuilt",
    "Reference",
    "Removed",
    "Replaced",
    "Schemas",
    "Seeded",
    "Settings",
    "ShownKey",
    "Signed",
    "SignedAll",
    "StoredPack",
    "Tagged",
    "Trusted",
    "Unavailable",
    "Unsigned",
    "Verdict",
    "Verified",
    "VerifiedPack",
    "error_as_json",
    "init",
    "keygen",
    "list_schemas",
    "load_contract_file",
    "load_settings",
    "memo",
    "open_signer",
    "parse_reference",
    "parse_uri",
    "printable",
    "schema",
    "schema_names",
    "transforms",
]
