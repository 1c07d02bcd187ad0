"""Patterns in gitignore syntax select outputs: each pattern adds files or removes some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity.exclude import compile_excludes
from ctxpack_pantry.include import included

PATHS = ["a.txt", "b.bin", "docs/a.txt", "docs/deep/c.txt", "docs/deep/d.bin", "docs/void/", "other/docs/e.txt"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], []),
        ([""], []),
        (["# a comment"], []),
        (["a.txt"], ["a.txt", "docs/a.txt"]),
        (["/a.txt"], ["a.txt"]),
        (["*.txt"], ["a.txt", "docs/a.txt", "docs/deep/c.txt", "other/docs/e.txt"]),
        (["docs"], ["docs/a.txt", "docs/deep/c.txt", "docs/deep/d.bin", "docs/void/", "other/docs/e.txt"]),
        (["/docs/"], ["docs/a.txt", "docs/deep/c.txt", "docs/deep/d.bin", "docs/void/"]),
        (["docs/"], ["docs/a.txt", "docs/deep/c.txt", "docs/deep/d.bin", "docs/void/", "other/docs/e.txt"]),
        (["a.txt/"], []),
        (["docs/*.txt"], ["docs/a.txt"]),
        (["docs/**/*.txt"], ["docs/a.txt", "docs/deep/c.txt"]),
        (["void"], ["docs/void/"]),
        (["void/"], ["docs/void/"]),
        (["*"], PATHS),
        (["**"], PATHS),
        # the last match decides; a folder that matches counts for everything below it
        (["/docs", "!*.bin"], ["docs/a.txt", "docs/deep/c.txt", "docs/void/"]),
        (["!*.bin", "/docs"], ["docs/a.txt", "docs/deep/c.txt", "docs/deep/d.bin", "docs/void/"]),
        (["/docs", "!deep"], ["docs/a.txt", "docs/void/"]),
        (["/docs", "!deep", "c.txt"], ["docs/a.txt", "docs/deep/c.txt", "docs/void/"]),
        (["*.bin", "!b.bin"], ["docs/deep/d.bin"]),
        (["!b.bin", "*.bin"], ["b.bin", "docs/deep/d.bin"]),
        (["!a.txt"], []),
        (["*", "!docs"], ["a.txt", "b.bin"]),
        (["*", "!/docs"], ["a.txt", "b.bin", "other/docs/e.txt"]),
        ([r"\!a.txt"], []),
    ],
)
def test_patterns_select(patterns: list[str], expected: list[str]) -> None:
    assert [path for path in PATHS if included(patterns)(path)] == expected


names = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
patterns = st.lists(st.text("ab.*?/", min_size=1, max_size=6), max_size=3)


@given(patterns, paths, st.booleans())
def test_without_negation_patterns_select_what_exclude_leaves_out(
    patterns: list[str], path: str, is_file: bool
) -> None:
    left_out, above = compile_excludes(patterns), path.split("/")[:-1]
    folders = ["/".join(above[: depth + 1]) for depth in range(len(above))]
    expected = any(left_out(folder, True) for folder in folders) or left_out(path, not is_file)
    assert included(patterns)(path if is_file else f"{path}/") == expected


@given(patterns, patterns, paths)
def test_a_negated_pattern_removes_what_the_pattern_adds(added: list[str], removed: list[str], path: str) -> None:
    together = included([*added, *(f"!{pattern}" for pattern in removed)])
    assert together(path) == (included(added)(path) and not included(removed)(path))


@given(patterns, st.lists(paths, max_size=8))
def test_the_order_of_the_paths_does_not_matter(patterns: list[str], asked: list[str]) -> None:
    wanted = included(patterns)
    assert [wanted(path) for path in asked] == [included(patterns)(path) for path in asked]
