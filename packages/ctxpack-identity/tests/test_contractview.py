"""What is read of a contract whose schema may be unknown: what is of another form is empty."""

from __future__ import annotations

from typing import Any

import pytest

from ctxpack_identity.contractview import input_digests, input_names, output_names, tools, transforms


@pytest.mark.parametrize(
    ("contract", "inputs", "outputs", "named"),
    [
        ({}, [], [], []),
        ({"inputs": {"b": 1, "a": None}, "outputs": ["y", "x"]}, ["b", "a"], ["y", "x"], []),
        ({"inputs": ["a"], "outputs": {"x": {}}, "transforms": {"tool": "t"}}, [], [], []),
        ({"inputs": None, "outputs": "x", "transforms": None}, [], [], []),
        ({"outputs": ["x", 1]}, [], [], []),
        ({"transforms": [None, {"tool": 1}, {"tool": "t"}, {}, {"tool": "s"}]}, [], [], ["t", "s"]),
    ],
)
def test_names_and_tools(contract: dict[str, Any], inputs: list[str], outputs: list[str], named: list[str]) -> None:
    assert (input_names(contract), output_names(contract), tools(contract)) == (inputs, outputs, named)


def test_transforms_are_the_objects_among_them() -> None:
    assert transforms({"transforms": [{"tool": "t"}, 1, None, [], {}]}) == [{"tool": "t"}, {}]
    assert transforms({"transforms": {"tool": "t"}}) == []


def test_digests_of_inputs_are_those_that_are_texts() -> None:
    contract = {"inputs": {"a": {"digest": "sha256:0"}, "b": {}, "c": "sha256:0", "d": {"digest": 1}}}
    assert input_digests(contract) == {"a": "sha256:0", "b": None, "c": None, "d": None}
    assert input_digests({"inputs": ["a"]}) == input_digests({}) == {}
