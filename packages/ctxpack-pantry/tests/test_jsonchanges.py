"""The changes between two JSON values, as pointers, make the first value the second."""

from __future__ import annotations

import copy
import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import canonical_json
from ctxpack_pantry import jsonchanges
from ctxpack_pantry.jsonchanges import ABSENT, Change, json_changes, shown_change

NAMES = st.sampled_from(["a", "b", "a/b", "~", "~1", "", "0", "ü"])
SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.floats(0, 2).map(abs) | st.sampled_from(["", "a", "1"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)


def apply(value: Any, changes: list[Change]) -> Any:
    """Return value with changes made, as Change says."""
    root = {"": copy.deepcopy(value)}
    removing = [change for change in changes if change.new is ABSENT]
    for change in [*(change for change in changes if change.new is not ABSENT), *reversed(removing)]:
        *above, last = ["", *(token.replace("~1", "/").replace("~0", "~") for token in change.at.split("/")[1:])]
        holder: Any = root
        for token in above:
            holder = holder[int(token) if isinstance(holder, list) else token]
        if isinstance(holder, list):
            if change.new is ABSENT:
                assert canonical_json(holder.pop(int(last))) == canonical_json(change.old)
            elif change.old is ABSENT:
                assert int(last) == len(holder)
                holder.append(change.new)
            else:
                holder[int(last)] = change.new
        elif change.new is ABSENT:
            del holder[last]
        else:
            assert (last in holder) == (change.old is not ABSENT)
            holder[last] = change.new
    return root[""]


@given(VALUES, VALUES)
def test_the_changes_make_the_first_value_the_second(old: Any, new: Any) -> None:
    changes = list(json_changes(old, new))
    assert canonical_json(apply(old, changes)) == canonical_json(new)
    assert (changes == []) == (canonical_json(old) == canonical_json(new))


@given(VALUES)
def test_equal_values_have_no_changes(value: Any) -> None:
    assert list(json_changes(value, copy.deepcopy(value))) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (True, 1, [{"at": "", "old": True, "new": 1}]),
        ([0], [False], [{"at": "/0", "old": 0, "new": False}]),
        (3, 3.0, []),
        ({"a": None}, {}, [{"at": "/a", "old": None}]),
        ({}, {"a": None}, [{"at": "/a", "new": None}]),
        ({"a": {}}, {"a": []}, [{"at": "/a", "old": {}, "new": []}]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, [{"at": "/a~1b/~0", "old": 1, "new": 2}]),
        ([1, 2, 3], [1], [{"at": "/1", "old": 2}, {"at": "/2", "old": 3}]),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, [{"at": "/a", "old": 1, "new": 2}, {"at": "/b", "old": 1, "new": 2}]),
    ],
)
def test_what_is_a_change(old: Any, new: Any, expected: list[dict[str, Any]]) -> None:
    assert [change.as_json() for change in json_changes(old, new)] == expected


TEXTS = st.text("ab", max_size=40)


@given(st.lists(TEXTS, max_size=5) | TEXTS, st.lists(TEXTS, max_size=5) | TEXTS, st.integers(9, 60))
def test_values_that_differ_are_shown_to_differ(old: Any, new: Any, wide: int) -> None:
    _, *shown = shown_change("/x", old, new, wide)
    assert (shown[0] == shown[1]) == (old == new)
    assert max(map(len, shown)) <= wide


def test_depth_is_no_limit() -> None:
    old: Any = 1
    new: Any = 2
    for _ in range(5000):
        old, new = [old], {"a": new} if new == 2 else [new]
    [change] = json_changes(old, new)
    assert change.at == "/0" * 4999


def test_the_examples_run() -> None:
    assert doctest.testmod(jsonchanges).failed == 0
