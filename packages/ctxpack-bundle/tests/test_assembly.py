"""From outputs to a pack folder: copies, refused outputs, and the text of errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from folder_trees import Executable, folder_trees, read_folder, write_folder
from forged_pack import CONTRACT, canonical
from hypothesis import given
from hypothesis import strategies as st
from made_pack import named

from ctxpack_bundle import (
    Listing,
    OutputTree,
    RootListings,
    assemble,
    outputs_digest,
    parse_pack_manifest,
    read_entries,
    read_pack_manifest,
)
from ctxpack_bundle.listing import listing_line
from ctxpack_identity import (
    CtxPackError,
    IntegrityError,
    InvalidInput,
    TreeEntry,
    digest_of,
    hash_tree,
    hex_of,
    parse_canonical_contract,
    tree_digest,
)
from ctxpack_identity.hashing import outlook
from ctxpack_identity.tree import file_digest

MakePack = Callable[..., Path]


def roots(pack: Path) -> list[tuple[str, str]]:
    return [(root.name, root.type) for root in read_pack_manifest(str(pack)).outputs.roots]


def test_the_content_of_a_single_folder_lies_directly_in_artifacts(tmp_path: Path, make_pack: MakePack) -> None:
    content = {"a": b"1", "bin": {"run": Executable(b"#!")}, "empty": {}, "void": b""}
    source = write_folder(content, tmp_path / "out")
    pack = make_pack(source)
    assert read_folder(pack / "artifacts") == content
    assert roots(pack) == [("out", "folder")]
    outputs = read_pack_manifest(str(pack)).outputs
    assert (outputs.files, outputs.size, outputs.empty_folders) == (3, 3, 1)
    assert outputs.digest == hash_tree(str(source)).digest
    assert [entry.path for entry in read_entries(str(pack))] == ["a", "bin/run", "empty/", "void"]


def test_a_single_file_lies_in_artifacts_by_its_name(tmp_path: Path, make_pack: MakePack) -> None:
    (tmp_path / "model.bin").write_bytes(b"model")
    pack = make_pack(tmp_path / "model.bin")
    assert read_folder(pack / "artifacts") == {"model.bin": b"model"}
    assert roots(pack) == [("model.bin", "file")]
    entry = TreeEntry("model.bin", 5, hex_of(digest_of(b"model")))
    assert read_pack_manifest(str(pack)).outputs.digest == tree_digest([entry])


def test_several_outputs_lie_in_artifacts_by_their_names(tmp_path: Path, make_pack: MakePack) -> None:
    content = {"a": {"x": b"1"}, "a-b": {}, "a.txt": b"2", "none": {}}
    source = write_folder(content, tmp_path / "out")
    pack = make_pack(*(source / name for name in reversed(content)))
    assert read_folder(pack / "artifacts") == content
    assert roots(pack) == [("a", "folder"), ("a-b", "folder"), ("a.txt", "file"), ("none", "folder")]
    assert read_pack_manifest(str(pack)).outputs.digest == hash_tree(str(source)).digest


def test_an_empty_folder_is_an_output_too(tmp_path: Path, make_pack: MakePack) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone, both = make_pack(tmp_path / "one"), make_pack(tmp_path / "one", tmp_path / "two")
    assert read_folder(alone / "artifacts") == {}
    assert read_folder(both / "artifacts") == {"one": {}, "two": {}}
    assert read_pack_manifest(str(alone)).outputs.empty_folders == 0
    assert read_pack_manifest(str(both)).outputs.empty_folders == 2


def contract_with(*outputs: str) -> bytes:
    return canonical(CONTRACT | {"outputs": sorted(outputs)})


def test_a_root_has_the_name_that_is_given_wherever_it_lies(tmp_path: Path) -> None:
    source = write_folder({"a": b"1", "deep": {"b": b"2"}}, tmp_path / "here")
    (tmp_path / "pack").mkdir()
    outputs = {"report": OutputTree(str(source / "a")), "model": OutputTree(str(source / "deep"))}
    manifest = assemble(str(tmp_path / "pack"), outputs, contract=contract_with("report", "model"))
    assert roots(tmp_path / "pack") == [("model", "folder"), ("report", "file")]
    assert read_folder(tmp_path / "pack/artifacts") == {"model": {"b": b"2"}, "report": b"1"}
    assert read_pack_manifest(str(tmp_path / "pack")) == manifest


@pytest.mark.parametrize(
    ("declared", "given", "faults"),
    [
        (["a", "b"], ["a"], "missing 'b'"),
        (["a"], ["a", "b"], "too many 'b'"),
        (["a", "b"], ["c", "ü"], "missing 'a', 'b', too many 'c', 'ü'"),
        (["a"], ["A"], "missing 'a', too many 'A'"),
        (["a"], [], "missing 'a'"),
    ],
)
def test_outputs_are_those_that_the_contract_names(
    tmp_path: Path, declared: list[str], given: list[str], faults: str
) -> None:
    (tmp_path / "pack").mkdir()
    with pytest.raises(InvalidInput) as caught:
        assemble(
            str(tmp_path / "pack"), dict.fromkeys(given, OutputTree(str(tmp_path))), contract=contract_with(*declared)
        )
    assert str(caught.value) == (
        f"outputs are not those that the contract names: {faults}"
        "; give a file or folder for each of these names and for no other, or change the outputs in the contract"
    )
    assert caught.value.code == "E_OUTPUT_NAME"
    assert os.listdir(tmp_path / "pack") == []


def test_many_names_make_no_long_message(tmp_path: Path) -> None:
    names = [f"{number:03}{'n' * 200}" for number in range(1000)]
    with pytest.raises(InvalidInput) as caught:
        assemble(str(tmp_path), {}, contract=contract_with(*names))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "path is not relative and normal"),
        (".", "path is not relative and normal"),
        ("..", "path is not relative and normal"),
        ("/", "path is not relative and normal"),
        ("a/b", "name of an output holds a slash"),
        ("a/", "name of an output holds a slash"),
        ("a\\b", "name holds a backslash or a control character"),
        ("a\n", "name holds a backslash or a control character"),
        ("\ud800", "name is not Unicode text"),
        ("é" * 128, "name is longer than 255 bytes"),
    ],
)
def test_a_name_that_is_not_one_segment_is_refused(tmp_path: Path, name: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        assemble(str(tmp_path), {name: OutputTree(str(tmp_path))}, contract=canonical(CONTRACT))
    assert (caught.value.what, caught.value.where, caught.value.code) == (fault, repr(name), "E_PATH")
    with pytest.raises(InvalidInput) as caught:
        outputs_digest({name: OutputTree(str(tmp_path))})
    assert (caught.value.what, caught.value.where, caught.value.code) == (fault, repr(name), "E_PATH")


def test_outputs_are_copied_never_linked(tmp_path: Path, make_pack: MakePack) -> None:
    (tmp_path / "data").write_bytes(b"before")
    pack = make_pack(tmp_path / "data")
    (tmp_path / "data").write_bytes(b"after")
    assert (pack / "artifacts/data").read_bytes() == b"before"


def test_outputs_digest_is_the_digest_that_assemble_computes(tmp_path: Path, make_pack: MakePack) -> None:
    source = write_folder({"a": {"x": b"1"}, "f": b"2", "none": {}}, tmp_path / "out")
    for names in (["a"], ["f"], ["a", "f"], ["a", "none"]):
        pack = make_pack(*(source / name for name in names))
        assert outputs_digest(named([source / name for name in names])) == read_pack_manifest(str(pack)).outputs.digest


def test_provenance_is_kept_as_given(tmp_path: Path, make_pack: MakePack) -> None:
    (tmp_path / "f").write_bytes(b"")
    pack = make_pack(tmp_path / "f", provenance={"who": "ü", "seconds": 1.5})
    assert read_pack_manifest(str(pack)).provenance == {"who": "ü", "seconds": 1.5}


def test_progress_is_reported_in_bytes(tmp_path: Path, make_pack: MakePack) -> None:
    reported: list[tuple[str, int, int | None]] = []
    (tmp_path / "f").write_bytes(bytes(3 << 20))
    make_pack(tmp_path / "f", progress=lambda *step: reported.append(step))
    assert {stage for stage, *_ in reported} == {"seed"}
    assert sum(advanced for _, advanced, _ in reported) == 3 << 20
    assert reported[-1] == ("seed", 0, 3 << 20), "the walk ends after the only file, and the total is known then"
    assert len(reported) == 3 + 1


folders_and_files = folder_trees() | st.binary(max_size=50)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), folders_and_files, min_size=1),
    st.sampled_from([0, 1000]),
    st.sampled_from([0, 1000]),
)
def test_the_total_is_right_whenever_it_is_told(
    tmp_path_factory: pytest.TempPathFactory, content: Mapping[str, Any], after: int, turn: int
) -> None:
    here = write_folder({"outputs": content, "pack": {}}, tmp_path_factory.mktemp("total") / "w")
    reported: list[tuple[str, int, int | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlook, "AFTER", after)
        patch.setattr(outlook, "TURN", turn)
        outputs = named([here / "outputs" / name for name in content])
        progress = lambda *step: reported.append(step)  # noqa: E731
        manifest = assemble(str(here / "pack"), outputs, contract=canonical(CONTRACT), progress=progress)
    size = manifest.outputs.size
    assert sum(advanced for _, advanced, _ in reported) == size
    assert {total for *_, total in reported} <= {None, size}
    assert not size or reported[-1][2] == size
    if turn and not after:
        unknown = [advanced for _, advanced, total in reported if advanced and total is None]
        assert len(unknown) <= 1, "all is counted at the first opportunity"


def test_holes_count_as_what_they_are_read_as(
    tmp_path: Path, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "AFTER", 0)
    reported: list[tuple[str, int, int | None]] = []
    for name in ("a", "b"):
        with open(tmp_path / name, "xb") as file:
            file.seek(5 << 20)
            file.write(b"end")
            file.truncate(9 << 20)
    make_pack(tmp_path / "a", tmp_path / "b", progress=lambda *step: reported.append(step))
    assert sum(advanced for _, advanced, _ in reported) == 18 << 20
    assert [total for *_, total in reported] == [None] + [18 << 20] * (len(reported) - 1)


def test_what_a_count_cannot_walk_is_an_error_of_the_copy(
    tmp_path: Path, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "AFTER", 0)
    source = write_folder({"a": b"1", "b": b"2", "c": {}}, tmp_path / "out")
    (source / "c/link").symlink_to("../a")
    reported: list[tuple[str, int, int | None]] = []
    with pytest.raises(InvalidInput, match="symbolic link"):
        make_pack(source, progress=lambda *step: reported.append(step))
    assert reported == [("seed", 1, None), ("seed", 1, None)]


ENTRY = TreeEntry("x", 0, hex_of(digest_of(b"")))


def test_listings_and_texts_are_in_the_order_of_their_paths(tmp_path: Path, make_pack: MakePack) -> None:
    """`a-b` comes after `a`, but `inputs/a-b.jsonl` before `inputs/a.jsonl`."""
    names = ["a", "a-b", "a.b", "a.jsonl", "A", "_"]
    listed = [
        *(f"inputs/{name}" for name in names),
        *(f"{kind}/{index}" for kind in ("code", "environment") for index in range(12)),
    ]
    folder = tmp_path / "listed"
    folder.mkdir()
    listings = RootListings(str(folder))
    for round_ in ("1", "2"):
        for root in listed:
            listings.add(root, ENTRY._replace(path=round_))
    for index in (0, 10, 2):
        listings.add_text(f"environment/{index}", b"lock %d" % index)
    descriptors = listings.finish([*listed, "inputs/empty"])
    paths = [listing.path for listing in descriptors]
    texts = [f"environment/{index}.txt" for index in (0, 10, 2)]
    assert paths == sorted([*(f"{root}.jsonl" for root in [*listed, "inputs/empty"]), *texts])
    for listing in descriptors:
        data = (folder / listing.path).read_bytes()
        assert (listing.digest, listing.size) == (digest_of(data), len(data))
    assert [entry.path for entry in read_entries(str(folder), "inputs/a.jsonl")] == ["1", "2"]
    assert list(read_entries(str(folder), "inputs/empty.jsonl")) == []
    assert (folder / "environment/10.txt").read_bytes() == b"lock 10"
    (tmp_path / "f").write_bytes(b"")
    made = make_pack(tmp_path / "f", listings=descriptors)
    assert parse_pack_manifest((made / "manifest.json").read_bytes()).listings[1:] == descriptors


@given(folder_trees() | st.binary(max_size=50) | st.binary(max_size=50).map(Executable))
def test_the_digest_of_a_root_follows_from_its_listing(
    tmp_path_factory: pytest.TempPathFactory, content: Mapping[str, Any] | bytes
) -> None:
    """This is how a reader makes sure that a listing is the root's: the contract has the digest."""
    here = write_folder({"root": content, "pack": {}}, tmp_path_factory.mktemp("listing") / "w")
    listings = RootListings(str(here / "pack"))
    tree = hash_tree(str(here / "root"), on_entry=lambda entry: listings.add("code/0", entry))
    [listing] = listings.finish(["code/0"])
    entries = list(read_entries(str(here / "pack"), listing.path))
    if isinstance(content, bytes):
        [entry] = entries
        assert (entry.path, entry.executable) == ("", isinstance(content, Executable))
        assert file_digest(entry.sha256, entry.size) == tree.digest
    else:
        assert tree_digest(entries) == tree.digest


