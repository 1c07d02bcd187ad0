"""From a pack folder to pieces: where pieces end, and errors for a damaged folder."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_trees import write_folder
from forged_pack import File, Member, canonical, forge, manifest, stream

from ctxpack_bundle import InputListings, pack, read_pack_manifest, stream_size
from ctxpack_identity import IntegrityError, TreeEntry, digest_of, hex_of

MakePack = Callable[..., Path]
REMEDY = "; remove the pack (ctxpack rm) and pull or seed it again"
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
    inputs = InputListings(str(tmp_path))
    inputs.add("raw", TreeEntry("x", 0, hex_of(digest_of(b""))))
    listed = inputs.finish(["raw"])
    folder = make_pack(write_folder(TEXT, tmp_path / "out"), inputs=listed)
    (tmp_path / "inputs").rename(folder / "inputs")
    pieces = list(pack(str(folder)))
    heads = [piece[: piece.index(0)].decode() for piece in pieces]
    assert heads == ["manifest.json", "files.jsonl", "artifacts/"]
    assert len(pieces[0]) == 512 + 512 * -(-len((folder / "manifest.json").read_bytes()) // 512)
    assert b"inputs/raw.jsonl" in pieces[1]


def test_stream_size_is_close_to_the_size_of_the_stream(folder: Path) -> None:
    assert abs(stream_size(read_pack_manifest(str(folder))) - len(b"".join(pack(str(folder))))) < 4096


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
        (flip, "file differs from its listing: expected sha256:"),
        (become_a_link, "pack is damaged: Too many levels of symbolic links"),
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
    pieces.close()  # type: ignore[attr-defined]
    assert lowest_free_descriptor() == before
    flip(folder / "artifacts/big")
    with pytest.raises(IntegrityError) as caught:
        list(pack(str(folder)))
    assert lowest_free_descriptor() == before, "also while the exception exists"
    assert caught.value.what == "file differs from its listing"


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


def test_a_large_file_has_the_same_pieces_whatever_its_neighbours_are(tmp_path: Path, make_pack: MakePack) -> None:
    noise = random.Random(1)
    large = noise.randbytes(20 << 20)
    alone, among = tmp_path / "alone", tmp_path / "among"
    write_folder({"m": large}, alone)
    write_folder({"a": noise.randbytes(3 << 20), "m": large, "z": noise.randbytes(3 << 20)}, among)
    pieces = [list(pack(str(make_pack(folder)))) for folder in (alone, among)]
    assert len(pieces[0]) > 6
    middle = pieces[0][3:-1]  # all but manifest, listing, and the pieces with the start and end of the outputs
    assert set(middle) <= set(pieces[1])
    assert sum(piece.startswith(b"artifacts/m\0") for piece in pieces[1]) == 1
