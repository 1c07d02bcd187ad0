"""From a pack folder to pieces: where pieces end, and errors for a damaged folder."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_trees import write_folder
from forged_pack import File, Member, canonical, forge, manifest, stream
from msgspec.structs import replace

from ctxpack_bundle import (
    Record,
    RootListings,
    Table,
    average_like,
    average_of,
    encode_table,
    pack,
    read_pack_manifest,
    stream_size,
)
from ctxpack_identity import IntegrityError, TreeEntry, digest_of, hex_of

MakePack = Callable[..., Path]
REMEDY = "; pull it anew, or make it again"
GIB = 1 << 30
TEXT = {"a.txt": b"one", "b": {"c.txt": b"three"}, "empty": {}, "void": b""}


@pytest.fixture
def folder(tmp_path: Path, make_pack: MakePack) -> Path:
    return make_pack(write_folder(TEXT, tmp_path / "out"))


def test_the_stream_is_as_the_format_says(folder: Path) -> None:
    files = [File("a.txt", b"one"), File("b/c.txt", b"three"), File("empty/"), File("void")]
    assert b"".join(pack(str(folder))) == stream(forge(files, roots=[("out", "folder")]))


def test_the_manifest_is_the_first_piece_and_a_piece_ends_after_the_listings(
    tmp_path: Path, make_pack: MakePack
) -> None:
    listings = RootListings(str(tmp_path))
    listings.add("inputs/raw", TreeEntry("x", 0, hex_of(digest_of(b""))))
    folder = make_pack(write_folder(TEXT, tmp_path / "out"), listings=listings.finish(["inputs/raw"]))
    (tmp_path / "inputs").rename(folder / "inputs")
    pieces = list(pack(str(folder)))
    heads = [piece[: piece.index(0)].decode() for piece in pieces]
    assert heads == ["manifest.json", "files.jsonl", "artifacts/"]
    assert len(pieces[0]) == 512 + 512 * -(-len((folder / "manifest.json").read_bytes()) // 512)
    assert b"inputs/raw.jsonl" in pieces[1]


def test_stream_size_is_close_to_the_size_of_the_stream(folder: Path) -> None:
    assert abs(stream_size(read_pack_manifest(str(folder))) - len(b"".join(pack(str(folder))))) < 4096


@pytest.mark.parametrize(
    ("size", "listing", "average"),
    [
        (10 * GIB, 0, 64 << 10),
        (31 * GIB, 10 << 20, 64 << 10),
        (33 * GIB, 10 << 20, 128 << 10),
        (31 * GIB, 100 << 20, 128 << 10),
        (100 * GIB, 0, 256 << 10),
        (10_000 * GIB, 0, 512 << 10),
    ],
)
def test_pieces_are_larger_only_where_the_table_would_pass_24_mib(
    folder: Path, size: int, listing: int, average: int
) -> None:
    """Half a million records of 48 bytes; a listing has 16 times as many pieces for its size."""
    manifest = read_pack_manifest(str(folder))
    outputs = replace(manifest.outputs, size=size)
    listings = (replace(manifest.listings[0], size=listing),)
    assert average_of(replace(manifest, outputs=outputs, listings=listings)) == average


@pytest.mark.parametrize("theirs", [64 << 10, 128 << 10, 256 << 10, 512 << 10])
def test_a_pack_that_borrows_is_cut_as_what_it_borrows_from_unless_that_is_off_by_four_times(theirs: int) -> None:
    for found in (theirs, 5 * theirs // 4):  # FastCDC gives up to a quarter more than asked for
        base = Table(encode_table([Record(bytes(32), found, 1, 2, 0)] * 10))
        for average in (64 << 10, 128 << 10, 256 << 10, 512 << 10):
            near = theirs // 4 < average < 4 * theirs
            assert average_like(base, average) == (theirs if near else average)


def test_times_and_modes_of_the_folder_do_not_change_the_pieces(folder: Path) -> None:
    before = list(pack(str(folder)))
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    assert list(pack(str(folder))) == before


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def become_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("member", ["files.jsonl", "artifacts/a.txt", "artifacts/b/c.txt"])
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (Path.unlink, "pack is damaged: No such file or directory"),
        (grow, "not the file its listing names: expected "),
        (flip, "content differs from its digest: expected sha256:"),
        (become_a_link, "pack is damaged: symbolic link"),
        (become_a_fifo, "not the file its listing names: expected "),
        (become_a_folder, "not the file its listing names: expected "),
    ],
)
def test_a_damaged_member_is_refused(folder: Path, member: str, damage: Callable[[Path], object], fault: str) -> None:
    damage(folder / member)
    with pytest.raises(IntegrityError) as caught:
        list(pack(str(folder)))
    assert str(caught.value).startswith(f"{folder}/{member}: {fault}")
    assert str(caught.value).endswith(REMEDY)


def test_a_missing_manifest_is_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(IntegrityError, match=r"manifest.json: pack is damaged: No such file"):
        list(pack(str(folder)))


def rewrite(folder: Path, listing: bytes, files: list[File], /, **changes: object) -> None:
    """Change the listing and the manifest together, as an attacker could."""
    (folder / "files.jsonl").write_bytes(listing)
    value = manifest(files, lines=listing, roots=[("out", "folder")], outputs=changes)
    (folder / "manifest.json").write_bytes(canonical(value))


def test_a_listing_that_does_not_match_the_manifest_is_refused(folder: Path) -> None:
    whole = (folder / "files.jsonl").read_bytes()
    files = [File("a.txt", b"one"), File("b/c.txt", b"three"), File("empty/"), File("void")]
    rewrite(folder, whole, files)
    assert list(pack(str(folder)))
    rewrite(folder, whole, files, files=4)
    with pytest.raises(IntegrityError, match=rf"^{folder}/files.jsonl: outputs are not those of the manifest"):
        list(pack(str(folder)))
    rewrite(folder, b"".join(whole.splitlines(keepends=True)[1:]), files)
    with pytest.raises(IntegrityError, match="outputs are not those of the manifest"):
        list(pack(str(folder)))
    rewrite(folder, whole.replace(b'"a.txt"', b'"../x"'), files)
    with pytest.raises(IntegrityError, match=r"'../x': unsafe listing"):
        list(pack(str(folder)))


def test_nothing_after_the_damage_is_yielded(folder: Path) -> None:
    flip(folder / "artifacts/a.txt")
    handed_out: list[bytes] = []
    with pytest.raises(IntegrityError):
        handed_out.extend(pack(str(folder)))
    assert len(handed_out) == 2, "the manifest and the listings were sound"


def lowest_free_descriptor() -> int:
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def test_no_file_stays_open(tmp_path: Path, make_pack: MakePack) -> None:
    noise = os.urandom(12 << 20)
    folder = make_pack(write_folder({"big": noise, "small": b"x"}, tmp_path / "out"))
    before = lowest_free_descriptor()
    pieces = pack(str(folder))
    for _ in range(4):
        next(pieces)
    assert lowest_free_descriptor() > before, "a file is being read"
    pieces.close()
    assert lowest_free_descriptor() == before
    flip(folder / "artifacts/big")
    with pytest.raises(IntegrityError) as caught:
        list(pack(str(folder)))
    assert lowest_free_descriptor() == before, "also while the exception exists"
    assert caught.value.what == "content differs from its digest"


def test_each_member_is_in_the_stream_once_and_in_order(folder: Path) -> None:
    names = [member.header[:100].rstrip(b"\0").decode() for member in members(b"".join(pack(str(folder))))]
    assert names == [
        "manifest.json",
        "files.jsonl",
        "artifacts/",
        "artifacts/a.txt",
        "artifacts/b/c.txt",
        "artifacts/empty/",
        "artifacts/void",
    ]


def members(data: bytes) -> list[Member]:
    found = []
    while any(data[:512]):
        size = int(data[124:135], 8)
        found.append(Member(data[:512], data[512 : 512 + size]))
        data = data[512 + size + -size % 512 :]
    assert data == bytes(1024)
    return found


def test_a_file_of_16_mib_is_cut_by_itself(tmp_path: Path, make_pack: MakePack) -> None:
    noise = random.Random(1)
    large = noise.randbytes(16 << 20)
    alone, among = tmp_path / "alone", tmp_path / "among"
    write_folder({"l": b"", "m": large}, alone)
    write_folder({"a": noise.randbytes(3 << 20), "m": large, "n": noise.randbytes(3 << 20), "z": large}, among)
    pieces = [list(pack(str(make_pack(folder)))) for folder in (alone, among)]
    start = next(number for number, piece in enumerate(pieces[0]) if piece.startswith(b"artifacts/m\0"))
    assert len(pieces[0][start:-1]) > 100
    assert contains(pieces[1], pieces[0][start:-2]), "all but the end of the stream"
    assert [piece[:12].rstrip(b"\0") for piece in pieces[1] if piece.startswith(b"artifacts/")] == [
        b"artifacts/",
        b"artifacts/m",
        b"artifacts/n",
        b"artifacts/z",
    ]


def test_a_file_below_16_mib_is_cut_with_its_neighbours(tmp_path: Path, make_pack: MakePack) -> None:
    content = {"a": b"", "m": bytes((16 << 20) - 1), "z": b""}
    pieces = list(pack(str(make_pack(write_folder(content, tmp_path / "out")))))
    assert not any(piece.startswith(b"artifacts/m\0") for piece in pieces[3:])


def contains(pieces: list[bytes], run: list[bytes]) -> bool:
    return any(pieces[start : start + len(run)] == run for start in range(len(pieces)))


def outputs_start(pieces: list[bytes]) -> int:
    return next(number for number, piece in enumerate(pieces) if piece.startswith(b"artifacts/"))


def small_files(seed: int, count: int) -> dict[str, bytes]:
    noise = random.Random(seed)
    return {f"{number:04}": noise.randbytes(noise.randrange(5_000, 60_000)) for number in range(count)}


def test_a_changed_file_among_many_costs_its_own_pieces(tmp_path: Path, make_pack: MakePack) -> None:
    files = small_files(1, 300)
    before = list(pack(str(make_pack(write_folder(files, tmp_path / "before")))))
    files["0150"] = random.Random(2).randbytes(45_000)
    after = list(pack(str(make_pack(write_folder(files, tmp_path / "after")))))
    outputs = after[outputs_start(after) :]
    new = [number for number, piece in enumerate(outputs) if piece not in set(before)]
    changed = next(number for number, piece in enumerate(outputs) if b"artifacts/0150\0" in piece)
    assert len(outputs) > 80
    assert changed - 1 <= min(new) <= max(new) <= changed + 2


def test_most_cuts_among_small_files_are_at_their_starts(tmp_path: Path, make_pack: MakePack) -> None:
    pieces = list(pack(str(make_pack(write_folder(small_files(3, 200), tmp_path / "out")))))[2:]
    assert len(pieces) > 50
    assert sum(piece.startswith(b"artifacts/") for piece in pieces) > 0.7 * len(pieces)


def test_listings_are_cut_finer(tmp_path: Path, make_pack: MakePack) -> None:
    files = {f"{number:04}": b"%d" % number for number in range(600)}
    before = list(pack(str(make_pack(write_folder(files, tmp_path / "before")))))
    files["0300"] = b"changed"
    after = list(pack(str(make_pack(write_folder(files, tmp_path / "after")))))
    listing = after[1 : outputs_start(after)]
    assert 3_000 < sum(map(len, listing)) / len(listing) < 8_000
    assert sum(map(len, set(listing) - set(before))) < 16_000
