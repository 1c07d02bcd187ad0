"""What differs between two contracts: nothing between equal ones, something between others, and named by its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import canonical_json, digest_of
from ctxpack_pantry.difference import Difference, compare

A, B = digest_of(b"a"), digest_of(b"b")


def transform(tool: str = "t", **members: Any) -> dict[str, Any]:
    usual = {"tool_version": "1", "code_hash": A, "environment_hash": "undeclared", "params": {}}
    return {"tool": tool, **usual, **members}


def contract(*transforms: dict[str, Any], inputs: dict[str, str] | None = None, **members: Any) -> dict[str, Any]:
    return {
        "command": ["sh", "make.sh"],
        "inputs": {name: {"digest": digest} for name, digest in (inputs or {"docs": A}).items()},
        "outputs": ["out"],
        "platform": {},
        "salt": "",
        "schema": "ctxpack/contract/v1",
        "transforms": list(transforms) or [transform()],
        "variables": {},
        **members,
    }


DIGESTS = st.sampled_from([A, B])
PARAMS = st.dictionaries(st.sampled_from("ab"), st.integers(0, 2) | st.lists(st.booleans(), max_size=2), max_size=2)
TRANSFORMS = st.builds(
    transform,
    st.sampled_from("tuv"),
    tool_version=st.sampled_from("12"),
    code_hash=DIGESTS | st.just("opaque"),
    environment_hash=DIGESTS | st.just("undeclared"),
    params=PARAMS,
)
CONTRACTS = st.builds(
    lambda transforms, inputs, command, variables, salt: contract(
        *transforms, inputs=inputs, command=command, variables=variables, salt=salt
    ),
    st.lists(TRANSFORMS, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["docs", "model"]), DIGESTS, min_size=1),
    st.just("undeclared") | st.lists(st.sampled_from("xy"), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from("XY"), st.sampled_from("12")),
    st.sampled_from(["", "again"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.just(A),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["digest", "tool", "code_hash"]), inner)
    ),
    max_leaves=8,
)
FOREIGN = st.dictionaries(st.sampled_from(["inputs", "transforms", "outputs", "command", "x"]), JSON)


def require_difference(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = compare(old, new)
    assert (found == Difference()) == (canonical_json(old) == canonical_json(new))
    assert (found.members == 0) == (found == Difference())


@given(CONTRACTS, CONTRACTS)
def test_contracts_differ_in_something_or_are_equal(old: dict[str, Any], new: dict[str, Any]) -> None:
    require_difference(old, new)
    require_difference(old, copy.deepcopy(old))


@given(FOREIGN, FOREIGN)
def test_so_do_contracts_of_an_unknown_schema(old: dict[str, Any], new: dict[str, Any]) -> None:
    require_difference(old, new)
    require_difference(old, copy.deepcopy(old))


def shown(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return what differs, without what is empty."""
    found = compare(old, new)
    assert compare(new, old).members == found.members
    document = {
        "transforms": [
            {name: value for name, value in one.as_json().items() if value not in (None, [])}
            | {kind: (root.old, root.new) for kind in ("code", "environment") if (root := getattr(one, kind))}
            for one in found.transforms
        ],
        "inputs": {one.name: (one.root.old, one.root.new) for one in found.inputs},
        "changes": [change.as_json() for change in found.changes],
        "members": found.members,
    }
    return {name: value for name, value in document.items() if value}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (
            contract(command=["sh", "-x", "make.sh"]),
            [{"at": "/command", "old": ["sh", "make.sh"], "new": ["sh", "-x", "make.sh"]}],
        ),
        (contract(command="undeclared"), [{"at": "/command", "old": ["sh", "make.sh"], "new": "undeclared"}]),
        (contract(outputs=["index", "out"]), [{"at": "/outputs", "old": ["out"], "new": ["index", "out"]}]),
        (contract(variables={"X": "1"}), [{"at": "/variables/X", "new": "1"}]),
        (contract(platform={"os": "linux"}), [{"at": "/platform/os", "new": "linux"}]),
        (contract(salt="2"), [{"at": "/salt", "old": "", "new": "2"}]),
        (contract(schema="other/v1"), [{"at": "/schema", "old": "ctxpack/contract/v1", "new": "other/v1"}]),
        (contract(each={"by": "path"}), [{"at": "/each", "new": {"by": "path"}}]),
    ],
)
def test_members_of_the_contract(new: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert shown(contract(), new) == {"changes": expected, "members": 1}


def test_each_is_compared_by_its_members() -> None:
    each = {"by": "path", "input": "docs", "of": "files", "output": "{path}"}
    old, new = contract(each=each), contract(each=each | {"output": "{stem}"})
    assert shown(old, new) == {"changes": [{"at": "/each/output", "old": "{path}", "new": "{stem}"}], "members": 1}


def test_inputs_are_compared_by_name() -> None:
    old, new = contract(inputs={"a": A, "b": A, "c": A}), contract(inputs={"b": B, "c": A, "d": A})
    assert shown(old, new) == {"inputs": {"a": (A, None), "b": (A, B), "d": (None, A)}, "members": 3}


def test_members_of_a_transform() -> None:
    old = contract(transform(params={"dpi": 300, "deep": [1, {"x": 1}]}, environment_hash=A))
    new = contract(
        transform(params={"dpi": 600, "deep": [1, {}]}, tool_version="2", code_hash=B, environment_hash="undeclared")
    )
    assert shown(old, new) == {
        "transforms": [
            {
                "tool": "t",
                "old": 0,
                "new": 0,
                "changes": [
                    {"at": "/params/deep/1/x", "old": 1},
                    {"at": "/params/dpi", "old": 300, "new": 600},
                    {"at": "/tool_version", "old": "1", "new": "2"},
                ],
                "code": (A, B),
                "environment": (A, "undeclared"),
            }
        ],
        "members": 4,
    }


def places(old: str, new: str) -> list[tuple[str, int | None, int | None]]:
    """Return tool and indices of what differs between transforms with these tools, of which all have other code."""
    before, after = ([transform(tool, code_hash=code) for tool in tools] for tools, code in ((old, A), (new, B)))
    return [(one.tool, one.old, one.new) for one in compare(contract(*before), contract(*after)).transforms]


def test_transforms_are_compared_by_tool_and_then_by_place() -> None:
    assert places("ab", "ab") == [("a", 0, 0), ("b", 1, 1)]
    assert places("ab", "xab") == [("x", None, 0), ("a", 0, 1), ("b", 1, 2)]
    assert places("ab", "b") == [("b", 1, 0), ("a", 0, None)]
    assert places("ab", "xb") == [("x", 0, 0), ("b", 1, 1)]
    assert places("aab", "aba") == [("a", 0, 0), ("b", 2, 1), ("a", 1, 2)]
    assert places("a", "ab") == [("a", 0, 0), ("b", None, 1)]


def test_the_listings_of_a_transform_that_moved_are_those_of_both_places() -> None:
    [added, moved] = compare(contract(transform("a")), contract(transform("x"), transform("a", code_hash=B))).transforms
    assert added.old is None
    assert moved.code is not None
    assert (moved.code.old_root, moved.code.new_root) == ("code/0", "code/1")


def test_equal_transforms_in_another_order_differ_and_shifted_ones_do_not() -> None:
    a, b, c = transform("a"), transform("b"), transform("c")
    assert shown(contract(a, b), contract(b, a))["members"] == 2
    assert [one.tool for one in compare(contract(a, b), contract(c, a, b)).transforms] == ["c"]
