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
    from ctxpack_pantry.pantry import Pantry
    from ctxpack_pantry.policy import Candidate, Policy
    from ctxpack_pantry.results import (
        Exported,
        Identified,
        Initialised,
        Inspected,
        Listed,
        Pulled,
        Pushed,
        Ran,
        Removed,
        Replaced,
        Seeded,
        StoredPack,
        Verified,
        VerifiedPack,
        error_as_json,
    )
    from ctxpack_pantry.schemafiles import Schemas, list_schemas, schema, schema_names
    from ctxpack_pantry.settings import Settings, load_settings
    from ctxpack_pantry.starter import init
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "context": "Context",
            "contractfile": "LoadedContractFile load_contract_file",
            "pantry": "Pantry",
            "policy": "Candidate Policy",
            "results": (
                "Exported Identified Initialised Inspected Listed Pulled Pushed Ran Removed Replaced Seeded StoredPack "
                "Verified VerifiedPack error_as_json"
            ),
            "schemafiles": "Schemas list_schemas schema schema_names",
            "settings": "Settings load_settings",
            "starter": "init",
        },
    )

__all__ = [
    "AccessDenied",
    "Candidate",
    "Conflict",
    "Context",
    "CtxPackError",
    "CtxUri",
    "Exported",
    "Identified",
    "Initialised",
    "Inspected",
    "IntegrityError",
    "InvalidInput",
    "Listed",
    "LoadedContractFile",
    "LocalFailure",
    "NotFound",
    "Pantry",
    "Policy",
    "PolicyRefused",
    "Progress",
    "Pulled",
    "Pushed",
    "Ran",
    "Removed",
    "Replaced",
    "Schemas",
    "Seeded",
    "Settings",
    "StoredPack",
    "Unavailable",
    "Verified",
    "VerifiedPack",
    "error_as_json",
    "init",
    "list_schemas",
    "load_contract_file",
    "load_settings",
    "parse_uri",
    "printable",
    "schema",
    "schema_names",
    "transforms",
]