@given(st.binary(max_size=50))
def test_the_digest_of_an_environment_follows_from_its_text(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    here = write_folder({"uv.lock": data, "pack": {}}, tmp_path_factory.mktemp("text") / "w")
    listings = RootListings(str(here / "pack"))
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(InvalidInput, match='environment/0: "text" is for a file of UTF-8: got byte 0x'):
            listings.add_text("environment/0", data)
        assert listings.finish([]) == ()
        return
    listings.add_text("environment/0", data)
    [text] = listings.finish([])
    assert (text.path, text.is_text) == ("environment/0.txt", True)
    assert file_digest(hex_of(text.digest), text.size) == hash_tree(str(here / "uv.lock")).digest


def test_a_text_has_at_most_1_mib(tmp_path: Path) -> None:
    listings = RootListings(str(tmp_path))
    listings.add_text("environment/0", bytes(1 << 20))
    with pytest.raises(InvalidInput) as caught:
        listings.add_text("environment/1", bytes((1 << 20) + 1))
    assert str(caught.value) == (
        "environment/1: too large for a text that a pack holds: expected at most 1048576 bytes; "
        'remove "text": the digest is in the contract anyway'
    )
    assert caught.value.code == "E_TOO_LARGE"
    assert [text.path for text in listings.finish([])] == ["environment/0.txt"]


def test_an_environment_has_one_text(tmp_path: Path) -> None:
    listings = RootListings(str(tmp_path))
    listings.add_text("environment/0", b"one")
    with pytest.raises(FileExistsError):
        listings.add_text("environment/0", b"two")
    assert (tmp_path / "environment/0.txt").read_bytes() == b"one"


@pytest.mark.parametrize("root", ["raw", "code/00", "code/x", "inputs/../x", "environment/1000000", "/code/0"])
def test_only_roots_of_a_contract_have_listings(tmp_path: Path, root: str) -> None:
    listings = RootListings(str(tmp_path))
    with pytest.raises(ValueError, match="no pack has a listing"):
        listings.add(root, ENTRY)
    with pytest.raises(ValueError, match="no pack has a listing"):
        listings.finish([root])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("root", ["inputs/raw", "code/0", "environment/00"])
def test_only_environments_have_a_text(tmp_path: Path, root: str) -> None:
    with pytest.raises(ValueError, match="no pack has a listing"):
        RootListings(str(tmp_path)).add_text(root, b"text")
    assert os.listdir(tmp_path) == []


def test_a_line_that_readers_would_refuse_is_not_written(tmp_path: Path) -> None:
    """Paths of inputs are not those of a pack: they may be longer, and each byte may need an escape."""
    listings = RootListings(str(tmp_path))
    room = (16 << 10) - len(listing_line(ENTRY._replace(path="x"))) + 1
    listings.add("inputs/raw", ENTRY._replace(path="p" * room))
    with pytest.raises(InvalidInput, match=r"'ppp.*: path is too long for a listing; use shorter names") as caught:
        listings.add("inputs/raw", ENTRY._replace(path="p" * (room + 1)))
    assert len(str(caught.value)) < 1000
    [listing] = listings.finish(["inputs/raw"])
    assert [len(entry.path) for entry in read_entries(str(tmp_path), listing.path)] == [room]


def test_listings_keep_no_file_open(tmp_path: Path) -> None:
    listings = RootListings(str(tmp_path))
    for number in range(2000):
        listings.add(f"inputs/input-{number}", ENTRY)
    assert len(listings.finish([])) == 0


def test_a_listing_longer_than_the_buffer_is_complete(tmp_path: Path) -> None:
    listings = RootListings(str(tmp_path))
    for number in range(3000):
        listings.add("inputs/many", ENTRY._replace(path=f"{number:05}", size=number))
    [listing] = listings.finish(["inputs/many"])
    assert [entry.size for entry in read_entries(str(tmp_path), listing.path)] == list(range(3000))
    assert listing == Listing(
        digest=digest_of((tmp_path / listing.path).read_bytes()), path="inputs/many.jsonl", size=listing.size
    )


def refused(make_pack: MakePack, *outputs: Path | str) -> CtxPackError:
    with pytest.raises(CtxPackError) as caught:
        make_pack(*outputs)
    assert not isinstance(caught.value, IntegrityError)
    return caught.value


def test_a_missing_output_is_refused(tmp_path: Path, make_pack: MakePack) -> None:
    error = refused(make_pack, tmp_path / "none")
    assert str(error) == f"{tmp_path}/none: no such file or folder; check the path"
    assert isinstance(error, InvalidInput)


@pytest.mark.parametrize("at_top", [True, False], ids=["given", "below"])
def test_links_and_special_files_are_refused(tmp_path: Path, make_pack: MakePack, at_top: bool) -> None:
    folder = write_folder({"target": b"x"}, tmp_path / "out")
    (folder / "link").symlink_to("target")
    error = refused(make_pack, folder / "link" if at_top else folder)
    assert (error.what, error.where, error.code) == ("symbolic link", f"{folder}/link", "E_SYMLINK")
    (folder / "link").unlink()
    os.mkfifo(folder / "fifo")
    error = refused(make_pack, folder / "fifo" if at_top else folder)
    assert (error.what, error.where, error.code) == ("device, FIFO or socket", f"{folder}/fifo", "E_SPECIAL_FILE")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("line\nfeed", "name holds a backslash or a control character"),
        ("\x1b[31m", "name holds a backslash or a control character"),
        ("back\\slash", "name holds a backslash or a control character"),
    ],
)
def test_names_that_no_pack_may_hold_are_refused(tmp_path: Path, make_pack: MakePack, name: str, fault: str) -> None:
    folder = write_folder({"sub": {name: b"x"}}, tmp_path / "out")
    error = refused(make_pack, folder)
    assert (error.what, error.where, error.code) == (fault, repr(f"sub/{name}"), "E_PATH")
    assert refused(make_pack, folder / "sub" / name).what == fault
    (tmp_path / name).mkdir()
    assert refused(make_pack, tmp_path / name).what == fault, "the name of a single folder is in the manifest"


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path, make_pack: MakePack) -> None:
    folder = write_folder({}, tmp_path / "out")
    with open(os.fsencode(folder) + b"/\xff", "wb"):
        pass
    assert refused(make_pack, folder).code == "E_NAME_ENCODING"


