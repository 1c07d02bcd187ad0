"""What a user can do about a damaged pack: the last part of an error message, by where the pack is."""

from __future__ import annotations

from typing import Final

__all__ = ["EITHER", "IN_CACHE", "IN_REGISTRY"]

IN_CACHE: Final = "pull it anew, or make it again"
IN_REGISTRY: Final = (
    "pull again; if the error stays, the pack in the registry is damaged: `ctxpack push --repair URI` heals it from a "
    "cache that has the pack"
)
EITHER: Final = "pull it anew; if the error stays, make it again"
