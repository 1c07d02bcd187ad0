"""What `identify` returns: a contract and its URI, and what was hashed for it."""

from __future__ import annotations

from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_identity.uri import CtxUri

if TYPE_CHECKING:
    from ctxpack_identity import HashedRoot, ResolvedInput
    from ctxpack_pantry.looks import Looks
    from ctxpack_pantry.weakpoints import WeakPoint

__all__ = ["Identified"]


class Identified(NamedTuple):
    """A contract and its URI. canonical: the bytes whose SHA-256 is the URI; contract: their value. weak: weak points.

    listings, texts: names of the listings, and texts by name, that a pack holds of what was hashed. hashed: all files
    and folders that were; looks: what they looked like.
    """

    uri: CtxUri
    canonical: bytes
    contract: dict[str, Any]
    inputs: tuple[ResolvedInput, ...]
    weak: tuple[WeakPoint, ...]
    listings: frozenset[str]
    texts: dict[str, bytes]
    hashed: tuple[HashedRoot, ...]
    looks: Looks

    def as_json(self) -> dict[str, Any]:
        import json  # only this needs it

        return {
            "schema": "ctxpack/id/v1",
            "uri": self.uri,
            "contract": json.loads(self.canonical),
            "weak": [point._asdict() for point in self.weak],
        }