def test_a_path_that_is_too_long_is_refused(tmp_path: Path, make_pack: MakePack) -> None:
    folder = tmp_path / "out"
    (folder / "/".join(["d" * 250] * 4)).mkdir(parents=True)
    (folder / "/".join(["d" * 250] * 4) / ("y" * 30)).write_bytes(b"")
    assert refused(make_pack, folder).what == "path is longer than 1024 bytes"


def test_a_file_that_changes_while_it_is_copied_is_refused(tmp_path: Path, make_pack: MakePack) -> None:
    source = tmp_path / "growing"

    def grow(stage: str, advanced: int, total: int | None) -> None:
        assert source.stat().st_size < 200, "a file that keeps growing is not read to its end"
        with open(source, "ab") as file:
            file.write(b"more")

    source.write_bytes(bytes(100))
    with pytest.raises(InvalidInput) as caught:
        make_pack(source, progress=grow)
    assert str(caught.value) == (
        f"{source}: changed while it was copied, so nothing was seeded; seed again when nothing writes to it"
    )


def test_a_file_that_is_removed_while_others_are_copied_is_an_error(tmp_path: Path, make_pack: MakePack) -> None:
    source = write_folder({"a": b"1", "b": b"2"}, tmp_path / "out")

    def remove(stage: str, advanced: int, total: int | None) -> None:
        (source / "b").unlink(missing_ok=True)

    with pytest.raises(InvalidInput) as caught:
        make_pack(source, progress=remove)
    assert (caught.value.where, caught.value.code) == (f"{source}/b", "E_OUTPUT_CHANGED")


