"""A published pack and its size.

Every cache hit loads this module, so it does not load typing.
"""

from __future__ import annotations

from ctxpack_identity.digest import Digest
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["CachedPack", "Size"]


class CachedPack(NamedTuple):
    """A published pack. key: the digest of its contract; path: its folder.

    published, used: when it was published, and last handed out, which is not before; seconds since the epoch.
    """

    key: Digest
    path: str
    published: float
    used: float


class Size(NamedTuple):
    """The bytes and the number of a pack's files; folders and disk blocks do not count."""

    bytes: int
    files: int
