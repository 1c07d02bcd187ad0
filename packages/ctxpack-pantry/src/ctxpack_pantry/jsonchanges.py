"""What differs between two JSON values: the members and elements that were added, removed or changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ctxpack_identity.canonical import pointer

__all__ = ["ABSENT", "Change", "json_changes"]

ABSENT: Final[Any] = object()
"""In place of a value where there is none. (None is JSON's null.)"""


class Change(NamedTuple):
    """A value that differs. at: JSON pointer (RFC 6901); old, new: the value before and after, ABSENT if there is none.

    To make the old value the new one, apply changes in their order, but those that remove elements last one first.
    """

    at: str
    old: Any
    new: Any

    def as_json(self) -> dict[str, Any]:
        values = {"old": self.old, "new": self.new}
        return {"at": self.at, **{name: value for name, value in values.items() if value is not ABSENT}}


def json_changes(old: Any, new: Any, at: str = "") -> Iterator[Change]:
    """Yield each change, the deepest values that differ, sorted by name and index. Elements are compared by index.

    at: pointer of both values.

    >>> [change.as_json() for change in json_changes({"dpi": 300, "a": [1]}, {"dpi": 600, "a": [1, 2]}, "/params")]
    [{'at': '/params/a/1', 'new': 2}, {'at': '/params/dpi', 'old': 300, 'new': 600}]
    """
    waiting = [(at, old, new)]
    while waiting:
        at, old, new = waiting.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            for name in sorted(old.keys() | new.keys(), reverse=True):
                waiting.append((pointer(at, name), old.get(name, ABSENT), new.get(name, ABSENT)))
        elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
            for index in range(max(len(old), len(new)) - 1, -1, -1):
                waiting.append((pointer(at, index), _element(old, index), _element(new, index)))
        elif not _same(old, new):
            yield Change(at, old, new)


def _element(items: list[Any] | tuple[Any, ...], index: int) -> Any:
    return items[index] if index < len(items) else ABSENT


def _same(old: Any, new: Any) -> bool:
    """Return whether two values, not both objects and not both arrays, are one in JSON, where true is not 1."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    return bool(old == new)
