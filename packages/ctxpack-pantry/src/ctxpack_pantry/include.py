"""Select outputs of a pack by patterns in gitignore syntax. Each pattern adds files or removes some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from ctxpack_identity.exclude import compile_patterns

__all__ = ["included"]


def included(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that says whether patterns select a path. The path of an empty folder ends in ``/``.

    The last pattern that matches the path or a folder above it decides; a pattern with ``!`` removes.

    >>> wanted = included(["docs/", "!*.tmp"])
    >>> wanted("docs/a"), wanted("docs/deep/b"), wanted("docs/c.tmp"), wanted("d")
    (True, True, False, False)
    """
    verdicts = [compile_patterns([pattern]) for pattern in patterns]

    def last(path: str, is_folder: bool) -> tuple[int, bool]:
        """Return the number of the last pattern that matches path itself, and whether it adds."""
        for number in reversed(range(len(verdicts))):
            verdict = verdicts[number](path, is_folder)
            if verdict is not None:
                return number, verdict
        return -1, False

    @lru_cache(maxsize=256)  # neighbours in a listing have the same folders
    def last_above(folder: str) -> tuple[int, bool]:
        found = (-1, False)
        while folder:
            found = max(found, last(folder, True))
            folder = folder.rpartition("/")[0]
        return found

    def wanted(path: str) -> bool:
        name = path.removesuffix("/")
        _, adds = max(last(name, name != path), last_above(name.rpartition("/")[0]))
        return adds

    return wanted
