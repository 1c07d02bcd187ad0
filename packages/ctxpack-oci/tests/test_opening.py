"""A location is opened as the target that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxpack_identity.errors import InvalidInput
from ctxpack_oci import Layout, open_target, parse_location
from ctxpack_oci.registry import Registry


def test_opening_a_target_creates_nothing(tmp_path: Path) -> None:
    layout = open_target(parse_location(f"oci:{tmp_path}/new"), environ={})
    assert isinstance(layout, Layout)
    assert layout.name == f"oci:{tmp_path}/new"
    registry = open_target(parse_location("registry.invalid/team/packs"), environ={})
    assert isinstance(registry, Registry)
    assert registry.name == "registry.invalid/team/packs"
    registry.close()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_variable_is_reported_when_a_registry_is_opened() -> None:
    with pytest.raises(InvalidInput, match=r"^CTXPACK_PASSWORD: not set; set both, or neither$"):
        open_target(parse_location("ghcr.io/a/b"), environ={"CTXPACK_USERNAME": "ann"})
