"""Exclude patterns: a comparison with pathspec where both follow gitignore(5), and a bound on time.

Compared with git itself in tests-integration/; its differences are in SPEC.md, section 6.
"""

from __future__ import annotations

import time

import pathspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity.exclude import compile_excludes, compile_patterns

UNDECODED = [chr(code) for code in range(0xDC80, 0xDD00)]

# What pathspec and gitignore(5) agree on: literals, ?, *, and ** as a whole segment; files, and no "!".
segments = st.text("ab.*?", min_size=1, max_size=4).filter(lambda text: "**" not in text) | st.just("**")
patterns = st.builds(
    lambda lead, parts, tail: lead + "/".join(parts) + tail,
    st.sampled_from(["", "/"]),
    st.lists(segments, min_size=1, max_size=4),
    st.sampled_from(["", "/"]),
).filter(lambda pattern: "**/**" not in pattern)
paths = st.lists(
    st.text("ab.c", min_size=1, max_size=4).filter(lambda name: name not in (".", "..")), min_size=1, max_size=4
).map("/".join)


@given(st.lists(patterns, min_size=1, max_size=3), paths)
def test_the_package_pathspec_leaves_out_the_same_files(patterns: list[str], path: str) -> None:
    assert _left_out(patterns, path) == pathspec.GitIgnoreSpec.from_lines(patterns).match_file(path)


def _left_out(patterns: list[str], path: str) -> bool:
    """Call it as scan does: folders first, and nothing below one that is left out."""
    leaves_out = compile_excludes(patterns)
    above = path.split("/")[:-1]
    return any(leaves_out("/".join(above[: n + 1]), True) for n in range(len(above))) or leaves_out(path, False)


@given(st.lists(st.text(max_size=12), max_size=4), st.text(min_size=1, max_size=20), st.booleans())
def test_any_text_is_a_pattern_for_any_path(patterns: list[str], path: str, is_folder: bool) -> None:
    assert compile_excludes(patterns)(path, is_folder) in (True, False)


@given(st.text(min_size=1).filter(lambda name: "/" not in name))
def test_a_name_with_every_character_escaped_matches_itself_alone(name: str) -> None:
    leaves_out = compile_excludes(["".join(f"\\{character}" for character in name)])
    assert leaves_out(name, False)
    assert leaves_out(f"folder/{name}", True)
    assert not leaves_out(f"{name}x", False)
    assert not leaves_out(f"x{name}", False)


@given(patterns, paths, st.booleans())
def test_a_later_opposite_pattern_cancels_a_pattern(pattern: str, path: str, is_folder: bool) -> None:
    assert not compile_excludes([pattern, f"!{pattern}"])(path, is_folder)
    assert compile_excludes([f"!{pattern}", pattern])(path, is_folder) == compile_excludes([pattern])(path, is_folder)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "*b", "a" * 250),
        ("[!b]*" * 30 + "c", "a" * 250),
        ("**/a/" * 15 + "b", "a/" * 200 + "c"),
        ("**/*a*a*a/" * 8 + "b", ("a" * 20 + "/") * 40 + "c"),
    ],
)
def test_no_pattern_takes_exponential_time(pattern: str, path: str) -> None:
    started = time.process_time()
    assert not compile_excludes([pattern])(path, False)
    assert time.process_time() - started < 2  # seconds; backtracking would take years


@pytest.mark.parametrize("pattern", ["*.tmp", "a?.tmp", "a[!x].tmp", "a[![:alpha:]].tmp", "a[^\u0080-\U0010ffff].tmp"])
def test_names_that_are_not_utf8_can_be_left_out(pattern: str) -> None:
    assert compile_excludes([pattern])("a\udcff.tmp", False)


scalars = st.characters(exclude_categories=["Cs"], exclude_characters="/")
undecoded = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])  # bytes, to Python
characters = scalars | undecoded | st.sampled_from("\ud7ff\ue000\U0010ffff")


@given(characters, characters, characters)
def test_a_range_is_in_the_order_of_code_points_and_then_of_bytes(low: str, high: str, character: str) -> None:
    def order(one: str) -> tuple[bool, str]:
        return one in UNDECODED, one

    inside = character == low or order(low) <= order(character) <= order(high)
    assert compile_excludes([f"[\\{low}-\\{high}]"])(character, False) == inside
    assert compile_excludes([f"[!\\{low}-\\{high}]"])(character, False) == (not inside)


@given(st.lists(st.builds(str.__add__, st.sampled_from(["", "!"]), patterns), max_size=6), paths, st.booleans())
def test_a_verdict_is_the_last_one_of_its_patterns(patterns: list[str], path: str, is_folder: bool) -> None:
    verdicts = [compile_patterns([pattern])(path, is_folder) for pattern in patterns]
    given = [verdict for verdict in verdicts if verdict is not None]
    assert compile_patterns(patterns)(path, is_folder) is (given[-1] if given else None)


@given(st.lists(patterns, max_size=3), paths, st.booleans())
def test_a_verdict_is_that_of_the_last_pattern_that_matches(patterns: list[str], path: str, is_folder: bool) -> None:
    matching = [pattern for pattern in patterns if compile_excludes([pattern])(path, is_folder)]
    for keep in (True, False):
        marked = [pattern if keep else f"!{pattern}" for pattern in patterns]
        assert compile_patterns(marked)(path, is_folder) is (keep if matching else None)
    assert compile_patterns([*patterns, "!**"])(path, is_folder) is False
    assert compile_patterns(["!**", *patterns])(path, is_folder) is bool(matching)
