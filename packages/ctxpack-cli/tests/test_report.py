"""Inspections and lists of packs as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_cli.report import inspection_text

HASH = "sha256:" + "0" * 64


def document(**provenance: Any) -> dict[str, Any]:
    return {
        "uri": "ctx://" + HASH,
        "found_in": "127.0.0.1:5000/packs",
        "contract": {
            "inputs": {"raw_docs": {"digest": HASH}, "model": {"digest": HASH}},
            "salt": "",
            "schema": "ctxpack/contract/v1",
            "transforms": [
                {
                    "tool": "vision-pro",
                    "tool_version": "1.2",
                    "code_hash": HASH,
                    "environment_hash": "undeclared",
                    "params": {"dpi": 300},
                }
            ],
        },
        "outputs": {
            "digest": HASH,
            "files": 2,
            "empty_folders": 0,
            "size": 2048,
            "roots": [{"name": "index", "type": "folder"}, {"name": "notes.txt", "type": "file"}],
        },
        "provenance": provenance,
        "weaknesses": ["transform 0 (vision-pro): no environment declared, so a library upgrade goes unnoticed"],
        "image": {"digest": HASH, "layers": 3, "size": 1536},
    }


def test_every_part_of_an_inspection_is_shown() -> None:
    text = inspection_text(
        document(
            created="2026-01-01T00:00:00Z",
            git={"commit": "abc", "dirty": True},
            inputs={"model": {"uri": "ctx://upstream"}},
        )
    )
    assert (
        text
        == f"""\
ctx://{HASH}
found in   127.0.0.1:5000/packs

inputs
  raw_docs     {HASH}
  model        {HASH}  from ctx://upstream

transforms
  vision-pro 1.2
    code         {HASH}
    environment  undeclared
    params       {{"dpi": 300}}

outputs
  index/, notes.txt  2 files, 2.00 KiB
  digest       {HASH}

provenance (unsigned)
  created      2026-01-01T00:00:00Z
  git          {{"commit": "abc", "dirty": true}}
  inputs       {{"model": {{"uri": "ctx://upstream"}}}}

image
  digest       {HASH}
  transfer     1.50 KiB in 3 layers

weak points
  transform 0 (vision-pro): no environment declared, so a library upgrade goes unnoticed"""
    )


def test_an_empty_part_has_no_heading() -> None:
    bare = document() | {"weaknesses": [], "image": None}
    bare["contract"]["inputs"] = {}
    text = inspection_text(bare)
    for heading in ("inputs", "provenance", "image", "weak points"):
        assert heading not in text


def test_a_salt_is_shown() -> None:
    salted = document()
    salted["contract"]["salt"] = "again"
    assert "  salt 'again'\n" in inspection_text(salted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["created", "inputs", "git"]) | st.text(), JSON, max_size=3))
def test_no_provenance_controls_the_terminal_or_the_layout(provenance: dict[str, Any]) -> None:
    text = inspection_text(document(**{"host": "h"}) | {"provenance": provenance})
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    usual = len(inspection_text(document()).split("\n"))
    assert len(lines) == usual + (len(provenance) + 2 if provenance else 0)


@pytest.mark.parametrize("inputs", [{"model": "a string"}, {"model": {"uri": None}}, ["model"], "model", 5, None])
def test_an_input_source_of_another_shape_is_not_shown(inputs: object) -> None:
    assert f"  model        {HASH}\n" in inspection_text(document(inputs=inputs))
