"""What differs between two JSON values: the members and elements that were added, removed or changed; and as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from ctxpack_identity.canonical import pointer

__all__ = ["ABSENT", "Change", "json_changes", "shown_change"]

ABSENT: Final[Any] = object()
"""In place of a value where there is none. (None is JSON's null.)"""

_NONE: Final = "none"  # as text; the JSON of a text has quotes


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


def shown_change(at: str, old: Any, new: Any, wide: int) -> tuple[str, str, str]:
    """Return a change as texts: pointer, old and new value; "none" for ABSENT, else JSON, cut around what differs.

    wide: characters of a value. Of lists that are wider, such as commands, the elements that differ are the values, and
    at is that of the first of them.

    >>> shown_change("/tag", "1", ABSENT, 60)
    ('/tag', '"1"', 'none')
    >>> shown_change("/command", ["sh", "convert.sh", "--dpi", "300"], ["sh", "convert.sh", "--dpi", "600"], 20)
    ('/command/3', '"300"', '"600"')
    >>> shown_change("/prompt", "a long text that ends in 1", "a long text that ends in 2", 12)
    ('/prompt', '…in 1"', '…in 2"')
    """
    one, other = _text(old), _text(new)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and max(len(one), len(other)) > wide:
        words, others = [*map(_text, old)], [*map(_text, new)]
        start = _common(words, others)
        end = _common(words[start:][::-1], others[start:][::-1])
        at = pointer(at, start)
        one, other = (" ".join(each[start : len(each) - end]) or _NONE for each in (words, others))
    differs = _common(one, other)
    return at, _cut(one, differs, wide), _cut(other, differs, wide)


def _text(value: Any) -> str:
    return _NONE if value is ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return with how many equal elements both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _cut(text: str, differs: int, wide: int) -> str:
    """Return at most wide characters of text, among them some from the index differs on."""
    if len(text) <= wide:
        return text
    start = 0 if differs < wide * 2 // 3 else differs - wide // 3
    shown = text[start : start + wide]
    left, right = start > 0, start + wide < len(text)
    return f"{'…' * left}{shown[left : len(shown) - right]}{'…' * right}"
