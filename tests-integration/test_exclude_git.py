"""Exclude patterns compared with git, whose syntax they have. SPEC.md, section 6, lists the differences."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_identity.exclude import compile_excludes

GitLeavesOut = Callable[[list[str]], set[str]]

NAMES = ["a", "b", "ab", "a.b", "abc", "aab", "z", "-", "[", "]", "!", "#a", "\\", ":", "*", " ", "a ", "a b", ".a"]
FOLDERS = ["a", "ab", "a.b", "b", ".a"]


def _paths(prefix: str, depth: int) -> list[str]:
    """Return every name at every depth. Folders end in a slash."""
    found = []
    for name in NAMES:
        if depth and name in FOLDERS:
            found += [f"{prefix}{name}/", *_paths(f"{prefix}{name}/", depth - 1)]
        else:
            found.append(f"{prefix}{name}")
    return found


PATHS = _paths("", 2)


@pytest.fixture(scope="module")
def git_leaves_out(tmp_path_factory: pytest.TempPathFactory) -> GitLeavesOut:
    """Ask `git check-ignore` which of PATHS a list of patterns leaves out."""
    root = tmp_path_factory.mktemp("repository")
    environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(root)}
    subprocess.run(["git", "init", "--quiet", str(root)], check=True, env=environment)
    for path in PATHS:
        if path.endswith("/"):
            (root / path).mkdir()
        else:
            (root / path).touch()
    question = "\0".join(f"./{path.removesuffix('/')}" for path in PATHS)  # ./ because git gives a leading : a meaning

    def leaves_out(patterns: list[str]) -> set[str]:
        (root / ".git" / "info" / "exclude").write_text("".join(f"{pattern}\n" for pattern in patterns))
        command = ["git", "-C", str(root), "check-ignore", "--no-index", "-z", "--stdin"]
        done = subprocess.run(command, input=question, capture_output=True, text=True, env=environment)
        assert done.returncode in (0, 1), done.stderr
        return {path.removeprefix("./") for path in done.stdout.split("\0")} - {""}

    return leaves_out


def _ctxpack_leaves_out(patterns: list[str]) -> set[str]:
    leaves_out = compile_excludes(patterns)
    left_out: list[str] = []
    for path in PATHS:  # a folder comes before what it holds
        is_below = any(folder.endswith("/") and path.startswith(folder) for folder in left_out)
        if is_below or leaves_out(path.removesuffix("/"), path.endswith("/")):
            left_out.append(path)
    return {path.removesuffix("/") for path in left_out}


parts = st.sampled_from(
    [*"abcz./*?[]!^-\\# :", "ab", "**", "***", "**/", "/**", "[a]", "[!a]", "[a-c]", "[z-a]", "[]a]", "[[:alpha:]]"]
)
patterns = st.lists(parts, min_size=1, max_size=7).map("".join)

# Known difference: after literal text, git reads ** before a slash as "any folders", unlike gitignore(5).
_git_difference = re.compile(r"[^/*]\*\*+/")


@given(st.lists(patterns.filter(lambda pattern: not _git_difference.search(pattern)), min_size=1, max_size=3))
@settings(max_examples=400)
def test_patterns_leave_out_what_git_ignores(git_leaves_out: GitLeavesOut, patterns: list[str]) -> None:
    assert _ctxpack_leaves_out(patterns) == git_leaves_out(patterns)


@pytest.mark.parametrize(
    "patterns",
    [
        ["*"],
        ["/*", "!/a/", "/a/*", "!/a/b/"],
        ["a/**/z"],
        ["**/a/"],
        ["/**", "!a/"],
        ["a/***/b"],
        ["[[:a]b:]"],
        ["[!]a-]"],
        ["a\\ ", "a "],
        ["\\!", "\\#a", "!"],
    ],
)
def test_special_cases_are_as_in_git(git_leaves_out: GitLeavesOut, patterns: list[str]) -> None:
    assert _ctxpack_leaves_out(patterns) == git_leaves_out(patterns)


def test_two_stars_after_text_match_no_folders(git_leaves_out: GitLeavesOut) -> None:
    assert "a/ab/b" in git_leaves_out(["a**/b"])  # the difference that SPEC.md names
    assert "a/ab/b" not in _ctxpack_leaves_out(["a**/b"])
    assert "a/b/a" in _ctxpack_leaves_out(["a**/b/"])
