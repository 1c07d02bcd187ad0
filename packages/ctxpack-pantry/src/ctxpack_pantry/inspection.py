"""Inspect: what made a pack and what it holds, without fetching its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import CtxUri, Digest
from ctxpack_identity.contract import OPAQUE, UNDECLARED
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.results import Inspected

__all__ = ["inspect", "outputs_digest_of"]


def inspect(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> Inspected:
    """Return what made a pack and what it holds; from the registry only its first layer is fetched.

    Raises: NotFound, IntegrityError, PolicyRefused, AccessDenied, Unavailable.
    """
    folder = None if skip_cache else find_cached(context, uri)
    if folder is not None:
        manifest, found_in, located = read_pack_manifest(folder), folder, None
    else:
        from ctxpack_pantry.lookup import open_pack, require_found  # HTTP is loaded only when the registry is asked

        located, manifest, _ = open_pack(context.target, require_found(context, uri))
        found_in = context.target.name
    return Inspected(manifest, found_in, located, tuple(_weaknesses(manifest.contract)))


def outputs_digest_of(context: Context, uri: CtxUri) -> Digest:
    """Return the tree digest of a pack's outputs, without fetching them. Raises: as inspect does."""
    return inspect(context, uri).manifest.outputs_digest


def _weaknesses(contract: dict[str, Any]) -> Iterator[str]:
    for index, transform in enumerate(contract["transforms"]):
        tool = f"transform {index} ({transform['tool']})"
        if transform["code_hash"] == OPAQUE:
            yield f"{tool}: code is opaque, so a change of it goes unnoticed"
        if transform["environment_hash"] == UNDECLARED:
            yield f"{tool}: no environment declared, so a library upgrade goes unnoticed"
