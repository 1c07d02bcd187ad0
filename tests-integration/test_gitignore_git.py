"""`.gitignore` files compared with git: which files of a tree they leave out. SPEC.md, section 6.1."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from neutral_git import git

from ctxpack_identity.hashing.gitignore import gitignored
from ctxpack_identity.hashing.scan import scan

FOLDERS = ["", "a/", "a/b/", "a/b/a/", "a/a b/", "b/", "b/.a/", "ab/"]
NAMES = ["x", "y", "ab", "x.y", ".x", "#x", "!x", "x ", "x\\", "*", "[", "-", "x\r"]

parts = st.sampled_from(
    [*"abxy./*?[]!-\\# ", "x", "a/", "b/", "**", "**/", "/**", "[a-x]", "[!a]", "[[:alpha:]]", "*.", "!", "!*/"]
)
# Known differences: git reads ** after literal text as "any folders", and **\/ as at least one. SPEC.md, section 6.
_git_difference = re.compile(r"[^/*]\*\*+\\?/|\*\*+\\/")
patterns = st.lists(parts, min_size=1, max_size=5).map("".join).filter(lambda text: not _git_difference.search(text))
contents = st.builds(
    lambda start, lines, ends, last: (start + "".join(map(str.__add__, lines, ends)) + last).encode(),
    st.sampled_from(["", "", "\ufeff", "\ufeff\ufeff"]),
    st.lists(patterns, min_size=4, max_size=4),
    st.lists(st.sampled_from(["\n", "\n", "\n\n", "\r\n", "\r\r\n", " \n"]), max_size=4),
    patterns | st.just("") | patterns.map(lambda line: f"{line}\r"),
)
files = st.dictionaries(st.sampled_from(FOLDERS), contents, max_size=4)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every name of NAMES in every folder of FOLDERS; git tracks none of them."""
    root = tmp_path_factory.mktemp("repository")
    git(root, "init", "--quiet", "--template=", ".")
    for folder in FOLDERS:
        (root / folder).mkdir(exist_ok=True)
        for name in NAMES:
            if f"{folder}{name}/" not in FOLDERS:
                (root / folder / name).touch()
    return root


def _git_keeps(repository: Path) -> set[str]:
    return set(git(repository, "ls-files", "--others", "--exclude-standard", "-z").split("\0")) - {""}


def _git_ignores(repository: Path, folder: str) -> bool:
    return folder != "" and git(repository, "check-ignore", "-z", "--stdin", question=f"./{folder[:-1]}") != ""


def _ctxpack_keeps(repository: Path, root: str = "") -> set[str]:
    excludes = gitignored(str(repository / root), str(repository), before=[], after=[])
    found = scan(str(repository / root), excludes=excludes)
    return {root + file.path for file in found if not file.is_empty_folder}


def _write(repository: Path, found: dict[str, bytes]) -> None:
    for folder in FOLDERS:
        (repository / folder / ".gitignore").unlink(missing_ok=True)
        if folder in found:
            (repository / folder / ".gitignore").write_bytes(found[folder])


@given(files, st.sampled_from(FOLDERS))
@settings(max_examples=400)
def test_gitignore_files_leave_out_what_git_ignores(repository: Path, found: dict[str, bytes], root: str) -> None:
    _write(repository, found)
    kept = _git_keeps(repository)
    assert _ctxpack_keeps(repository) == kept
    assume(not _git_ignores(repository, root))  # the root is named in the contract, so no pattern leaves it out
    assert _ctxpack_keeps(repository, root) == {path for path in kept if path.startswith(root)}


@pytest.mark.parametrize(
    "found",
    [
        {"": b"*\n!*/\n!x.y\n"},
        {"": b"x\n", "a/": b"!x\n", "a/b/": b"x\n"},
        {"": b"a/\n", "a/": b"!*\n"},
        {"": b"/a/*\n!/a/b/\n", "a/b/": b"x"},
        {"a/": b"/b/x\n/x\nb/a/\n"},
        {"": b"\xef\xbb\xbfx\ny\r\n\r\n#x\r\n\\#x\r\nab\r"},
        {"": b"\xef\xbb\xbf\xef\xbb\xbfx\n\xef\xbb\xbfy\n"},
        {"": b"x\\ \nx\\\\ \n!x \n"},
        {"": b"*\n!.gitignore\n", "a/": b"!*\n"},
        {"": b"x\r\r\n"},
        {},
    ],
)
def test_special_files_are_read_as_git_reads_them(repository: Path, found: dict[str, bytes]) -> None:
    _write(repository, found)
    assert _ctxpack_keeps(repository) == _git_keeps(repository)


def test_names_beyond_ascii_are_as_ingit(repository: Path) -> None:
    names = [b"\xc3\xbc", b"u\xcc\x88", b"\xfc", b"\xf0\x9f\x98"]
    folder = os.fsencode(repository / "b")
    for name in names:
        (open(os.path.join(folder, name), "wb")).close()
    _write(repository, {"": b"\xc3\xbc\n\xfc\n\xf0\x9f*\n"})
    try:
        assert _ctxpack_keeps(repository) == _git_keeps(repository)
    finally:
        for name in names:
            os.remove(os.path.join(folder, name))


def test_a_link_called_gitignore_and_a_folder_called_git_are_as_ingit(repository: Path) -> None:
    _write(repository, {"": b"!.git\n!*\n"})
    (repository / "a" / ".gitignore").symlink_to("../patterns")
    (repository / "patterns").write_text("x\n.gitignore\n")
    (repository / "b" / ".git").mkdir()
    (repository / "b" / ".git" / "x").touch()
    try:
        kept = _git_keeps(repository)
        assert "a/x" in kept
        assert "b/.git/x" not in kept
        excludes = gitignored(str(repository), str(repository), before=[], after=["a/.gitignore"])
        found = {file.path for file in scan(str(repository), excludes=excludes)}
        assert found == kept - {"a/.gitignore"}
    finally:
        (repository / "a" / ".gitignore").unlink()
        (repository / "patterns").unlink()
        shutil.rmtree(repository / "b" / ".git")