def test_a_file_that_becomes_a_link_while_others_are_copied_is_not_followed(
    tmp_path: Path, make_pack: MakePack
) -> None:
    source = write_folder({"a": b"1", "b": b"2"}, tmp_path / "out")
    (tmp_path / "secret").write_bytes(b"secret")

    def swap(stage: str, advanced: int, total: int | None) -> None:
        (source / "b").unlink()
        (source / "b").symlink_to(tmp_path / "secret")

    with pytest.raises(CtxPackError) as caught:
        make_pack(source, progress=swap)
    assert caught.value.where == f"{source}/b"
    assert not list(tmp_path.glob("pack-*/artifacts/b"))


@pytest.mark.parametrize(
    ("contract", "fault"),
    [
        (b'{ "schema": "ctxpack/contract/v1" }', "not canonical JSON"),
        (canonical(CONTRACT | {"schema": "ctxpack/contract/v99"}), "/schema"),
        (canonical(CONTRACT | {"salt": None}), "/salt"),
    ],
)
def test_only_a_canonical_contract_of_a_known_schema_is_written(tmp_path: Path, contract: bytes, fault: str) -> None:
    """Readers carry others; a writer has resolved the contract, so it knows the schema."""
    with pytest.raises(InvalidInput, match=fault):
        assemble(str(tmp_path), {}, contract=contract)
    assert os.listdir(tmp_path) == []


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels > 1 else []


