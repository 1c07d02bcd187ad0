"""Walking: canonical order, and an error for everything that has no portable identity."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.scan import scan, walk

FIX_LINK = 'replace it by what it points at; inputs, code and outputs may say "symlinks": "follow" in the contract'


def paths(root: Path, **options: Any) -> list[str]:
    return [found.path for found in scan(str(root), **options)]


def refusal(root: str | Path, **options: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        list(scan(str(root), **options))
    return caught.value


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@given(st.lists(st.lists(names, min_size=1, max_size=3), max_size=12))
def test_order_is_that_of_the_segments_utf8_bytes(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    made: set[tuple[str, ...]] = set()
    for segments in wanted:
        path = root.joinpath(*segments)
        if not path.exists() and all(parent.is_dir() or not parent.exists() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            made.add(tuple(segments))
    by_bytes = sorted(made, key=lambda segments: [name.encode() for name in segments])
    assert paths(root) == ["/".join(segments) for segments in by_bytes]


def test_a_found_file_or_folder_has_its_path_location_and_size(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("abc")
    (tmp_path / "e").mkdir()
    file, folder = scan(str(tmp_path))
    assert (file.path, file.location, file.stat.st_size) == ("d/f", str(tmp_path / "d" / "f"), 3)
    assert not file.is_empty_folder
    assert (folder.path, folder.location) == ("e/", f"{tmp_path / 'e'}/")
    assert folder.is_empty_folder


def test_a_file_is_found_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("abc")
    (found,) = scan(str(tmp_path / "f"))
    assert (found.path, found.location) == ("f", str(tmp_path / "f"))


def test_an_empty_root_holds_nothing(tmp_path: Path) -> None:
    assert paths(tmp_path) == []


def test_a_root_may_be_relative_and_end_in_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").touch()
    monkeypatch.chdir(tmp_path)
    for root in ("d", "./d", "d/", "d//", "../" + tmp_path.name + "/d", str(tmp_path / "d")):
        assert [found.path for found in scan(root)] == ["f"]


def test_folders_nest_deeper_than_python_may_recurse(tmp_path: Path) -> None:
    (tmp_path / "d").joinpath(*["d"] * 499).mkdir(parents=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        assert paths(tmp_path) == ["d/" * 500]
    finally:
        sys.setrecursionlimit(limit)


def test_a_path_longer_than_the_system_allows_is_an_error_that_names_it(tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(20):
            os.mkdir("n" * 250)
            os.chdir("n" * 250)
    finally:
        os.chdir(here)
    error = refusal(tmp_path)
    assert error.code == "E_PATH"
    start, middle, end = str(error).partition("…")
    assert start == f"{tmp_path}/{'n' * 250}"[:100]
    assert (middle, end) == ("…", f"{'n' * 100}: path or name too long for this system; shorten it, or exclude it")
    assert paths(tmp_path, excludes=compile_excludes(["n*"])) == []


def test_a_name_longer_than_the_system_allows_is_an_error_in_the_contract() -> None:
    assert str(refusal("n" * 256)) == (
        f"{'n' * 100}…{'n' * 100}: path or name too long for this system; shorten it, or exclude it"
    )


def test_errors_have_the_path_and_a_fix(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert str(refusal(tmp_path)) == (f"{tmp_path}/link: symbolic link: expected regular files and folders; {FIX_LINK}")
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "fifo")
    assert str(refusal(tmp_path)) == (
        f"{tmp_path}/fifo: device, FIFO or socket: expected regular files and folders; remove or exclude it"
    )
    (tmp_path / "fifo").unlink()
    assert str(refusal(tmp_path / "nowhere")) == f"{tmp_path}/nowhere: no such file or folder; check the path"


def test_a_name_that_is_not_utf8_is_shown_and_refused(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9", os.O_CREAT | os.O_WRONLY))
    error = refusal(tmp_path)
    assert error.code == "E_NAME_ENCODING"
    assert str(error) == f"b'{tmp_path}/caf\\xe9': file name is not UTF-8: expected UTF-8; rename it"


def test_a_missing_root_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    error = refusal(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    assert str(error) == f"{tmp_path}/caf\\xe9: no such file or folder; check the path"


def test_walking_enters_and_leaves_each_folder(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "b/z", "d"):
        (tmp_path / name).touch()
    steps = [
        (folder.path, [name for name, _ in folder.files], [name for name, _ in folder.folders]) if folder else None
        for folder in walk(str(tmp_path))
    ]
    root = ("", ["a.txt", "b.txt", "d"], ["b"])
    assert steps == [root, ("b/", ["z"], ["c"]), ("b/c/", [], []), None, None, None]


@pytest.mark.parametrize("kind", ["fifo", "link", "missing"])
def test_walking_refuses_a_root_as_scanning_does(tmp_path: Path, kind: str) -> None:
    root = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(root)
    elif kind == "link":
        root.symlink_to(".")
    with pytest.raises(InvalidInput) as caught:
        list(walk(str(root)))
    assert str(caught.value) == str(refusal(root))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_refused_before_it_is_opened(device: str, tmp_path: Path) -> None:
    assert refusal(device).code == "E_SPECIAL_FILE"
    (tmp_path / "link").symlink_to(device)
    assert refusal(tmp_path, follow=True).code == "E_SPECIAL_FILE"


def test_a_root_that_is_a_link_is_refused_with_or_without_a_slash(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "broken").symlink_to("nowhere")
    for name in ("link", "link/", "link//", "broken", "broken/"):
        assert str(refusal(f"{tmp_path}/{name}")) == (
            f"{tmp_path}/{name}: symbolic link: expected regular files and folders; {FIX_LINK}"
        )
    assert list(scan(f"{tmp_path}/link/", follow=True)) == []


def test_a_root_is_not_tidied_as_text(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_text("abc")
    (tmp_path / "link").symlink_to("d/e")
    assert paths(Path(f"{tmp_path}/link/..")) == ["e/", "f"]
    (found,) = scan(f"{tmp_path}/link/../f")
    assert (found.path, found.stat.st_size) == ("f", 3)


def test_links_are_followed_only_with_follow(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "f").write_text("abc")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("../out")
    (found,) = scan(str(tmp_path / "in"), follow=True)
    assert (found.path, found.stat.st_size) == ("link/f", 3)


@pytest.mark.parametrize(
    ("links", "at"),
    [
        ({"up": "."}, "up"),
        ({"d/up": ".."}, "d/up"),
        ({"d/e/up": "../.."}, "d/e/up"),
        ({"self": "self"}, "self"),
        ({"one": "other", "other": "one"}, "one"),
        ({"d/into": "../e", "e/into": "../d"}, "d/into/into"),
    ],
)
def test_a_cycle_of_followed_links_is_refused(tmp_path: Path, links: dict[str, str], at: str) -> None:
    for link, target in links.items():
        (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link).symlink_to(target)
    error = refusal(tmp_path, follow=True)
    assert str(error) == f"{tmp_path}/{at}: symbolic links form a cycle; remove or exclude one"
    assert error.code == "E_SYMLINK"


UP = st.sampled_from(["..", "../..", ".", "d", "../d", "../s", "../../s", "t", "../t"])  # names no folder above


@given(
    st.dictionaries(st.sampled_from(["o/r/k", "o/r/l", "o/r/d/k", "o/s/k", "o/s/t/k"]), UP, min_size=1, max_size=4),
    st.lists(st.sampled_from(["r", "o", "*/r", "*/o", "**/o/r", "**/r/d", "**/s/k", "d/k", "t", "**/o/s"]), max_size=3),
)
def test_followed_links_never_make_the_roots_name_or_place_count(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str], patterns: list[str]
) -> None:
    top = tmp_path_factory.mktemp("links")
    for name in ("o/r/a", "o/r/d/b", "o/s/c", "o/s/t/d"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    for link, target in links.items():
        (top / link).symlink_to(target)

    def outcome(root: Path) -> list[str] | tuple[str, str]:
        try:
            return paths(root, excludes=compile_excludes(patterns), follow=True)
        except InvalidInput as error:
            return error.code, os.path.relpath(error.where, root)

    before = outcome(top / "o" / "r")
    (top / "o").rename(top / "p")
    (top / "p" / "r").rename(top / "p" / "q")
    assert outcome(top / "p" / "q") == before


def test_a_link_may_lead_beside_the_folders_on_the_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "o" / "r").mkdir(parents=True)
    (tmp_path / "o" / "s").mkdir()
    (tmp_path / "o" / "s" / "f").touch()
    for name in ("k", "l"):
        (tmp_path / "o" / "r" / name).symlink_to("../s")
    assert paths(tmp_path / "o" / "r", follow=True) == ["k/f", "l/f"]
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "k").symlink_to("../o/s")
    (tmp_path / "q" / "l").symlink_to("../o")  # which holds o/s, but that is not on the way to l
    excludes = compile_excludes(["l/r"])
    assert paths(tmp_path / "q", follow=True, excludes=excludes) == ["k/f", "l/s/f"]
    (tmp_path / "o" / "s" / "up").symlink_to("..")
    error = refusal(tmp_path / "o" / "r", follow=True, excludes=compile_excludes(["r"]))
    assert str(error) == f"{tmp_path}/o/r/k/up: symbolic links form a cycle; remove or exclude one"


def test_excluded_paths_are_neither_read_nor_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.tmp", os.O_CREAT | os.O_WRONLY))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(".")
    (tmp_path / "kept").touch()
    excludes = compile_excludes(["link", "/fifo", "*.tmp", "out/"])
    assert paths(tmp_path, excludes=excludes) == paths(tmp_path, excludes=excludes, follow=True) == ["kept"]


def test_a_folder_whose_content_is_left_out_is_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.tmp").touch()
    (tmp_path / "c.tmp").touch()
    assert paths(tmp_path, excludes=compile_excludes(["*.tmp"])) == ["a/b/"]
    assert paths(tmp_path, excludes=compile_excludes(["*.tmp", "b/"])) == ["a/"]
    assert paths(tmp_path, excludes=compile_excludes(["*"])) == []


def test_a_link_to_a_folder_is_a_folder_to_patterns_only_when_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    folders_only = compile_excludes(["link/"])
    assert paths(tmp_path, excludes=folders_only, follow=True) == ["d/"]
    assert refusal(tmp_path, excludes=folders_only).code == "E_SYMLINK"


def test_a_folder_that_vanishes_during_the_walk_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()
    walk = scan(str(tmp_path))
    assert next(walk).path == "a"
    (tmp_path / "b").rmdir()
    with pytest.raises(InvalidInput, match=r"/b: no such file or folder"):
        next(walk)


def test_a_folder_without_read_permission_is_an_error(
    tmp_path: Path, as_nobody: Callable[[Path, Callable[[], Any]], Any]
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "locked").mkdir(mode=0)
    error = as_nobody(tmp_path, lambda: list(scan("open")))
    assert type(error) is LocalFailure
    assert str(error) == "open/locked: cannot be read: Permission denied; check its permissions"
    error = as_nobody(tmp_path, lambda: list(scan("open/locked/inside")))
    assert (type(error), error.code) == (LocalFailure, "E_INPUT_UNREADABLE")


def test_names_decoded_by_another_locale_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ü").touch()
    code = "import sys; from ctxpack_identity.hashing.scan import scan; print(list(scan(sys.argv[1])))"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert "Python does not read file names as UTF-8 here: got " in done.stderr
    assert "; set PYTHONUTF8=1" in done.stderr
    environment["PYTHONUTF8"] = "1"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
