"""Packs that the package itself makes, all of the same contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctxpack_bundle import assemble
from ctxpack_identity import canonical_contract

__all__ = ["CONTRACT", "make_pack_in"]

CONTRACT = canonical_contract(
    {},
    [{"code_hash": "opaque", "environment_hash": "undeclared", "params": {}, "tool": "tool", "tool_version": "1"}],
    "",
)


def make_pack_in(folder: Path, outputs: Sequence[Path | str], **options: Any) -> Path:
    """Return folder, which must not exist, as the pack of outputs. options: see assemble."""
    folder.mkdir()
    assemble(str(folder), [str(output) for output in outputs], **{"contract": CONTRACT} | options)
    return folder