def test_what_no_manifest_can_hold_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    """A contract may have 64 levels; in a manifest it is one level deep."""
    (tmp_path / "pack").mkdir()
    (transform,) = CONTRACT["transforms"]
    deep = canonical(CONTRACT | {"transforms": [transform | {"params": {"deep": nested(60)}}]})
    assert parse_canonical_contract(deep)
    for options in ({"contract": deep}, {"contract": canonical(CONTRACT), "provenance": {"x": "x" * (16 << 20)}}):
        with pytest.raises(InvalidInput, match=r"^manifest\.json: "):
            assemble(str(tmp_path / "pack"), named([tmp_path]), **options)
        assert os.listdir(tmp_path / "pack") == []


def test_assemble_overwrites_no_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/files.jsonl").write_bytes(b"someone's")
    with pytest.raises(FileExistsError):
        assemble(str(tmp_path / "pack"), named([tmp_path / "f"]), contract=canonical(CONTRACT))
    assert (tmp_path / "pack/files.jsonl").read_bytes() == b"someone's"


ASSEMBLE = f"""
import os, resource, sys
from ctxpack_bundle import OutputTree, assemble
from ctxpack_identity import CtxPackError

contract = {canonical(CONTRACT)!r}
"""
REPORT = """
try:
    assemble("pack", {"out": OutputTree("out")}, contract=contract)
except (CtxPackError, OSError) as error:
    print(type(error).__name__, getattr(error, "code", error.args[0]), error)
"""


