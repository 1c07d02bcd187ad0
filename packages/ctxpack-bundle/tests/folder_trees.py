"""Folders as values: ``{"a": b"content", "bin": {"tool": Executable(b"…")}, "empty": {}}``."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import strategies as st

__all__ = ["Executable", "Folder", "folder_trees", "read_folder", "write_folder"]


class Executable(bytes):
    """The content of an executable file."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Executable) and bytes(self) == bytes(other)

    __hash__ = bytes.__hash__


Folder: TypeAlias = Mapping[str, Any]
"""Name to bytes, Executable or Folder."""


def write_folder(folder: Folder, location: Path) -> Path:
    """Make the folder at location, which must not exist."""
    location.mkdir(parents=True)
    for name, content in folder.items():
        if isinstance(content, bytes):
            (location / name).write_bytes(content)
            (location / name).chmod(0o755 if isinstance(content, Executable) else 0o644)
        else:
            write_folder(content, location / name)
    return location


def read_folder(location: Path) -> Folder:
    """Return the folder at location."""
    found: dict[str, Any] = {}
    with os.scandir(location) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found[entry.name] = read_folder(Path(entry.path))
            else:
                assert entry.is_file(follow_symlinks=False), f"{entry.path} is no regular file"
                content = Path(entry.path).read_bytes()
                executable = entry.stat().st_mode & stat.S_IXUSR
                found[entry.name] = Executable(content) if executable else content
    return found


def _is_name(name: str) -> bool:
    return name not in (".", "..") and len(name.encode()) <= 255


# Cc: control characters, Cs: surrogates
_CHARACTERS = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\")
_NAMES = st.one_of(
    st.text(_CHARACTERS, min_size=1, max_size=12).filter(_is_name),
    st.sampled_from(
        [
            "manifest.json",
            "files.jsonl",
            "artifacts",
            "inputs",
            "a",
            "a.",
            "a-",
            "a b",
            "...",
            "-rf",
            "x" * 100,
            "x" * 255,
            "é" * 127,
            "e\u0301",  # looks like the next name, but differs in its bytes
            "\u00e9",
            "\u202etxt.exe",
            "\U0001f4e6",
        ]
    ),
)
_FILES = st.binary(max_size=1200)
_CONTENTS = st.one_of(_FILES, _FILES.map(Executable))


def folder_trees() -> st.SearchStrategy[Folder]:
    """Folders with any names a pack may hold, files of up to three tar blocks, a few levels deep."""
    return st.dictionaries(
        _NAMES,
        st.recursive(_CONTENTS, lambda below: st.dictionaries(_NAMES, below, max_size=3), max_leaves=5),
        max_size=4,
    ).filter(lambda folder: _longest(folder) <= 1024)


def _longest(folder: Folder) -> int:
    """Return the length of the longest path in folder, with a slash at its end; bytes."""
    return max(
        (
            len(name.encode()) + 1 + (0 if isinstance(content, bytes) else _longest(content))
            for name, content in folder.items()
        ),
        default=0,
    )
