"""What the cache says about a pack it holds.

Tuples and not msgspec structs: this module is on the start-up path of the command line.
"""

from __future__ import annotations

from ctxpack_identity.digest import Digest
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["CachedPack", "Size"]


class CachedPack(NamedTuple):
    """One published pack. published: seconds since the epoch."""

    key: Digest
    path: str
    published: float


class Size(NamedTuple):
    """What a pack's files add up to; folders and disk blocks are not counted."""

    bytes: int
    files: int