def in_a_process(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASSEMBLE + script + REPORT],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_full_disk_is_an_oserror_and_leaves_no_manifest(tmp_path: Path, environment: Mapping[str, str]) -> None:
    write_folder({"pack": {}, "out": {"big": bytes(100_000), "small": b"x"}}, tmp_path / "w")
    printed = in_a_process("resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))", tmp_path / "w", environment)
    assert printed == "OSError 27 [Errno 27] File too large"
    assert not (tmp_path / "w/pack/manifest.json").exists(), "an unfinished folder must not look like a pack"


def test_a_disk_that_is_full_at_the_listing_is_an_oserror(tmp_path: Path, environment: Mapping[str, str]) -> None:
    write_folder({"pack": {}, "out": {f"file-{number}": b"" for number in range(300)}}, tmp_path / "w")
    printed = in_a_process("resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))", tmp_path / "w", environment)
    assert printed == "OSError 27 [Errno 27] File too large"
    assert not (tmp_path / "w/pack/manifest.json").exists()


@pytest.mark.parametrize("hidden", ["file", "folder"])
def test_an_unreadable_output_is_a_local_failure(tmp_path: Path, environment: Mapping[str, str], hidden: str) -> None:
    """The process runs as another user than root: root can read everything."""
    folder = write_folder({"pack": {}, "out": {"file": b"x", "folder": {"y": b"y"}}}, tmp_path / "w")
    (folder / "out" / hidden).chmod(0)
    drop = "import ctxpack_bundle.packing\n"
    if os.getuid() == 0:
        drop += "os.chown('pack', 65534, 65534); os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    try:
        printed = in_a_process(drop, folder, environment)
    finally:
        (folder / "out" / hidden).chmod(0o755)
    fault = "cannot be read: Permission denied; check its permissions"
    assert printed == f"LocalFailure E_INPUT_UNREADABLE out/{hidden}: {fault}"
