"""Some outputs are the same files as in the whole pack, and are read from only the pieces that hold them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from folder_trees import Executable, Folder, folder_trees, read_folder, write_folder
from forged_pack import END, File, Member, forge, listing, manifest, stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_pack import make_pack_in

from ctxpack_bundle import (
    Excerpt,
    PackManifest,
    PackStream,
    Selection,
    Spans,
    content_span,
    listing_excerpt,
    pack,
    pack_manifest_of,
    read_entries,
    read_pack_manifest,
    unpack_entries,
    unpack_listing,
)
from ctxpack_bundle.members import manifest_part
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_identity import IntegrityError, hash_tree

FILES = [File("a", b"one"), File("b/c/d", b"!", executable=True), File("b/e/"), File("f", b"x" * 1500), File("g", b"g")]
LISTED = {
    "environment/0.jsonl": listing([File("", b"lock")]),
    "environment/0.txt": b"lock",
    "inputs/raw.jsonl": listing([File("page-1", b"text")]),
}


def pieces_of(members: Sequence[Member], *, end: bytes = END) -> list[bytes]:
    """One piece for each member, and one for the end."""
    return [*(member.encoded() for member in members), end]


def by_path(*paths: str) -> Callable[[str], bool]:
    return lambda path: path in paths


def refused(arena: Any, pieces: Sequence[bytes], wanted: Callable[[str], bool], **options: Any) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        arena.pick(pieces, wanted, **options)
    return caught.value


def everything(path: str) -> bool:
    return True


def test_only_the_wanted_outputs_are_written_from_only_their_pieces(arena: Any) -> None:
    """The pack is forged: this tests the reader alone. Each member is a piece, so only the wanted ones are needed."""
    members = forge(FILES, listed=LISTED)
    selection, needed = arena.pick(pieces_of(members), by_path("b/c/d", "b/e/", "g"))
    assert read_folder(arena.staging / "picked") == {"b": {"c": {"d": Executable(b"!")}, "e": {}}, "g": b"g"}
    order = ["manifest", "listing", *LISTED, "artifacts/", "a", "d", "e", "f", "g", "end"]
    assert [order[number] for number in sorted(needed)] == ["manifest", "listing", "d", "e", "g"]
    assert (selection.outputs.files, selection.outputs.empty_folders, selection.outputs.size) == (2, 1, 2)
    assert selection.outputs.digest == hash_tree(str(arena.staging / "picked")).digest


def test_no_wanted_output_needs_no_piece_after_the_listing(arena: Any) -> None:
    selection, needed = arena.pick(pieces_of(forge(FILES)), by_path("b", "b/", "b/c/"))
    assert list(selection.entries()) == []
    assert needed == {0, 1}
    assert read_folder(arena.staging / "picked") == {}


def holding(folder: Path, paths: Iterable[str], sizes: Sequence[int]) -> set[int]:
    """Return the numbers of the pieces that hold a byte of these members, according to Python's tarfile."""
    names = {f"artifacts/{path}".rstrip("/") for path in paths}
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(str(folder))))) as archive:
        spans = [
            (info.offset, info.offset_data + info.size + -info.size % 512)
            for info in archive.getmembers()
            if info.name in names
        ]
    ends = [0, *accumulate(sizes)]
    pieces = enumerate(pairwise(ends))
    return {
        n for n, (begin, end) in pieces if any(start < end and begin < stop for start, stop in spans) and begin < end
    }


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=folder_trees(), data=st.data())
def test_any_outputs_are_written_from_the_pieces_that_hold_them(
    arena: Any, content: Folder, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = write_folder(content, Path(scratch, "out"))
        folder = make_pack_in(Path(scratch, "pack"), [source])
        paths = [entry.path for entry in read_entries(str(folder))]
        chosen = data.draw(st.sets(st.sampled_from(paths))) if paths else set()
        tar = b"".join(pack(str(folder)))
        first = len(manifest_part(read_pack_manifest(str(folder))))
        cuts = sorted(data.draw(st.lists(st.integers(first, len(tar)), max_size=20)))
        pieces = [tar[start:stop] for start, stop in pairwise([0, first, *cuts, len(tar)])]
        _, needed = arena.pick(pieces, chosen.__contains__)
        sizes = [len(piece) for piece in pieces]
        listing = {0, *listing_excerpt(read_pack_manifest(str(folder)), sizes).needed}
        assert needed == listing | holding(folder, chosen, sizes)
        for path in set(paths) - chosen:
            _remove(source, path)
        assert read_folder(arena.staging / "picked") == read_folder(source)


def _remove(root: Path, path: str) -> None:
    """Remove a file or empty folder, and the folders above that become empty: a pack has no members for these."""
    location = root / path
    location.rmdir() if path.endswith("/") else location.unlink()
    for folder in location.parents:
        if folder == root or any(folder.iterdir()):
            break
        folder.rmdir()


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


def test_a_flipped_bit_is_refused_in_needed_pieces_and_has_no_effect_in_others(quick_arena: Any) -> None:
    pieces = pieces_of(forge(FILES))
    wanted = by_path("a", "b/c/d", "b/e/")
    quick_arena.pick(pieces, wanted)
    right = read_folder(quick_arena.staging / "picked")
    needed = (1, 3, 4, 5)
    for number in range(1, len(pieces)):
        for position in range(0, len(pieces[number]), 1 if number in needed else 5):
            changed = [*pieces[:number], flipped(pieces[number], position), *pieces[number + 1 :]]
            if number in needed:
                assert refused(quick_arena, changed, wanted).where.startswith("a pack"), (number, position)
            else:
                quick_arena.pick(changed, wanted)
                assert read_folder(quick_arena.staging / "picked") == right


def test_every_truncation_of_a_needed_piece_is_refused(quick_arena: Any) -> None:
    pieces = pieces_of(forge(FILES))
    sizes = [len(piece) for piece in pieces]
    for number in (1, 3, 6):
        for length in range(0, sizes[number], 7):
            changed = [*pieces[:number], pieces[number][:length], *pieces[number + 1 :]]
            error = refused(quick_arena, changed, by_path("a", "f"), sizes=sizes)
            assert error.what in ("pack ends too early", "archive differs from its listing")


HONEST = [len(piece) for piece in pieces_of(forge(FILES))]


@pytest.mark.parametrize(
    ("sizes", "fault"),
    [
        (
            [*HONEST[:-1], HONEST[-1] + 1],
            f"a pack: pieces do not make up the pack: expected {sum(HONEST)} bytes, got {sum(HONEST) + 1}",
        ),
        (HONEST[:-1], "pieces do not make up the pack"),
        ([*HONEST, 512], "pieces do not make up the pack"),
        ([*HONEST[:2], *([10**11] * 10_000)], "pieces do not make up the pack"),
        ([*HONEST[:3], HONEST[3] + 512, HONEST[4] - 512, *HONEST[5:]], "a pack, artifacts/b/c/d: "),
        ([HONEST[0] + 512, HONEST[1] - 512, *HONEST[2:]], "a pack, files.jsonl: "),
        (HONEST[:1], "files.jsonl: pack ends too early"),
        ([0] * 11, "files.jsonl: pack ends too early"),
    ],
    ids=["longer", "one less", "one more", "endless", "shifted", "shifted listing", "manifest alone", "all empty"],
)
def test_wrong_piece_sizes_are_refused(arena: Any, sizes: list[int], fault: str) -> None:
    pieces = pieces_of(forge(FILES))
    pieces += [b""] * (len(sizes) - len(pieces))
    assert fault in str(refused(arena, pieces, by_path("b/c/d"), sizes=sizes))


def test_another_member_in_place_of_the_wanted_one_is_refused(arena: Any) -> None:
    pieces = pieces_of(forge(FILES))
    pieces[3], pieces[7] = pieces[7], pieces[3]
    error = refused(arena, pieces, by_path("a"))
    assert str(error) == (
        "a pack, artifacts/a: archive differs from its listing: expected the one header format v1 allows"
        f"; {IN_REGISTRY}"
    )


def test_content_that_differs_from_the_listing_is_refused(arena: Any) -> None:
    members = forge(FILES)
    members[3] = members[3]._replace(content=b"two")
    error = refused(arena, pieces_of(members), by_path("a"))
    assert (error.where, error.what) == ("a pack, artifacts/a", "content differs from its digest")
    arena.pick(pieces_of(members), by_path("f"))


UNSAFE = [
    "..",
    "../canary",
    "a/../../../canary",
    "/tmp/ctxpack-canary",
    ".",
    "a//b",
    "",
    "..\\canary",
    "a\0b",
    "a\x1bb",
]


@pytest.mark.parametrize("path", UNSAFE, ids=repr)
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("wanted", [everything, by_path("ok")], ids=["wanted", "not wanted"])
def test_an_unsafe_path_in_a_consistent_pack_is_refused(
    arena: Any, path: str, kind: str, wanted: Callable[[str], bool]
) -> None:
    unsafe = File(path + "/") if kind == "folder" else File(path, b"evil")
    error = refused(arena, pieces_of(forge([unsafe, File("ok", b"ok")])), wanted)
    assert error.what.startswith(("unsafe listing: ", "malformed line"))
    assert str(error).isprintable()
    assert not (arena.staging / "picked").exists()


@pytest.mark.parametrize(
    "files",
    [
        [File("a", b"1"), File("a", b"2")],
        [File("a", b"1"), File("a/b", b"2")],
        [File("a/"), File("a/b", b"2")],
        [File("b", b"1"), File("a", b"2")],
        [File("a/x", b"1"), File("b", b"2"), File("a/y", b"3")],
    ],
    ids=["twice", "file as a parent", "empty folder as a parent", "not in order", "left and entered again"],
)
def test_conflicting_paths_in_a_consistent_pack_are_refused(arena: Any, files: list[File]) -> None:
    error = refused(arena, pieces_of(forge(files)), by_path("b"))
    assert error.what.startswith("unsafe listing: path ")


LINE = listing([File("a", b"one")]).decode()


@pytest.mark.parametrize(
    ("lines", "changes", "fault"),
    [
        (LINE.replace(LINE[40:45], "00000"), {}, "outputs are not those of the manifest"),
        (LINE.replace(":3}", ":2}"), {"outputs": {"size": 2}}, "outputs are not those of the manifest"),
        (LINE + LINE.replace('"a"', '"b"'), {}, "outputs are not those of the manifest"),
        ("", {}, "outputs are not those of the manifest"),
        (LINE[:-1], {}, "malformed line"),
        (LINE.replace("0644", "4755"), {}, "malformed line"),
        (LINE, {"outputs": {"files": 2}}, "outputs are not those of the manifest"),
        (LINE, {"outputs": {"digest": "sha256:" + "0" * 64}}, "outputs are not those of the manifest"),
        (LINE, {"roots": [("b", "file")]}, "entry belongs to no output"),
        (LINE, {"roots": [("a", "file"), ("b", "file")]}, "outputs are not those of the manifest"),
    ],
)
def test_a_wrong_listing_is_refused_whatever_is_wanted(
    arena: Any, lines: str, changes: dict[str, Any], fault: str
) -> None:
    """Also if no wanted output is affected: manifest and listing must agree as a whole."""
    for wanted in (everything, by_path()):
        error = refused(arena, pieces_of(forge([File("a", b"one")], lines=lines.encode(), **changes)), wanted)
        assert error.what == fault


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"digest": "sha256:" + "0" * 64}, "content differs from its digest"),
        ({"size": 7}, "archive differs from its listing"),
        ({"size": 2**53 - 1}, "archive differs from its listing"),
    ],
)
def test_a_manifest_that_does_not_match_its_listing_is_refused(arena: Any, changes: dict[str, Any], fault: str) -> None:
    listings = [manifest(FILES)["listings"][0] | changes]
    assert refused(arena, pieces_of(forge(FILES, listings=listings)), everything).what == fault


