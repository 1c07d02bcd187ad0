"""Folders written for a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_folder"]


def write_folder(folder: Path, content: Mapping[str, Any], *, reverse: bool = False) -> None:
    """Make folder: bytes become files, mappings become folders, in the order of their names or in reverse."""
    folder.mkdir(parents=True)
    for name, item in sorted(content.items(), reverse=reverse):
        if isinstance(item, Mapping):
            write_folder(folder / name, item, reverse=reverse)
        else:
            (folder / name).write_bytes(item)
