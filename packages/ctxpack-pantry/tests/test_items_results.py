"""The digest of a result: of its files on disk and of a listing that holds them it is the same, wherever it lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle import scan_branch
from ctxpack_identity import InvalidInput, TreeEntry
from ctxpack_identity.exclude import compile_excludes
from ctxpack_pantry.items.results import NOTHING, ResultDigests, Sealing, hash_result, path_key

NAMES = ["a", "b", "a.b", "a!", "a-", "ab", "\u00fc", "\U0001f600", "\uffff"]
segments = st.sampled_from(NAMES)
files = st.dictionaries(st.lists(segments, min_size=1, max_size=3).map("/".join), st.booleans(), max_size=6)
numbers = count()


def write(root: Path, content: dict[str, bool]) -> None:
    """Write files below root, as many of these as fit together. content: whether each is executable."""
    root.mkdir(parents=True)
    for name, executable in content.items():
        path = root / name
        if any(parent.is_file() for parent in path.parents if parent != root) or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(0o755 if executable else 0o644)


def listing(output: str, location: Path) -> list[TreeEntry]:
    """Return the entries of a result that lies at output."""
    found = []
    for one in scan_branch(output, str(location), excludes=None, follow=False):
        if one.is_empty_folder:
            found.append(TreeEntry(one.path, 0, ""))
        else:
            data = Path(one.location).read_bytes()
            found.append(
                TreeEntry(one.path, len(data), hashlib.sha256(data).hexdigest(), os.access(one.location, os.X_OK))
            )
    return found


@given(st.dictionaries(segments, files, min_size=1, max_size=5), st.sets(segments, max_size=3))
def test_of_disk_and_of_a_listing_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, results: dict[str, dict[str, bool]], others: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("results")
    entries: list[TreeEntry] = []
    for name, content in results.items():
        write(folder / name, content)
        entries += listing(name, folder / name)
    absent = others - results.keys()
    between = [TreeEntry(f"{name}x/y", 1, "0" * 64) for name in others]  # of no result
    entries = sorted(entries + between, key=lambda entry: path_key(entry.path))
    outputs = sorted({*results, *absent}, key=path_key)
    found: dict[str, bytes] = {}
    digests = ResultDigests(
        ((output, number) for number, output in enumerate(outputs)),
        lambda number, digest: found.__setitem__(outputs[number], digest),
    )
    taken = [entry for entry in entries if digests.add(entry)]
    digests.finish()
    assert [*found] == outputs
    assert taken == [entry for entry in entries if entry not in between]
    for output in outputs:
        on_disk = NOTHING if output in absent else hash_result(output, str(folder / output), Sealing())
        assert found[output] == on_disk
        if output not in absent:
            assert hash_result("else/where", str(folder / output), Sealing()) == on_disk != NOTHING


def change_mode(root: Path) -> None:
    (root / "a").chmod(0o755)


def change_content(root: Path) -> None:
    (root / "a").write_text("x")


def rename(root: Path) -> None:
    (root / "a").rename(root / "c")


def add_empty_folder(root: Path) -> None:
    (root / "d").mkdir()


@pytest.mark.parametrize("change", [change_mode, change_content, rename, add_empty_folder])
def test_content_modes_names_and_empty_folders_count(tmp_path: Path, change: Callable[[Path], None]) -> None:
    write(tmp_path / "r", {"a": False, "b": True})
    before = hash_result("r", str(tmp_path / "r"), Sealing())
    change(tmp_path / "r")
    assert hash_result("r", str(tmp_path / "r"), Sealing()) != before


def test_a_file_is_not_a_folder_that_holds_it(tmp_path: Path) -> None:
    write(tmp_path / "r", {"a": False})
    (tmp_path / "a").write_text("a")
    file, folder = (hash_result("o", str(tmp_path / name), Sealing()) for name in ("a", "r"))
    assert file != folder


def test_what_the_output_leaves_out_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "r", {"a": False})
    sealing = Sealing(compile_excludes(["*.log", "r/b"]))
    before = hash_result("r", str(tmp_path / "r"), sealing)
    assert before == hash_result("r", str(tmp_path / "r"), Sealing())
    write(tmp_path / "r/b", {"x": False})
    (tmp_path / "r/x.log").write_text("log")
    assert hash_result("r", str(tmp_path / "r"), sealing) == before
    assert hash_result("r.log", str(tmp_path / "r"), sealing) == NOTHING


@pytest.mark.parametrize("what", ["link", "fifo", "name", "nothing"])
def test_what_no_pack_may_hold_is_refused(tmp_path: Path, what: str) -> None:
    root = tmp_path / "r"
    if what != "nothing":
        root.mkdir()
    if what == "link":
        (root / "x").symlink_to("y")
    elif what == "fifo":
        os.mkfifo(root / "x")
    elif what == "name":
        (root / "a\\b").write_text("")
    with pytest.raises(InvalidInput):
        hash_result("r", str(root), Sealing())


def test_links_are_followed_where_the_output_says_so(tmp_path: Path) -> None:
    write(tmp_path / "r", {"a": False})
    (tmp_path / "s").mkdir()
    (tmp_path / "s/a").symlink_to("../r/a")
    followed = hash_result("s", str(tmp_path / "s"), Sealing(follow=True))
    assert followed == hash_result("r", str(tmp_path / "r"), Sealing())


@given(st.lists(st.lists(segments, min_size=1, max_size=4).map("/".join), max_size=8))
def test_keys_sort_as_paths_do(paths: list[str]) -> None:
    assert sorted(paths, key=path_key) == sorted(paths, key=lambda path: [name.encode() for name in path.split("/")])
    for one in paths:
        for other in paths:
            assert path_key(other).startswith(path_key(one)) == f"{other}/".startswith(f"{one}/")