def test_a_listing_with_a_total_size_beyond_the_limit_is_refused(arena: Any) -> None:
    """Positions have 64 bits, and many files of 8 PiB would exceed them."""
    huge = [f'{{"mode":"0644","path":"{n:04}","sha256":"{"0" * 64}","size":{2**53 - 1}}}\n' for n in range(2100)]
    pieces = pieces_of(forge([], lines="".join(huge).encode()))
    error = refused(arena, pieces, everything)
    assert (error.where, error.what, error.got) == ("a pack, files.jsonl", "no pack is that large", "'0511'")


def test_every_listing_can_be_read_alone(tmp_path: Path) -> None:
    """The piece of the listing is enough; the other pieces are not read."""
    listed = LISTED | {"inputs/void.jsonl": b"", "inputs/x.jsonl": listing([File("x/y", b"1")])}
    pieces = pieces_of(forge(FILES, listed=listed))
    document = pack_manifest_of(pieces[0], where="a pack")
    sizes = [len(piece) for piece in pieces]
    for number, one in reversed([*enumerate(document.listings, 1)]):
        excerpt = listing_excerpt(document, sizes, listing=one)
        assert excerpt.needed == (number,)
        unpack_listing(excerpt.cut([pieces[number]]), str(tmp_path), one, where="a pack")
        assert (tmp_path / one.path).read_bytes() == [listing(FILES), *listed.values()][number - 1]
    assert listing_excerpt(document, sizes).needed == (1,)


