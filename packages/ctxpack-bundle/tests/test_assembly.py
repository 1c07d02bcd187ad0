"""From outputs to a pack folder: copies, refused outputs, and the text of errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from folder_trees import Executable, read_folder, write_folder

from ctxpack_bundle import (
    InputListings,
    assemble,
    outputs_digest,
    parse_pack_manifest,
    read_entries,
    read_pack_manifest,
)
from ctxpack_bundle.packmanifest import Listing
from ctxpack_identity import (
    CtxPackError,
    IntegrityError,
    InvalidInput,
    TreeEntry,
    digest_of,
    hash_tree,
    hex_of,
    tree_digest,
)

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


def test_the_name_of_a_root_is_that_of_its_absolute_path(
    tmp_path: Path, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_folder({"a": b"1"}, tmp_path / "here"))
    for output in (".", "../here/", str(tmp_path / "here") + "//"):
        assert roots(make_pack(output)) == [("here", "folder")]


def test_outputs_are_copied_never_linked(tmp_path: Path, make_pack: MakePack) -> None:
    (tmp_path / "data").write_bytes(b"before")
    pack = make_pack(tmp_path / "data")
    (tmp_path / "data").write_bytes(b"after")
    assert (pack / "artifacts/data").read_bytes() == b"before"


def test_outputs_digest_is_the_digest_that_assemble_computes(tmp_path: Path, make_pack: MakePack) -> None:
    source = write_folder({"a": {"x": b"1"}, "f": b"2", "none": {}}, tmp_path / "out")
    for named in (["a"], ["f"], ["a", "f"], ["a", "none"]):
        pack = make_pack(*(source / name for name in named))
        located = {name: str(source / name) for name in named}
        assert outputs_digest(located) == read_pack_manifest(str(pack)).outputs.digest


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
    assert len(reported) == 3


def test_inputs_are_listed_in_the_order_of_their_paths(tmp_path: Path, make_pack: MakePack) -> None:
    """`a-b` comes after `a`, but `inputs/a-b.jsonl` before `inputs/a.jsonl`."""
    names = ["a", "a-b", "a.b", "a.jsonl", "A", "_"]
    folder = tmp_path / "listed"
    folder.mkdir()
    inputs = InputListings(str(folder))
    for round_ in ("1", "2"):
        for name in names:
            inputs.add(name, TreeEntry(round_, 0, hex_of(digest_of(b""))))
    listed = inputs.finish([*names, "empty"])
    paths = [listing.path for listing in listed]
    assert paths == sorted(f"inputs/{name}.jsonl" for name in [*names, "empty"])
    for listing in listed:
        data = (folder / listing.path).read_bytes()
        assert (listing.digest, listing.size) == (digest_of(data), len(data))
    assert [entry.path for entry in read_entries(str(folder), "inputs/a.jsonl")] == ["1", "2"]
    assert list(read_entries(str(folder), "inputs/empty.jsonl")) == []
    (tmp_path / "f").write_bytes(b"")
    assert (
        parse_pack_manifest((make_pack(tmp_path / "f", inputs=listed) / "manifest.json").read_bytes()).listings[1:]
        == listed
    )


def test_listings_keep_no_file_open(tmp_path: Path) -> None:
    inputs = InputListings(str(tmp_path))
    for number in range(2000):
        inputs.add(f"input-{number}", TreeEntry("x", 0, hex_of(digest_of(b""))))
    assert len(inputs.finish([])) == 0


def test_a_listing_longer_than_the_buffer_is_complete(tmp_path: Path) -> None:
    inputs = InputListings(str(tmp_path))
    for number in range(3000):
        inputs.add("many", TreeEntry(f"{number:05}", number, hex_of(digest_of(b""))))
    [listing] = inputs.finish(["many"])
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


def test_two_outputs_with_the_same_name_are_refused(tmp_path: Path, make_pack: MakePack) -> None:
    write_folder({"one": {"out": b"1"}, "two": {"out": {}}}, tmp_path / "x")
    error = refused(make_pack, tmp_path / "x/one/out", tmp_path / "x/two/out")
    assert str(error) == "out: two outputs have the same name; rename one of them"
    assert error.code == "E_OUTPUT_NAME"


def test_the_root_folder_is_refused_because_it_has_no_name(make_pack: MakePack) -> None:
    assert str(refused(make_pack, "/")).startswith("'': path is not relative and normal")


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
    assert str(caught.value) == f"{source}: changed while it was read; try again when nothing writes to it"


def test_a_file_that_is_removed_while_others_are_copied_is_an_error(tmp_path: Path, make_pack: MakePack) -> None:
    source = write_folder({"a": b"1", "b": b"2"}, tmp_path / "out")

    def remove(stage: str, advanced: int, total: int | None) -> None:
        (source / "b").unlink(missing_ok=True)

    with pytest.raises(InvalidInput) as caught:
        make_pack(source, progress=remove)
    assert (caught.value.where, caught.value.code) == (f"{source}/b", "E_INPUT_CHANGED")


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


def test_a_contract_that_is_not_canonical_is_refused(tmp_path: Path, make_pack: MakePack) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(InvalidInput, match="not canonical JSON"):
        make_pack(tmp_path / "f", contract=b'{ "schema": "ctxpack/contract/v1" }')


def test_assemble_overwrites_no_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/files.jsonl").write_bytes(b"someone's")
    with pytest.raises(FileExistsError):
        assemble(str(tmp_path / "pack"), [str(tmp_path / "f")], contract=b"{}")
    assert (tmp_path / "pack/files.jsonl").read_bytes() == b"someone's"


ASSEMBLE = """
import os, resource, sys
from ctxpack_bundle import assemble
from ctxpack_identity import CtxPackError, canonical_contract

transform = dict(code_hash="opaque", environment_hash="undeclared", params={}, tool="t", tool_version="1")
contract = canonical_contract({}, [transform], "")
"""
REPORT = """
try:
    assemble("pack", ["out"], contract=contract)
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
