"""Claimed: what a claim says of a pack, compared with its pack manifest; and the sources that this names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ctxpack_bundle import PackManifest
from ctxpack_identity import Digest
from ctxpack_trust import Claim, Source

__all__ = ["Contradiction", "contradiction", "says", "sources_of", "unsigned_sources"]


class Contradiction(NamedTuple):
    """What a claim and a pack manifest do not agree on: outputs, roots or manifest.json. said: by the claim."""

    what: str
    said: str
    held: str


def contradiction(claim: Claim, manifest: PackManifest) -> Contradiction | None:
    """Return what a claim says otherwise than the pack manifest; None when it is a claim about this pack."""
    outputs = manifest.outputs
    said = (claim.outputs, [(root.name, root.type) for root in claim.roots], claim.pack)
    held = (outputs.digest, [(root.name, root.type) for root in outputs.roots], manifest.digest)
    for what, one, other in zip(("outputs", "roots", "manifest.json"), said, held, strict=True):
        if one != other:
            return Contradiction(what, str(one), str(other))
    return None


def says(claim: Claim, manifest: PackManifest) -> bool:
    """Return whether a claim is about the pack of manifest."""
    return contradiction(claim, manifest) is None


def sources_of(manifest: PackManifest) -> tuple[Source, ...]:
    """Return what a pack manifest says of the packs that items were taken from: unsigned, and anything may be there."""
    return tuple(_sources(manifest.provenance.get("items")))


def unsigned_sources(manifest: PackManifest) -> list[str]:
    """Return the URIs of the packs that items were taken from although they were neither one's own nor signed."""
    items = manifest.provenance.get("items")
    found = items if isinstance(items, list | tuple) else ()
    return [str(item.get("uri")) for item in found if isinstance(item, dict) and not item.get("admitted_by")]


def _sources(items: object) -> Iterator[Source]:
    for item in items if isinstance(items, list | tuple) else ():
        image, by = (item.get("image"), item.get("admitted_by")) if isinstance(item, dict) else (None, None)
        if isinstance(image, str):
            keys = by if isinstance(by, list | tuple) else ()
            yield Source(Digest(image), tuple(one for one in keys if isinstance(one, str)))