def test_a_listing_of_another_pack_has_no_excerpt() -> None:
    one, other = (
        pack_manifest_of(forge(FILES, listed={"inputs/raw.jsonl": lines})[0].encoded(), where="a pack")
        for lines in (b"", listing(FILES))
    )
    with pytest.raises(ValueError, match="not in tuple"):
        listing_excerpt(one, [], listing=other.listings[1])


def in_a_folder(files: Sequence[File], folder: Path, **options: Any) -> PackManifest:
    """Write the listing of a forged pack into folder, and return its manifest."""
    members = forge(files, **options)
    (folder / "files.jsonl").write_bytes(members[1].content)
    return pack_manifest_of(members[0].encoded(), where="a pack")


@settings(max_examples=40)
@given(content=folder_trees(), data=st.data())
def test_content_span_is_where_the_stream_has_the_content(content: Folder, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_pack_in(Path(scratch, "pack"), [write_folder(content, Path(scratch, "out"))])
        document = read_pack_manifest(str(folder))
        tar = b"".join(pack(str(folder)))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(tar)), max_size=20)))
        pieces = [tar[start:stop] for start, stop in pairwise([0, *cuts, len(tar)])]
        with PackStream(str(folder)) as whole:
            for entry in read_entries(str(folder)):
                span = content_span(str(folder), document, entry.path, where="a pack")
                if entry.is_empty_folder:
                    assert span is None
                    continue
                assert span is not None
                expected = (folder / "artifacts" / entry.path).read_bytes()
                assert span.size == entry.size
                assert whole.read(*span) == expected
                first, last = sorted(data.draw(st.tuples(*[st.integers(0, span.size)] * 2)))
                spans = Spans()
                spans.add(span.start + first, span.start + last)
                excerpt = Excerpt(spans, [len(piece) for piece in pieces])
                assert b"".join(excerpt.cut(pieces[number] for number in excerpt.needed)) == expected[first:last]


