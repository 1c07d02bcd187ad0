"""Packs that the package itself makes, all of the same contract unless another one is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forged_pack import CONTRACT, canonical

from ctxpack_bundle import OutputTree, assemble

__all__ = ["make_pack_in", "named"]


def make_pack_in(folder: Path, outputs: Sequence[Path | str], **options: Any) -> Path:
    """Return folder, which must not exist, as the pack of outputs, each by its base name. options: see assemble."""
    folder.mkdir()
    assemble(str(folder), named(outputs), **{"contract": canonical(CONTRACT)} | options)
    return folder


def named(outputs: Sequence[Path | str]) -> dict[str, OutputTree]:
    """Each of outputs by its base name."""
    return {os.path.basename(os.path.abspath(output)): OutputTree(str(output)) for output in outputs}
