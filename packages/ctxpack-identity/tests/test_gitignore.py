"""The rule of a root whose .gitignore files count. Vectors say what it leaves out; it is compared with git in
tests-integration/.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_identity.exclude import Excludes, compile_patterns
from ctxpack_identity.hashing.gitignore import MAX_GITIGNORE_BYTES, gitignored
from ctxpack_identity.hashing.scan import scan

FOLDERS = ["", "a/", "a/b/", "a/b/a/", "b/", "b/a/", "b/.git/"]
NAMES = ["x", "y", "x.tmp", ".git"]

lines = st.sampled_from(
    ["*", "*.tmp", "x", "/x", "y", "a/", "/a/", "b", "a/b", "/b/*", "**/x", "b/**", "*/", ".git", ".gitignore"]
)
files = st.dictionaries(
    st.sampled_from(FOLDERS), st.lists(st.builds(str.__add__, st.sampled_from(["", "!"]), lines), max_size=4)
)


def make(top: Path, patterns: dict[str, list[str]]) -> None:
    for folder in FOLDERS:
        (top / folder).mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        for name in NAMES:
            if not (top / folder / name).exists():
                (top / folder / name).touch()
    for folder, found in patterns.items():
        (top / folder / ".gitignore").write_text("\n".join(found))


def rule(root: Path, base: Path, before: list[str] | None = None, after: list[str] | None = None) -> Excludes:
    return gitignored(str(root), str(base), before=before or [], after=after or [])


def everything_below(root: Path, path: str = "") -> Iterator[tuple[str, bool]]:
    """Yield every path below root, and whether it is a folder."""
    for entry in sorted((root / path).iterdir()):
        below = f"{path}{entry.name}"
        yield below, entry.is_dir()
        if entry.is_dir():
            yield from everything_below(root, f"{below}/")


def expected(patterns: dict[str, list[str]], above: str, path: str, is_folder: bool) -> bool:
    """Decide by one list of all patterns, rewritten for base: the slow way, straight from SPEC.md.

    above: from base to the root, with a final ``/``, or "".
    """
    parent = path.rpartition("/")[0]
    if parent and expected(patterns, above, parent, True):
        return True
    whole, verdict = f"{above}{path}", None
    for folder in sorted(patterns, key=len):
        if whole.startswith(folder) and whole != folder:
            last = compile_patterns(patterns[folder])(whole[len(folder) :], is_folder)
            verdict = verdict if last is None else last
    return bool(verdict) or path.rpartition("/")[2] == ".git"


@given(files, st.sampled_from(["", "a/", "a/b/", "b/"]), st.integers(0, 2**32))
def test_any_order_of_questions_has_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory, patterns: dict[str, list[str]], above: str, seed: int
) -> None:
    base = tmp_path_factory.mktemp("base")
    make(base, patterns)
    root = base / above
    questions = list(everything_below(root))
    wanted = {path: expected(patterns, above, path, is_folder) for path, is_folder in questions}
    one_rule = rule(root, base)
    for order in (questions, questions[::-1], random.Random(seed).sample(questions, len(questions))):
        assert {path: one_rule(path, is_folder) for path, is_folder in order} == wanted
    for path, is_folder in questions:
        assert rule(root, base)(path, is_folder) == wanted[path]
    left = [path for path, is_folder in questions if not is_folder and not wanted[path]]
    assert [found.path for found in scan(str(root), excludes=one_rule) if not found.is_empty_folder] == sorted(
        left, key=lambda path: path.split("/")
    )


def test_a_walk_reads_each_file_once(tmp_path: Path) -> None:
    patterns = {"": "x", "a/": "y", "a/b/": "z", "c/": "y"}
    for folder, pattern in patterns.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / ".gitignore").write_text(pattern)
    leaves_out = rule(tmp_path, tmp_path)
    left_out = []
    for folder in patterns:
        left_out.append([name for name in "xyz" if leaves_out(f"{folder}{name}", False)])
        (tmp_path / folder / ".gitignore").unlink()
    assert left_out == [["x"], ["x", "y"], ["x", "y", "z"], ["x", "y"]]


def test_nothing_is_read_before_the_rule_is_asked(tmp_path: Path) -> None:
    leaves_out = rule(tmp_path / "nowhere", tmp_path)
    (tmp_path / ".gitignore").write_text("x")
    (tmp_path / "nowhere").mkdir()
    assert leaves_out("x", False)


def test_patterns_before_the_files_give_way_and_patterns_after_them_decide(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("!kept\nout\n!.git\n")
    leaves_out = rule(tmp_path, tmp_path, before=["kept", "early"], after=["!out"])
    assert [leaves_out(name, False) for name in ("kept", "early", "out", ".git", "d/.git")] == [
        *(False, True, False),
        *(True, True),
    ]
    assert not rule(tmp_path, tmp_path, after=["!.git"])(".git", True)


def test_roots_and_bases_may_be_relative_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base" / "d" / "top").mkdir(parents=True)
    (tmp_path / "base" / ".gitignore").write_text("/d/top/x\n")
    (tmp_path / "base" / "d" / ".gitignore").write_text("/top/y\n")
    (tmp_path / "to-base").symlink_to("base")
    (tmp_path / "to-top").symlink_to("base/d/top")
    monkeypatch.chdir(tmp_path / "base")
    for base in ("", ".", "../base", "../to-base", str(tmp_path / "base")):
        for root in ("d/top", "./d/top/", "../to-top", str(tmp_path / "to-base" / "d" / "top")):
            leaves_out = gitignored(root, base, before=[], after=[])
            assert [leaves_out(name, False) for name in "xyz"] == [True, True, False], (base, root)
    leaves_out = gitignored("d/top", "d", before=[], after=[])
    assert [leaves_out(name, False) for name in "xyz"] == [False, True, False]


def test_below_the_root_of_the_file_system_every_folder_counts(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("/top/x\n")
    (tmp_path / "top").mkdir()
    assert rule(tmp_path / "top", Path("/"))("x", False)
    assert not rule(Path("/"), Path("/"))(f"{tmp_path}/y"[1:], False)
    assert rule(Path("/"), Path("/"))(f"{tmp_path}/top/x"[1:], False)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes(b"#" * (MAX_GITIGNORE_BYTES + 1))
    with pytest.raises(InvalidInput) as caught:
        rule(tmp_path, tmp_path)("x", False)
    assert caught.value.code == "E_TOO_LARGE"
    assert str(caught.value) == (
        f"{tmp_path}/.gitignore: too large for a file of patterns: expected at most 1048576 bytes, got 1048577; "
        'shorten it, or write the patterns as "exclude" in the contract instead of "gitignore"'
    )


def test_a_file_below_a_folder_that_is_left_out_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "out" / "d").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("out/")
    for folder in ("out", "out/d"):
        (tmp_path / folder / ".gitignore").write_bytes(b"#" * (MAX_GITIGNORE_BYTES + 1))
    leaves_out = rule(tmp_path, tmp_path)
    assert leaves_out("out/d/x", False)
    assert leaves_out("out", True)
    assert not leaves_out("x", False)


def test_a_file_without_read_permission_is_an_error(
    tmp_path: Path, as_nobody: Callable[[Path, Callable[[], Any]], Any]
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "d" / "top").mkdir(parents=True)
    (tmp_path / "d" / ".gitignore").touch(mode=0)
    error = as_nobody(tmp_path, lambda: gitignored("d/top", "d", before=[], after=[])("x", False))
    assert (type(error), error.code) == (LocalFailure, "E_INPUT_UNREADABLE")
    assert str(error).endswith("/d/.gitignore: cannot be read: Permission denied; check its permissions")
    (tmp_path / "d").chmod(0o644)
    error = as_nobody(tmp_path, lambda: gitignored("d", "d", before=[], after=[])("x", False))
    assert (type(error), error.code) == (LocalFailure, "E_INPUT_UNREADABLE")


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "broken link", "missing", "below a file"])
def test_only_a_regular_file_has_patterns(tmp_path: Path, kind: str) -> None:
    root, file = tmp_path, tmp_path / ".gitignore"
    (tmp_path / "patterns").write_text("x")
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind.endswith("link"):
        file.symlink_to("patterns" if kind == "link" else "nowhere")
    elif kind == "below a file":
        root = tmp_path / "patterns"
    assert not rule(root, tmp_path)("x", False)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitignore").write_text("x")
    found = os.lstat(tmp_path / ".gitignore")
    monkeypatch.setattr(os, "lstat", lambda path: found)  # as it was found, before somebody else wrote to it
    (tmp_path / ".gitignore").write_text("x\ny")
    with pytest.raises(InvalidInput, match="changed while it was read"):
        rule(tmp_path, tmp_path)("x", False)
