"""Failures of the disk that holds the cache, with the fix that the cache can be moved."""

from __future__ import annotations

from ctxpack_identity import disk
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_identity.errors import LocalFailure

__all__ = ["ELSEWHERE", "local_failure", "translated"]

ELSEWHERE = "move the cache (CTXPACK_CACHE)"


def local_failure(error: OSError, what: str, where: str) -> LocalFailure:
    """Return error as a LocalFailure. what, where: see disk.local_failure."""
    return disk.local_failure(error, what, where, elsewhere=ELSEWHERE)


def translated(what: str, where: str) -> disk.translated:
    """Return a context that turns an OSError into what local_failure returns."""
    return disk.translated(what, where, elsewhere=ELSEWHERE)
