"""Exclude patterns compared with git, whose syntax they have. SPEC.md, section 6, lists the differences."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neutral_git import git

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
    git(root, "init", "--quiet", ".")
    for path in PATHS:
        if path.endswith("/"):
            (root / path).mkdir()
        else:
            (root / path).touch()
    question = "\0".join(f"./{path.removesuffix('/')}" for path in PATHS)  # ./ because git gives a leading : a meaning

    def leaves_out(patterns: list[str]) -> set[str]:
        (root / ".git" / "info" / "exclude").write_text("".join(f"{pattern}\n" for pattern in patterns))
        ignored = git(root, "check-ignore", "--no-index", "-z", "--stdin", question=question)
        return {path.removeprefix("./") for path in ignored.split("\0")} - {""}

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
    [
        *(
            *"abcz./*?[]!^-\\# :",
            "ab",
            "**",
            "***",
            "**/",
            "/**",
            "[a]",
            "[!a]",
            "[a-c]",
            "[z-a]",
            "[]a]",
            "[[:alpha:]]",
        ),
        *("\\/", "\\ ", "\\\\", "[]-a]", "[A-\\]]", "[a-b-z]", "[--a]", "[[:al]", "[:-[:digit:]]", "[[:punct:]-a]"),
    ]
)
patterns = st.lists(parts, min_size=1, max_size=7).map("".join)

# Known differences: git reads ** before a slash as "any folders" after literal text, unlike gitignore(5), and as at
# least one folder before an escaped slash.
_git_difference = re.compile(r"[^/*]\*\*+/|\*\*+\\/")


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
        ["*a", "!#a"],
        ["*", "!!"],
        ["a//", "b//"],
        ["a/\\/b", "a\\/**/b", "a\\/**"],
        ["[b/]", "a[/]b"],
        ["\\ ", "\\\\ "],
    ],
)
def test_special_cases_are_as_ingit(git_leaves_out: GitLeavesOut, patterns: list[str]) -> None:
    assert _ctxpack_leaves_out(patterns) == git_leaves_out(patterns)


@pytest.mark.parametrize(
    "name",
    ["alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"],
)
def test_classes_hold_what_they_hold_ingit(tmp_path: Path, name: str) -> None:
    characters = [chr(code) for code in range(1, 128) if chr(code) != "/"]
    (tmp_path / ".gitignore").write_text(f"x[[:{name}:]]")
    git(tmp_path, "init", "--quiet", "--template=", ".")
    done = git(tmp_path, "check-ignore", "--no-index", "-z", "--stdin", question="\0".join(f"x{c}" for c in characters))
    leaves_out = compile_excludes([f"x[[:{name}:]]"])
    expected = {f"x{character}" for character in characters if leaves_out(f"x{character}", False)}
    if name == "space":
        expected -= {"x\v", "x\f"}  # the difference that SPEC.md names
    assert set(done.split("\0")) - {""} == expected


def test_two_stars_after_text_match_no_folders(git_leaves_out: GitLeavesOut) -> None:
    assert "a/ab/b" in git_leaves_out(["a**/b"])  # the difference that SPEC.md names
    assert "a/ab/b" not in _ctxpack_leaves_out(["a**/b"])
    assert "a/b/a" in _ctxpack_leaves_out(["a**/b/"])


def test_two_stars_before_an_escaped_slash_are_one(git_leaves_out: GitLeavesOut) -> None:
    assert "a/ab/b" in git_leaves_out(["**\\/b"])  # the difference that SPEC.md names
    assert "a/ab/b" not in _ctxpack_leaves_out(["**\\/b"])
    assert "ab/b" in _ctxpack_leaves_out(["**\\/b"])
