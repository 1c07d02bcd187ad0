"""A pack is sound when every byte is what the manifest and the listings say, and there is nothing else."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from folder_trees import Folder, folder_trees, write_folder
from forged_pack import CONTRACT, File, canonical, listing, manifest
from hypothesis import given
from made_pack import make_pack_in, named

from ctxpack_bundle import RootListings, assemble, folder_size, read_pack_manifest, verify_pack
from ctxpack_identity import IntegrityError, LocalFailure, TreeEntry, digest_of, hex_of

MakePack = Callable[..., Path]
MIB = 1 << 20
REMEDY = "; pull it anew, or make it again"
CONTENT = {"a": b"one", "b": {"c": b"two", "empty": {}}, "large": b"x" * (2 * MIB)}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack with every kind of listing."""
    folder = write_folder({"pack": {}, "out": CONTENT, "tool": b"#!"}, tmp_path / "w") / "pack"
    (folder.parent / "tool").chmod(0o755)
    listings = RootListings(str(folder))
    for root in ("inputs/raw", "inputs/raw-b", "code/0", "code/10", "environment/0"):
        listings.add(root, TreeEntry("x", 4, hex_of(digest_of(b"text"))))
    listings.add_text("environment/0", b"lock")
    assemble(
        str(folder),
        named([folder.parent / "out", folder.parent / "tool"]),
        contract=canonical(CONTRACT),
        listings=listings.finish(["inputs/raw", "inputs/raw-b", "code/0", "code/10", "environment/0"]),
    )
    return folder


def refused(pack: Path) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        verify_pack(str(pack))
    assert [thread.name for thread in threading.enumerate() if thread.name == "hash"] == []
    return caught.value


def test_a_sound_pack_is_its_manifest(pack: Path) -> None:
    assert verify_pack(str(pack)) == read_pack_manifest(str(pack))


@given(folder_trees())
def test_every_pack_is_sound_when_it_is_made(tmp_path_factory: pytest.TempPathFactory, content: Folder) -> None:
    here = tmp_path_factory.mktemp("sound")
    verify_pack(str(make_pack_in(here / "pack", [write_folder(content, here / "outputs")])))


def test_a_sealed_pack_is_sound(pack: Path) -> None:
    paths = sorted(pack.rglob("*"), reverse=True)
    for path in paths:
        path.chmod(0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444)
    verify_pack(str(pack))
    for path in paths:
        path.chmod(0o755)


def test_progress_is_reported_in_bytes(pack: Path) -> None:
    reported: list[tuple[str, int, int | None]] = []
    manifest = verify_pack(str(pack), progress=lambda *step: reported.append(step))
    size = sum(file.stat().st_size for file in files_of(pack))
    assert {(stage, total) for stage, _, total in reported} == {("hash", size)}
    assert sum(advanced for _, advanced, _ in reported) == size == folder_size(manifest)


def files_of(pack: Path) -> Iterator[Path]:
    return (path for path in sorted(pack.rglob("*")) if path.is_file())


