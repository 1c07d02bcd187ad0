"""Any range of a pack's tar stream, made from its folder, has the bytes that pack() yields there."""

from __future__ import annotations

import os
import random
import tempfile
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from folder_trees import Folder, folder_trees, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pack import make_pack_in

from ctxpack_bundle import PackStream, RootListings, pack
from ctxpack_identity import IntegrityError, TreeEntry, digest_of, hex_of

MakePack = Callable[..., Path]
MANY: Folder = {f"{number:04}{'n' * (number % 120)}": b"x" * (number * 7 % 1500) for number in range(500)}


def whole(folder: Path) -> bytes:
    return b"".join(pack(str(folder)))


@given(folder_trees(), st.data())
@settings(max_examples=60)
def test_adjacent_ranges_together_are_the_stream(content: Folder, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_pack_in(Path(scratch, "pack"), [write_folder(content, Path(scratch, "out"))])
        expected = whole(folder)
        cuts = sorted({0, len(expected), *data.draw(st.lists(st.integers(0, len(expected)), max_size=20))})
        with PackStream(str(folder)) as stream:
            assert stream.size == len(expected)
            ranges = [stream.read(start, end - start) for start, end in pairwise(cuts)]
        assert b"".join(ranges) == expected


def test_ranges_in_any_order_of_a_pack_with_many_marks(tmp_path: Path, make_pack: MakePack) -> None:
    folder = make_pack(write_folder({"big": bytes(range(256)) * 4096, "many": MANY}, tmp_path / "out"))
    expected = whole(folder)
    choose = random.Random(1)
    with PackStream(str(folder)) as stream:
        for most in (1, 600, 100_000, len(expected)):
            for _ in range(60):
                start = choose.randrange(len(expected))
                size = choose.randrange(min(most, len(expected) - start) + 1)
                assert stream.read(start, size) == expected[start : start + size]
        assert stream.read(len(expected), 0) == b""


def test_listings_and_texts_of_roots_are_part_of_the_stream(tmp_path: Path, make_pack: MakePack) -> None:
    listings = RootListings(str(tmp_path))
    listings.add("inputs/raw", TreeEntry("x", 0, hex_of(digest_of(b""))))
    listings.add_text("environment/0", b"lock")
    folder = make_pack(write_folder({"a": b"1"}, tmp_path / "out"), listings=listings.finish(["inputs/raw"]))
    for name in ("environment", "inputs"):
        (tmp_path / name).rename(folder / name)
    with PackStream(str(folder)) as stream:
        assert stream.read(0, stream.size) == whole(folder)


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1), (0, 1 << 40), (1 << 40, 0)])
def test_a_range_outside_the_stream_is_refused(small_pack: Path, offset: int, size: int) -> None:
    with PackStream(str(small_pack)) as stream, pytest.raises(IntegrityError, match="no such range: expected within "):
        stream.read(offset, size)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (Path.unlink, "pack is damaged: No such file or directory"),
        (lambda path: path.write_bytes(b"longer than it was"), "not the file its listing names: expected 10 bytes"),
    ],
    ids=["gone", "other size"],
)
def test_a_damaged_file_is_an_error_only_in_the_ranges_that_hold_it(
    small_pack: Path, damage: Callable[[Path], object], fault: str
) -> None:
    expected = whole(small_pack)
    damage(small_pack / "artifacts/outputs/tool")
    start = expected.index(b"#!/bin/sh\n")
    with PackStream(str(small_pack)) as stream:
        with pytest.raises(IntegrityError, match=f"artifacts/outputs/tool: {fault}"):
            stream.read(start - 512, 600)
        assert stream.read(0, start) == expected[:start]
        assert stream.read(start + 10, len(expected) - start - 10) == expected[start + 10 :]


def test_a_damaged_listing_is_an_error_of_the_constructor(small_pack: Path) -> None:
    listing = small_pack / "files.jsonl"
    listing.write_bytes(listing.read_bytes().replace(b'"size":10', b'"size":11'))
    with pytest.raises(IntegrityError, match="outputs are not those of the manifest"):
        PackStream(str(small_pack))


def test_a_pack_that_is_removed_during_reading_is_an_error(small_pack: Path) -> None:
    with PackStream(str(small_pack)) as stream:
        small_pack.rename(small_pack.with_name("elsewhere"))
        with pytest.raises(IntegrityError, match="pack is damaged: No such file"):
            stream.read(0, stream.size)
    with pytest.raises(IntegrityError, match=r"manifest.json: pack is damaged: No such file"):
        PackStream(str(small_pack))


def test_memory_does_not_grow_with_size_or_number_of_files(tmp_path: Path, make_pack: MakePack) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(64 << 20)
    write_folder({f"{number:05}": b"" for number in range(5000)}, tmp_path / "many")
    folder = make_pack(tmp_path / "large", tmp_path / "many")
    tracemalloc.start()
    try:
        with PackStream(str(folder)) as stream:
            for offset in range(0, stream.size, 1 << 20):
                stream.read(offset, min(1 << 20, stream.size - offset))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_no_file_stays_open(small_pack: Path) -> None:
    descriptor = os.dup(0)
    os.close(descriptor)
    with PackStream(str(small_pack)) as stream:
        stream.read(0, stream.size)
    after = os.dup(0)
    os.close(after)
    assert after == descriptor
