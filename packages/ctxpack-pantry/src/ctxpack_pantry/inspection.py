"""Inspect: what made a pack and what it holds, without fetching its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ctxpack_bundle import PackManifest
from ctxpack_identity import CtxUri, Digest
from ctxpack_pantry.context import Context
from ctxpack_pantry.outlet import Outlet, manifest_of, require_intact
from ctxpack_pantry.results import Inspected
from ctxpack_pantry.weakpoints import WeakPoint, in_contract, limited

__all__ = ["inspect", "outputs_digest_of"]

_LONGEST = 1000  # characters of a weak point that somebody else noted


def inspect(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> Inspected:
    """Return what made a pack and what it holds; from the registry only its first layer is fetched.

    Raises: NotFound, IntegrityError, PolicyRefused, AccessDenied, Unavailable.
    """
    outlet = Outlet(context, uri)
    cached = None if skip_cache else outlet.cached(partial(_intact, context, uri))
    if cached is not None:
        (manifest, found_in), located = cached, None
    else:
        from ctxpack_pantry.lookup import open_pack  # HTTP is loaded only when the registry is asked

        located, manifest, _ = open_pack(context.target, outlet.located())
        found_in = context.target.name
    return Inspected(manifest, found_in, located, limited(_weak_points(manifest)))


def _intact(context: Context, uri: CtxUri, folder: str) -> tuple[PackManifest, str]:
    require_intact(context, uri, folder)
    return manifest_of(uri, folder), folder


def outputs_digest_of(context: Context, uri: CtxUri) -> Digest:
    """Return the tree digest of a pack's outputs, without fetching them. Raises: as inspect does."""
    return inspect(context, uri).manifest.outputs_digest


def _weak_points(manifest: PackManifest) -> Iterator[WeakPoint]:
    """Yield the weak points that the contract shows, and those that the maker of the pack was told of."""
    yield from in_contract(manifest.contract)
    told = manifest.provenance.get("weak")
    for point in told if isinstance(told, list | tuple) else ():
        code, what = (point.get("code"), point.get("what")) if isinstance(point, dict) else (None, None)
        if isinstance(code, str) and isinstance(what, str):
            yield WeakPoint(code[:_LONGEST], what[:_LONGEST])
