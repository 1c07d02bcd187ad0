"""The Python API of CtxPack: resolve, seed, push, pull, inspect, run. Pantry is the entry point."""

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
from ctxpack_pantry.pantry import Pantry, Stored
from ctxpack_pantry.settings import Settings, load_settings

__all__ = [
    "AccessDenied",
    "Conflict",
    "CtxPackError",
    "CtxUri",
    "IntegrityError",
    "InvalidInput",
    "LocalFailure",
    "NotFound",
    "Pantry",
    "PolicyRefused",
    "Progress",
    "Settings",
    "Stored",
    "Unavailable",
    "load_settings",
    "parse_uri",
    "printable",
]
