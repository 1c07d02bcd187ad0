"""Claimed: what a claim says of a pack, compared with its pack manifest; and the sources that this names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ctxpack_bundle import PackManifest
from ctxpack_identity import Digest
from ctxpack_trust import Claim, Source

__all__ = ["Contradiction", "contradiction", "says", "source_uris", "sources_of", "unsigned_sources"]


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
    return tuple(_sources(manifest))


def source_uris(manifest: PackManifest) -> dict[str, str]:
    """Return the URIs of the packs that items were taken from, and of each its image manifest; "" if that is not named.

    Of a URI that is named twice, it is "" if it is so once.
    """
    found: dict[str, str] = {}
    for item in _items(manifest):
        uri, image = item.get("uri"), item.get("image")
        if isinstance(uri, str):
            found[uri] = image if isinstance(image, str) and found.get(uri, image) else ""
    return found


def unsigned_sources(manifest: PackManifest) -> list[str]:
    """Return the URIs of the packs that items were taken from although they were neither one's own nor signed."""
    return [str(item.get("uri")) for item in _items(manifest) if not item.get("admitted_by")]


def _items(manifest: PackManifest) -> Iterator[dict[str, Any]]:
    items = manifest.provenance.get("items")
    yield from (item for item in (items if isinstance(items, list | tuple) else ()) if isinstance(item, dict))


def _sources(manifest: PackManifest) -> Iterator[Source]:
    for item in _items(manifest):
        image, by = item.get("image"), item.get("admitted_by")
        if isinstance(image, str):
            keys = by if isinstance(by, list | tuple) else ()
            yield Source(Digest(image), tuple(one for one in keys if isinstance(one, str)))
