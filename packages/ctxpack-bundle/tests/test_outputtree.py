"""Which files of an output are sealed: those that no pattern leaves out, behind links only where these are followed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from folder_trees import Executable, Folder, folder_trees, read_folder, write_folder
from forged_pack import CONTRACT, canonical
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle import OutputTree, PackManifest, assemble, outputs_digest, read_entries, root_digest
from ctxpack_bundle.folder import executable_paths
from ctxpack_bundle.outputtree import locate, location_of
from ctxpack_identity import InvalidInput, hash_tree
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.scan import Found


def sealed(folder: Path, outputs: Mapping[str, OutputTree], **options: Any) -> PackManifest:
    """Make folder the pack of outputs; return its manifest, after a check that outputs_digest agrees with it."""
    folder.mkdir()
    manifest = assemble(str(folder), outputs, contract=canonical(CONTRACT), **options)
    executables: set[str] = set()
    assert outputs_digest(outputs, on_executable=executables.add) == manifest.outputs_digest
    assert executables == executable_paths(str(folder))
    return manifest


def test_patterns_leave_out_files_relative_to_the_output(tmp_path: Path) -> None:
    source = write_folder(
        {"a.tmp": b"", "a": b"1", "sub": {"b.tmp": b"", "log": {"x": b""}}, "log": b""}, tmp_path / "o"
    )
    sealed(tmp_path / "pack", {"out": OutputTree(str(source), ("*.tmp", "/log"))})
    assert read_folder(tmp_path / "pack/artifacts") == {"a": b"1", "sub": {"log": {"x": b""}}}


def test_a_folder_whose_content_is_left_out_is_an_empty_folder(tmp_path: Path) -> None:
    source = write_folder({"one": {"x": b""}, "two": {"sub": {"x": b""}, "y": b""}}, tmp_path / "o")
    outputs = {name: OutputTree(str(source / name), ("x",)) for name in ("one", "two")}
    sealed(tmp_path / "pack", outputs)
    assert [entry.path for entry in read_entries(str(tmp_path / "pack"))] == ["one/", "two/sub/", "two/y"]
    sealed(tmp_path / "alone", {"one": outputs["one"]})
    assert read_folder(tmp_path / "alone/artifacts") == {}


@pytest.mark.parametrize("names", [["a"], ["f"], ["a", "f"]])
def test_the_digest_comes_with_the_paths_of_executable_files(tmp_path: Path, names: list[str]) -> None:
    source = write_folder(
        {"a": {"d": {"y": Executable(b"1"), "z": b""}, "x": b""}, "f": Executable(b"2")}, tmp_path / "o"
    )
    sealed(tmp_path / "pack", {name: OutputTree(str(source / name)) for name in names})
    paths = {"a": "a/d/y" if len(names) > 1 else "d/y", "f": "f"}
    assert executable_paths(str(tmp_path / "pack")) == {paths[name] for name in names}


def test_each_output_has_its_own_patterns_and_a_file_is_never_left_out(tmp_path: Path) -> None:
    source = write_folder({"a": {"x": b"1", "y": b"2"}, "b": {"x": b"3", "y": b"4"}, "x": b"5"}, tmp_path / "o")
    outputs = {
        "a": OutputTree(str(source / "a"), ("x",)),
        "b": OutputTree(str(source / "b"), ("*", "!x")),
        "f": OutputTree(str(source / "x"), ("x", "f")),
    }
    sealed(tmp_path / "pack", outputs)
    assert read_folder(tmp_path / "pack/artifacts") == {"a": {"y": b"2"}, "b": {"x": b"3"}, "f": b"5"}


def test_links_are_followed_only_where_that_is_said(tmp_path: Path) -> None:
    """A checkpoint folder and a link to the newest, as training tools leave them."""
    source = write_folder({"ckpt-3": {"w": b"w", "run": Executable(b"#!")}}, tmp_path / "o")
    (source / "latest").symlink_to("ckpt-3")
    (source / "w").symlink_to("ckpt-3/w")
    (tmp_path / "pack").mkdir()
    with pytest.raises(InvalidInput) as caught:
        assemble(str(tmp_path / "pack"), {"out": OutputTree(str(source))}, contract=canonical(CONTRACT))
    assert (caught.value.code, caught.value.where) == ("E_SYMLINK", f"{source}/latest")
    sealed(tmp_path / "followed", {"out": OutputTree(str(source), follow=True)})
    checkpoint = {"w": b"w", "run": Executable(b"#!")}
    assert read_folder(tmp_path / "followed/artifacts") == {"ckpt-3": checkpoint, "latest": checkpoint, "w": b"w"}


@pytest.mark.parametrize("content", [b"1", {"a": b"1"}, {}], ids=["file", "folder", "empty folder"])
def test_an_output_may_be_a_link_where_links_are_followed(tmp_path: Path, content: Any) -> None:
    write_folder({"real": content, "other": b"2"}, tmp_path / "o")
    link = tmp_path / "link"
    link.symlink_to("o/real")
    outputs = {"out": OutputTree(str(link), follow=True), "other": OutputTree(str(tmp_path / "o/other"))}
    sealed(tmp_path / "pack", outputs)
    assert read_folder(tmp_path / "pack/artifacts") == {"out": content, "other": b"2"}
    with pytest.raises(InvalidInput, match="symbolic link"):
        outputs_digest({"out": OutputTree(str(link))})


def test_what_is_found_is_told_before_it_is_copied(tmp_path: Path) -> None:
    source = write_folder({"a": b"1", "empty": {}, "z": b"2"}, tmp_path / "o")
    (source / "z").chmod(0o600)
    told: list[tuple[str, bool]] = []

    def note(found: Found) -> None:
        copied = os.path.lexists(tmp_path / "pack/artifacts" / found.path)
        told.append((found.path, bool(found.stat.st_mode & 0o077)))
        assert not copied
        assert os.path.samefile(found.location, source / found.path)

    sealed(tmp_path / "pack", {"out": OutputTree(str(source))}, on_found=note)
    assert told == [("a", True), ("empty/", True), ("z", False)]


def test_an_error_of_the_listener_passes_through(tmp_path: Path) -> None:
    write_folder({"o": {"a": b""}, "pack": {}}, tmp_path / "w")

    def refuse(found: Found) -> None:
        raise InvalidInput("private", where=found.path)

    outputs = {"out": OutputTree(str(tmp_path / "w/o"))}
    with pytest.raises(InvalidInput, match="a: private"):
        assemble(str(tmp_path / "w/pack"), outputs, contract=canonical(CONTRACT), on_found=refuse)
    assert read_folder(tmp_path / "w/pack/artifacts") == {}


ROOTS = st.dictionaries(
    st.sampled_from(["a", "a-b", "a.b", "b"]),
    st.tuples(
        folder_trees() | st.binary(max_size=50) | st.just({}), st.sampled_from([(), ("a",), ("*",), ("/b/", "*.x")])
    ),
    min_size=1,
)


@given(ROOTS)
def test_the_digest_of_outputs_is_that_of_their_pack_and_each_root_has_its_own(
    tmp_path_factory: pytest.TempPathFactory, roots: dict[str, tuple[Folder | bytes, tuple[str, ...]]]
) -> None:
    here = write_folder({name: content for name, (content, _) in roots.items()}, tmp_path_factory.mktemp("r") / "o")
    outputs = {name: OutputTree(str(here / name), excludes) for name, (_, excludes) in roots.items()}
    pack = here.parent / "pack"
    manifest = sealed(pack, outputs)
    for name, tree in outputs.items():
        assert root_digest(str(pack), manifest, name) == outputs_digest({name: tree})
        if (here / name).is_dir():
            hashed = hash_tree(tree.location, excludes=compile_excludes(tree.excludes)).digest
            assert root_digest(str(pack), manifest, name) == hashed
    located = locate(outputs, [])
    for entry in read_entries(str(pack)):
        assert os.path.exists(location_of(entry.path, located))


def test_only_a_root_has_a_digest(tmp_path: Path) -> None:
    source = write_folder({"a": {"x": b""}, "b": b""}, tmp_path / "o")
    manifest = sealed(tmp_path / "pack", {name: OutputTree(str(source / name)) for name in ("a", "b")})
    with pytest.raises(ValueError, match="no output is named 'a/x'"):
        root_digest(str(tmp_path / "pack"), manifest, "a/x")


def branches_of(folder: Path, aside: Path, path: str = "", deep: bool = True) -> list[tuple[str, str]]:
    """Move what is in folder to places of their own below aside: each child, or instead of a folder its children."""
    found = []
    for number, name in enumerate(sorted(os.listdir(folder))):
        child = folder / name
        if deep and number % 2 and child.is_dir() and any(child.iterdir()):
            found += branches_of(child, aside, f"{path}{name}/", deep=False)
        else:
            aside.mkdir(exist_ok=True)
            place = aside / f"{len(os.listdir(aside))}-{name[:20]}"
            child.rename(place)
            found.append((path + name, str(place)))
    return found


@given(content=folder_trees(), patterns=st.sampled_from([(), ("*a*",), ("/*/*",), ("*/", "!b")]))
def test_branches_from_anywhere_are_sealed_as_if_they_lay_there(
    tmp_path_factory: pytest.TempPathFactory, content: Folder, patterns: tuple[str, ...]
) -> None:
    place = tmp_path_factory.mktemp("branches")
    whole = write_folder(content, place / "whole")
    expected = sealed(place / "one", {"out": OutputTree(str(whole), patterns)})
    branches = branches_of(whole, place / "aside")
    (place / "two").mkdir()
    tree = OutputTree(str(place), patterns, branches=lambda: iter(branches))
    seen: list[str] = []
    contract = canonical(CONTRACT)
    entries = lambda entry: seen.append(entry.path)  # noqa: E731
    made = assemble(str(place / "two"), {"out": tree}, contract=contract, on_entry=entries)
    if not patterns:
        assert made.outputs == expected.outputs
        assert read_folder(place / "two/artifacts") == content
    assert (made.outputs.files, made.outputs.size) == (expected.outputs.files, expected.outputs.size)
    assert seen == [entry.path for entry in read_entries(str(place / "two"))]


def test_no_branches_are_an_empty_folder(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    tree = OutputTree(str(tmp_path), branches=lambda: iter(()))
    manifest = assemble(str(pack), {"out": tree}, contract=canonical(CONTRACT))
    assert (manifest.outputs.files, [root.type for root in manifest.outputs.roots]) == (0, ["folder"])


def test_a_branch_that_changes_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    source = write_folder({"a": b"1", "b": b"2"}, tmp_path / "o")
    pack = tmp_path / "pack"
    pack.mkdir()
    tree = OutputTree(str(tmp_path), branches=lambda: iter([("x/1", str(source / "a")), ("x/2", str(source / "b"))]))

    def change(found: Found) -> None:
        (source / "a").write_bytes(b"3")

    with pytest.raises(InvalidInput, match="changed while it was copied") as caught:
        assemble(str(pack), {"out": tree}, contract=canonical(CONTRACT), on_found=change)
    assert caught.value.where == str(source / "a")