def test_content_span_of_a_path_that_needs_pax_records(tmp_path: Path) -> None:
    long = "d" * 120 + "/é"
    document = in_a_folder([File("a", b"one"), File(long, b"content")], tmp_path)
    tar = stream(forge([File("a", b"one"), File(long, b"content")]))
    assert content_span(str(tmp_path), document, long, where="a pack") == (tar.index(b"content\0"), 7)


@pytest.mark.parametrize("path", ["", ".", "b", "b/", "b/e", "b/e/", "a/", "/a", "h", "artifacts/a"])
def test_content_span_of_what_is_no_file_is_none(tmp_path: Path, path: str) -> None:
    assert content_span(str(tmp_path), in_a_folder(FILES, tmp_path), path, where="a pack") is None


@pytest.mark.parametrize(
    ("files", "changes", "fault"),
    [
        ([File("a", b"1"), File("a", b"2")], {}, "unsafe listing: "),
        ([File("a", b"1"), File("b/../c", b"2")], {}, "unsafe listing: "),
        ([File("a", b"1")], {"outputs": {"size": 2}}, "outputs are not those of the manifest"),
        ([File("a", b"1")], {"lines": b"{}\n"}, "malformed line"),
    ],
)
def test_content_span_checks_the_whole_listing(
    tmp_path: Path, files: list[File], changes: dict[str, Any], fault: str
) -> None:
    """Also the lines after the wanted one."""
    document = in_a_folder(files, tmp_path, **changes)
    with pytest.raises(IntegrityError) as caught:
        content_span(str(tmp_path), document, "a", where="a pack")
    assert caught.value.what.startswith(fault)


def test_the_umask_decides_the_modes(arena: Any) -> None:
    before = os.umask(0o007)
    try:
        arena.pick(pieces_of(forge(FILES)), by_path("a", "b/c/d"))
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((arena.staging / "picked" / name).stat().st_mode) for name in ("a", "b/c/d", "b")}
    assert modes == {"a": 0o660, "b/c/d": 0o770, "b": 0o770}


def test_an_existing_file_is_never_overwritten(tmp_path: Path, make_pack: Callable[..., Path]) -> None:
    folder = make_pack(write_folder({"a": b"one"}, tmp_path / "out"))
    selection = Selection(str(folder), read_pack_manifest(str(folder)), everything, where="a pack")
    excerpt = selection.excerpt([len(piece) for piece in pack(str(folder))])
    pieces = [piece for number, piece in enumerate(pack(str(folder))) if number in excerpt.needed]
    with pytest.raises(FileExistsError):
        unpack_entries(excerpt.cut(pieces), str(tmp_path / "out"), selection.entries(), modes=0o777, where="a pack")


def test_memory_does_not_grow_with_the_wanted_outputs(
    tmp_path: Path, make_pack: Callable[..., Path], arena: Any
) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(32 << 20)
    write_folder({f"{number:05}": b"" for number in range(5000)}, tmp_path / "many")
    folder = make_pack(tmp_path / "large", tmp_path / "many")
    pieces = list(pack(str(folder)))
    tracemalloc.start()
    try:
        arena.pick(pieces, lambda path: path == "large" or path.endswith(("1", "3", "5")))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert (arena.staging / "picked" / "large").stat().st_size == 32 << 20
    assert len(os.listdir(arena.staging / "picked" / "many")) == 1500
