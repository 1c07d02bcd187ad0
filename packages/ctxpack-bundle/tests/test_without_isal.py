"""Without the isal library (no wheel for a platform) zlib does the same, slower. Each reads the chunks of the other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from folder_trees import read_folder, write_folder

from ctxpack_bundle import inflate_chunk, make_chunk, pack

BLOCKED = "import sys; sys.modules['isal'] = None\n"
PACK = """
import zlib
from ctxpack_bundle import chunk, make_chunk, pack
assert chunk.codec is zlib
for number, piece in enumerate(pack("pack-0")):
    with open(f"chunks/{number:04}-{len(piece)}", "xb") as file:
        file.write(make_chunk(piece))
"""
UNPACK = """
import os, zlib
from ctxpack_bundle import chunk, inflate_chunk, unpack
assert chunk.codec is zlib
def pieces():
    for name in sorted(os.listdir("chunks")):
        with open(f"chunks/{name}", "rb") as file:
            yield inflate_chunk(file.read(), int(name[5:]), where=name)
unpack(pieces(), "copy", where="chunks")
"""
REFUSE = """
import zlib
from ctxpack_bundle import chunk, inflate_chunk, inflate_first, make_chunk
from ctxpack_identity import IntegrityError
assert chunk.codec is zlib
good = make_chunk(b"content")
for wrong in (good[:-1], good + b"x", good[:-8] + bytes(8), good[:10] + b"\\xff" * 20, good * 2, b""):
    for size in (-1, 0, 6, 7, 8):
        try:
            inflate_chunk(wrong, size, where="chunk")
        except IntegrityError:
            continue
        raise SystemExit(f"{wrong!r} passed for {size} bytes")
    try:
        inflate_first(wrong, where="chunk")
    except IntegrityError:
        continue
    raise SystemExit(f"{wrong!r} passed")
"""


@pytest.fixture
def folder(tmp_path: Path, make_pack: Callable[..., Path]) -> Path:
    content = {"noise": os.urandom(1 << 20), "text": b"some text, " * 100_000, "empty": {}}
    return make_pack(write_folder(content, tmp_path / "out"))


def run(script: str, folder: Path, environment: Mapping[str, str]) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", BLOCKED + script], cwd=folder, env=environment, check=True)


def test_zlib_writes_what_isal_reads(folder: Path, tmp_path: Path, environment: Mapping[str, str], arena: Any) -> None:
    (tmp_path / "chunks").mkdir()
    run(PACK, tmp_path, environment)
    chunks = sorted((tmp_path / "chunks").iterdir())
    arena.unpack(inflate_chunk(path.read_bytes(), int(path.name[5:]), where=path.name) for path in chunks)
    assert read_folder(arena.staging) == read_folder(folder)
    assert [int(path.name[5:]) for path in chunks] == [len(piece) for piece in pack(str(folder))]


def test_zlib_reads_what_isal_wrote(folder: Path, tmp_path: Path, environment: Mapping[str, str]) -> None:
    (tmp_path / "chunks").mkdir()
    (tmp_path / "copy").mkdir()
    for number, piece in enumerate(pack(str(folder))):
        (tmp_path / f"chunks/{number:04}-{len(piece)}").write_bytes(make_chunk(piece))
    run(UNPACK, tmp_path, environment)
    assert read_folder(tmp_path / "copy") == read_folder(folder)


def test_zlib_refuses_what_isal_refuses(tmp_path: Path, environment: Mapping[str, str]) -> None:
    run(REFUSE, tmp_path, environment)