def flip(path: Path, position: int, bit: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        [byte] = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def test_a_flipped_bit_anywhere_but_in_the_manifest_is_refused_and_names_the_file(pack: Path) -> None:
    """The manifest names the contract by its URI, and everything else by digest; nothing in the folder names it."""
    for path in files_of(pack):
        size = path.stat().st_size
        for position in sorted({0, size // 3, size // 2, size - 1}):
            if path.name == "manifest.json":
                continue
            flip(path, position)
            error = refused(pack)
            assert error.where.startswith(str(path)), position
            assert str(error).endswith(REMEDY)
            flip(path, position)
    verify_pack(str(pack))


def test_every_file_that_is_lost_or_cut_is_named(pack: Path) -> None:
    for path in list(files_of(pack)):
        data = path.read_bytes()
        mode = path.stat().st_mode
        path.unlink()
        assert refused(pack).where == str(path)
        path.write_bytes(data[:-1])
        path.chmod(mode)
        assert refused(pack).where.startswith(str(path))
        path.write_bytes(data + b"\n")
        assert refused(pack).where.startswith(str(path))
        path.write_bytes(data)
    verify_pack(str(pack))


def test_everything_more_is_named(pack: Path) -> None:
    folders = [pack, *(path for path in sorted(pack.rglob("*")) if path.is_dir())]
    for folder in folders:
        for name in ("-first", "middle", "~last", "artifacts.txt"):
            more = folder / name
            for make in (Path.touch, Path.mkdir):
                make(more)
                error = refused(pack)
                assert (error.what, error.where) == ("not a part of the pack", str(more))
                removed(more)
    verify_pack(str(pack))


def removed(path: Path) -> Path:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    return path


def becomes_link(path: Path) -> None:
    """The same content is there, behind a link that leads out of the pack."""
    [around] = (parent for parent in path.parents if parent.name == "w")
    path.symlink_to(path.rename(around / "linked"))


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "another mode": (
        "artifacts/out/a",
        lambda path: path.chmod(0o755),
        "expected a file that is not executable, got an",
    ),
    "no longer executable": ("artifacts/tool", lambda path: path.chmod(0o444), "got a file that is not executable"),
    "an executable listing": ("files.jsonl", lambda path: path.chmod(0o755), "got an executable file"),
    "a file in place of an empty folder": (
        "artifacts/out/b/empty",
        lambda path: removed(path).touch(),
        "expected an empty folder, got a file that is not executable",
    ),
    "an empty folder in place of a file": (
        "artifacts/out/a",
        lambda path: removed(path).mkdir(),
        "expected a file that is not executable, got an empty folder",
    ),
    "a lost empty folder": ("artifacts/out/b/empty", lambda path: path.rmdir(), "it is missing"),
    "a lost folder": ("artifacts/out/b/c", lambda path: path.parent.rename(path.parents[4] / "x"), "it is missing"),
    "a link to the same content": (
        "artifacts/out/a",
        becomes_link,
        "pack is damaged: symbolic link",
    ),
    "a linked folder": (
        "artifacts/out/b",
        becomes_link,
        "pack is damaged: symbolic link",
    ),
    "a linked listing": (
        "code/0.jsonl",
        becomes_link,
        "pack is damaged: symbolic link",
    ),
    "a linked manifest": (
        "manifest.json",
        becomes_link,
        "pack is damaged: symbolic link",
    ),
    "a FIFO": ("artifacts/out/a", lambda path: os.mkfifo(removed(path)), "device, FIFO or socket"),
    "no outputs": ("artifacts/out/a", lambda path: path.parents[1].rename(path.parents[3] / "gone"), "it is missing"),
}


@pytest.mark.parametrize(("name", "damage", "fault"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_of_another_kind_is_named(pack: Path, name: str, damage: Callable[[Path], object], fault: str) -> None:
    damage(pack / name)
    error = refused(pack)
    assert error.where == f"{pack}/{name}"
    assert fault in str(error)


def test_an_empty_folder_in_the_cache_is_no_pack(tmp_path: Path) -> None:
    assert refused(tmp_path).where == f"{tmp_path}/manifest.json"
    assert refused(tmp_path / "none").where == f"{tmp_path}/none/manifest.json"


FILES = [File("a", b"one"), File("b/c", b"two")]


def write_forged(folder: Path, *, listed: dict[str, bytes] | None = None, files: bytes = listing(FILES)) -> None:
    """Write a pack whose manifest fits its listings."""
    document = manifest(FILES, listed=listed or {})
    for item in document["listings"]:
        if item["path"] == "files.jsonl":
            item.update(digest=digest_of(files), size=len(files))
    content = {
        "manifest.json": canonical(document),
        "files.jsonl": files,
        "artifacts": {"a": b"one", "b": {"c": b"two"}},
    }
    write_folder(content, folder)
    for path, data in (listed or {}).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)


def test_a_forged_pack_is_sound_when_all_is_right(tmp_path: Path) -> None:
    write_forged(tmp_path / "p", listed={"code/0.jsonl": listing([File("x", b"y")]), "environment/0.txt": b"\xff"})
    verify_pack(str(tmp_path / "p"))


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (listing(FILES[:1]), "outputs are not those of the manifest"),
        (listing([FILES[0], File("b/c", b"2wo")]), "content differs from its digest"),
        (listing([FILES[1], FILES[0]]), "not a part of the pack"),
        (listing(FILES) + b"{}\n", "malformed line"),
    ],
)
def test_a_listing_that_is_not_the_outputs_is_refused(tmp_path: Path, files: bytes, fault: str) -> None:
    write_forged(tmp_path / "p", files=files)
    assert fault in str(refused(tmp_path / "p"))


def test_a_line_of_any_listing_that_is_malformed_is_refused(tmp_path: Path) -> None:
    write_forged(tmp_path / "p", listed={"inputs/raw.jsonl": listing([File("x", b"y")]) + b"{}\n"})
    error = refused(tmp_path / "p")
    assert (error.what, error.where) == ("malformed line", f"{tmp_path}/p/inputs/raw.jsonl, line 2")


def test_what_this_machine_cannot_read_is_no_damage(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> object:
        raise LocalFailure("cannot be read: too many open files", where="x", code="E_INPUT_UNREADABLE")

    monkeypatch.setattr("ctxpack_bundle.verifying.hash_tree", fail)
    with pytest.raises(LocalFailure, match="too many open files"):
        verify_pack(str(pack))


def test_a_manifest_that_claims_other_outputs_is_refused(pack: Path) -> None:
    document = json.loads((pack / "manifest.json").read_bytes())
    document["outputs"]["size"] += 1
    (pack / "manifest.json").write_bytes(canonical(document))
    assert refused(pack).what == "outputs are not those of the manifest"
