"""Canonical order, in which listings are written and folders are walked: depth first, names by their bytes."""

from __future__ import annotations

__all__ = ["comes_first"]


def comes_first(path: str, other: str) -> bool:
    """Return whether path is the one that is more, of two that differ at the same place of two walks.

    The path of an empty folder ends in ``/``; what another walk found in it comes first, since that is what is more.

    >>> comes_first("a/b", "a-"), comes_first("a/", "a/b"), comes_first("a/b", "a/")
    (True, False, True)
    """
    if path.endswith("/") and other.startswith(path):
        return False
    if other.endswith("/") and path.startswith(other):
        return True
    return path.removesuffix("/").split("/") < other.removesuffix("/").split("/")
