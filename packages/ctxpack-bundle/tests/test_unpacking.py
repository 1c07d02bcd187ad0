"""From pieces to a pack folder: the files that are written, and errors for any other byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from folder_trees import Executable, read_folder
from forged_pack import CONTRACT, File, canonical, forge, listing, manifest, stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxpack_bundle import pack, pack_manifest_of, parse_pack_manifest, unpack
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_identity import IntegrityError

FILES = [File("a", b"one"), File("b/c/d", b"!", executable=True), File("b/e/"), File("f", b"x" * 1500)]
LISTED = {
    "code/0.jsonl": listing([File("main.py", b"code"), File("run", b"#!", executable=True)]),
    "environment/0.jsonl": listing([File("", b"lock")]),
    "environment/0.txt": b"lock",
    "inputs/raw.jsonl": listing([File("page-1", b"text")]),
    "inputs/void.jsonl": b"",
}
STREAM = stream(forge(FILES, listed=LISTED))
PULL_AGAIN = f"; {IN_REGISTRY}"


def test_every_member_is_written(arena: Any) -> None:
    """The stream is forged, so this tests the reader alone."""
    read = arena.unpack([STREAM])
    assert read == parse_pack_manifest(canonical(manifest(FILES, listed=LISTED)))
    assert read_folder(arena.staging) == {
        "manifest.json": canonical(manifest(FILES, listed=LISTED)),
        "files.jsonl": listing(FILES),
        "code": {"0.jsonl": LISTED["code/0.jsonl"]},
        "environment": {"0.jsonl": LISTED["environment/0.jsonl"], "0.txt": b"lock"},
        "inputs": {"raw.jsonl": LISTED["inputs/raw.jsonl"], "void.jsonl": b""},
        "artifacts": {"a": b"one", "b": {"c": {"d": Executable(b"!")}, "e": {}}, "f": b"x" * 1500},
    }


def test_a_pack_without_listings_of_roots_has_no_folder_for_them(arena: Any) -> None:
    arena.unpack([stream(forge([]))])
    assert sorted(read_folder(arena.staging)) == ["artifacts", "files.jsonl", "manifest.json"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_how_the_stream_is_split_does_not_matter(arena: Any, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    arena.unpack(pieces)
    assert read_folder(arena.staging)["artifacts"]["f"] == b"x" * 1500


def test_pieces_may_be_single_bytes(arena: Any) -> None:
    arena.unpack(STREAM[position : position + 1] for position in range(len(STREAM)))
    assert (arena.staging / "artifacts/b/c/d").read_bytes() == b"!"


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


def test_every_flipped_bit_is_refused(quick_arena: Any, small_pack: Path) -> None:
    data = b"".join(pack(str(small_pack)))
    for position in range(len(data)):
        error = quick_arena.refuses([flipped(data, position)])
        assert error.where.startswith("a pack"), position


@pytest.mark.parametrize("declared", [[], ["outputs"]], ids=["any outputs", "named outputs"])
def test_only_provenance_and_a_name_that_the_contract_does_not_give_can_be_changed(
    quick_arena: Any, declared: list[str]
) -> None:
    """Only the digest of the chunk, in the image manifest, covers these two. The name is that of a single folder."""
    honest = forge(FILES, contract=CONTRACT | {"outputs": declared}, provenance={"who": "somebody"})
    data = stream(honest)
    claims = {data.index(b"somebody") + offset for offset in range(8)}
    claims |= {data.index(b'"who"') + 1 + offset for offset in range(3)}
    name = {data.index(b'"outputs","type"') + 1 + offset for offset in range(7)}
    outputs = parse_pack_manifest(honest[0].content).outputs_digest
    accepted = set()
    for position in range(512, 512 + len(honest[0].content)):
        try:
            read = quick_arena.unpack([flipped(data, position)])
        except IntegrityError:
            continue
        accepted.add(position)
        assert read.outputs_digest == outputs
    assert accepted & claims
    assert bool(accepted & name) == (not declared)
    assert accepted <= claims | name


def test_every_truncation_is_refused(quick_arena: Any, small_pack: Path) -> None:
    data = b"".join(pack(str(small_pack)))
    for length in range(len(data)):
        error = quick_arena.refuses([data[:length]])
        assert error.what == "pack ends too early"
    assert quick_arena.refuses([]).what == "pack ends too early"
    assert quick_arena.refuses([data[:-1]]).got == "1 bytes less"


@pytest.mark.parametrize("extra", [b"\0", bytes(512), bytes(9 * 1024), b"x", STREAM])
def test_everything_appended_is_refused(arena: Any, extra: bytes) -> None:
    assert str(arena.refuses([STREAM, b"", extra])) == f"a pack: bytes after the end{PULL_AGAIN}"
    assert str(arena.refuses([STREAM + extra])) == f"a pack: bytes after the end{PULL_AGAIN}"


def test_a_missing_last_member_is_refused(arena: Any) -> None:
    error = arena.refuses([stream(forge(FILES)[:-1])])
    assert str(error) == (
        "a pack, artifacts/f: archive differs from its listing: expected the one header format v1 allows" + PULL_AGAIN
    )


def test_content_that_differs_from_the_listing_is_refused(arena: Any) -> None:
    members = forge(FILES)
    members[3] = members[3]._replace(content=b"two")
    error = arena.refuses([stream(members)])
    assert (error.where, error.what) == ("a pack, artifacts/a", "content differs from its digest")
    assert error.expected != error.got


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    """Also on a file system that has one name for two members."""
    for name in ("manifest.json", "files.jsonl", "artifacts"):
        folder = tmp_path / f"with-{name}"
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        with pytest.raises(FileExistsError):
            unpack([STREAM], str(folder), where="a pack")
        assert (folder / name).read_bytes() == b"mine"


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/files.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        unpack([STREAM], str(tmp_path / "folder"), where="a pack")
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_folder_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unpack([STREAM], str(tmp_path / "none"), where="a pack")


def test_errors_of_the_source_are_raised_unchanged(tmp_path: Path) -> None:
    def failing() -> Any:
        yield STREAM[:3000]
        raise TimeoutError("the network")

    with pytest.raises(TimeoutError, match="the network"):
        unpack(failing(), str(tmp_path), where="a pack")


def test_the_umask_does_not_change_the_pack(arena: Any, small_pack: Path, chunks_of: Callable[[Path], Any]) -> None:
    before = os.umask(0o077)
    try:
        arena.unpack(pack(str(small_pack)))
    finally:
        os.umask(before)
    assert chunks_of(arena.staging) == chunks_of(small_pack)


def test_the_manifest_is_read_from_the_first_piece(small_pack: Path) -> None:
    pieces = list(pack(str(small_pack)))
    assert pack_manifest_of(pieces[0], where="layer 0") == parse_pack_manifest(
        (small_pack / "manifest.json").read_bytes()
    )


@pytest.mark.parametrize(
    ("piece", "fault"),
    [
        (b"", "layer 0, manifest.json: pack ends too early: got 512 bytes less"),
        (STREAM[:700], "layer 0, manifest.json: pack ends too early"),
        (STREAM, "layer 0: bytes after the end"),
        (forge(FILES)[0].encoded() + b"\0", "layer 0: bytes after the end"),
        (forge(FILES)[1].encoded(), "layer 0, manifest.json: archive differs from its listing"),
        (bytes(512), "layer 0, manifest.json: archive differs from its listing"),
        (forge(FILES, manifest_bytes=b"{}")[0].encoded(), "layer 0, manifest.json: malformed: "),
        (forge(FILES, manifest_bytes=b"")[0].encoded(), "layer 0, manifest.json: archive differs from its listing"),
    ],
)
def test_a_first_piece_that_is_not_the_manifest_alone_is_refused(piece: bytes, fault: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        pack_manifest_of(piece, where="layer 0")
    assert str(caught.value).startswith(fault)


MIB = 1 << 20


@pytest.mark.parametrize(
    "content",
    [
        bytes(64 << 10),
        bytes(MIB),
        b"x" + bytes(MIB - 1),
        bytes(8 * MIB),
        b"x" + bytes(8 * MIB) + b"y",
        bytes(3 * MIB) + b"x" * 100_000 + bytes(3 * MIB),
    ],
    ids=["64 KiB", "1 MiB", "data first", "8 MiB", "data around", "data in the middle"],
)
def test_long_runs_of_zeros_become_holes(arena: Any, content: bytes) -> None:
    data = stream(forge([File("sparse", content)]))
    pieces = [data[start : start + 300_000] for start in range(0, len(data), 300_000)]
    arena.unpack(pieces)
    written = arena.staging / "artifacts/sparse"
    assert written.read_bytes() == content
    least = content.count(b"x") + content.count(b"y")
    assert written.stat().st_blocks * 512 <= least + (700 << 10) * (len(content) > MIB) + (68 << 10)


def test_a_changed_zero_is_refused(arena: Any) -> None:
    members = forge([File("sparse", bytes(3 * MIB))])
    members[-1] = members[-1]._replace(content=bytes(2 * MIB) + b"x" + bytes(MIB - 1))
    assert arena.refuses([stream(members)]).what == "content differs from its digest"
