"""Packing and unpacking outputs gives the same bytes, at any time and place."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from folder_trees import Executable, Folder, folder_trees, read_folder, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pack import make_pack_in

from ctxpack_bundle import (
    Piece,
    inflate_chunk,
    inflate_first,
    make_chunks,
    pack,
    pack_manifest_of,
    read_pack_manifest,
    runs,
    unpack,
)
from ctxpack_identity import hash_tree


class Chunk(NamedTuple):
    """size: bytes of the piece."""

    size: int
    data: bytes


def packed(outputs: list[Path], folder: Path) -> list[Chunk]:
    make_pack_in(folder, outputs, provenance={"who": "me"})
    return chunks_of(folder)


def chunks_of(folder: Path) -> list[Chunk]:
    pieces = [[piece.data for piece in run] for run in runs(map(Piece.of, pack(str(folder))))]
    return [Chunk(len(piece), data) for run in pieces for piece, data in zip(run, make_chunks(run), strict=True)]


def unpacked(chunks: list[Chunk], folder: Path) -> Path:
    folder.mkdir()
    first, *others = chunks
    pieces = [inflate_first(first.data, where="first chunk")]
    pieces += [inflate_chunk(chunk.data, chunk.size, where="chunk") for chunk in others]
    assert unpack(pieces, str(folder), where="chunks") == pack_manifest_of(pieces[0], where="first chunk")
    return folder


OWN_NAMES: Folder = {
    "manifest.json": b"mine",
    "files.jsonl": b"",
    "artifacts": {"artifacts": {}, "manifest.json": {}},
    "inputs": {"x.jsonl": Executable(b"#!")},
    "environment": {"0.txt": b"mine"},
}


@given(folder_trees(), st.booleans())
@settings(max_examples=60)
def test_unpacking_restores_the_outputs(content: Folder, one_root: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        source = write_folder(content, here / "out")
        outputs = [source] if one_root else [source / name for name in content]
        chunks = packed(outputs, here / "pack")
        copy = unpacked(chunks, here / "copy")
        assert read_folder(copy) == read_folder(here / "pack")
        if one_root or [type(item) for item in content.values()] != [dict]:
            assert read_folder(copy / "artifacts") == content
            assert read_pack_manifest(str(copy)).outputs.digest == hash_tree(str(source)).digest
        assert chunks_of(copy) == chunks


@given(folder_trees(), st.sampled_from([0o000, 0o022, 0o077]), st.integers(0, 2**33))
@settings(max_examples=40)
def test_location_times_and_umask_do_not_change_the_chunks(content: Folder, umask: int, time: int) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        write_folder(content, Path(one, "out"))
        before = packed([Path(one, "out")], Path(one, "pack"))
        mask = os.umask(umask)
        try:
            elsewhere = write_folder(content, Path(other, "deeper", "out"))
            for path in [elsewhere, *elsewhere.rglob("*")]:
                os.utime(path, (time, time))
            assert packed([elsewhere], Path(other, "pack")) == before
        finally:
            os.umask(mask)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"only": {}},
        {"void": b""},
        OWN_NAMES,
        {"artifacts": OWN_NAMES},
        {"d" * 200: {"e" * 200: {"f" * 200: {"g" * 200: {"h" * 200: b"deep"}}}}},
        {"exactly": {"a" * 82: b"one hundred bytes", "a" * 83: b"and one more"}},
        {"block": b"x" * 512, "less": b"x" * 511, "more": b"x" * 513},
        {"noise": os.urandom(3 << 20), "zeros": bytes(9 << 20)},
    ],
    ids=["empty", "empty folder", "empty file", "own names", "nested", "deep", "100 bytes", "blocks", "large"],
)
def test_unpacking_restores_unusual_outputs(tmp_path: Path, content: Folder) -> None:
    source = write_folder(content, tmp_path / "out")
    copy = unpacked(packed([source], tmp_path / "pack"), tmp_path / "copy")
    assert read_folder(copy / "artifacts") == content
    assert read_pack_manifest(str(copy)).outputs.digest == hash_tree(str(source)).digest


def test_the_folder_of_a_pack_can_be_an_output(tmp_path: Path) -> None:
    write_folder(OWN_NAMES, tmp_path / "out")
    packed([tmp_path / "out"], tmp_path / "pack")
    outer = packed([tmp_path / "pack"], tmp_path / "outer")
    assert read_folder(unpacked(outer, tmp_path / "copy") / "artifacts") == read_folder(tmp_path / "pack")


def test_unpacking_restores_a_thousand_files(tmp_path: Path) -> None:
    content = {f"folder-{a}": {f"file-{b}": b"%d" % (a * b) for b in range(100)} for a in range(10)}
    source = write_folder(content, tmp_path / "out")
    chunks = packed([source], tmp_path / "pack")
    assert read_folder(unpacked(chunks, tmp_path / "copy") / "artifacts") == content
