"""Patterns that leave out paths of an input, in the syntax of gitignore(5): one list, without nested files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["Excludes", "Verdict", "compile_excludes", "compile_patterns"]

Excludes = Callable[[str, bool], bool]
"""(path relative to the input's root, is it a folder) -> left out. Not called for paths below a folder left out."""

Verdict = Callable[[str, bool], bool | None]
"""(path, is it a folder) -> None without a matching pattern; else whether the last one is without ``!``."""

_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_STAR = "[^/]*"
_FOLDERS = "(?:.*/)?"  # **/
_NOTHING = "(?!)"  # matches no path

# Characters in the order of ranges. Bytes that are not UTF-8 come last: Python decodes them as lone surrogates.
_BLOCKS = (("\0", "\ud7ff"), ("\ue000", "\U0010ffff"), ("\ud800", "\udfff"))


def compile_excludes(patterns: Iterable[str]) -> Excludes:
    """Return the rule of these patterns: the last one that matches a path decides.

    >>> left_out = compile_excludes(["*.tmp", "!keep.tmp", "build/"])
    >>> left_out("a/b.tmp", False), left_out("keep.tmp", False), left_out("build", True), left_out("build", False)
    (True, False, True, False)
    """
    verdict = compile_patterns(patterns)
    return lambda path, is_folder: bool(verdict(path, is_folder))


def compile_patterns(patterns: Iterable[str]) -> Verdict:
    """Return the verdict of these patterns on a path alone, without regard to the folders above it.

    >>> verdict = compile_patterns(["*.tmp", "!keep.tmp"])
    >>> verdict("b.tmp", False), verdict("keep.tmp", False), verdict("c", False)
    (True, False, None)
    """
    rules = [rule for rule in map(_compile, patterns) if rule]
    tests = []
    for keep, run in groupby(reversed(rules), key=attrgetter("keep")):  # in a run, any match decides the same
        regexes: dict[tuple[bool, bool], list[str]] = {}
        for rule in run:
            regexes.setdefault((rule.whole_path, rule.folders_only), []).append(rule.regex)
        for (whole_path, folders_only), alternatives in regexes.items():
            matches = re.compile("|".join(alternatives), re.DOTALL).fullmatch
            tests.append((matches, whole_path, folders_only, not keep))

    def verdict(path: str, is_folder: bool) -> bool | None:
        name = path[path.rfind("/") + 1 :]
        for matches, whole_path, folders_only, leaves_out in tests:
            if (is_folder or not folders_only) and matches(path if whole_path else name):
                return leaves_out
        return None

    return verdict


class _Rule(NamedTuple):
    """One pattern. regex: of the whole path, or of its last segment. keep: it starts with ``!``."""

    regex: str
    whole_path: bool
    folders_only: bool
    keep: bool


def _compile(pattern: str) -> _Rule | None:
    text = _without_trailing_spaces(pattern)
    if not text or text.startswith("#"):
        return None
    keep = text.startswith("!")
    if keep:
        text = text[1:]
    folders_only = text.endswith("/")
    if folders_only:
        text = text[:-1]
    return _Rule(_regex(text.removeprefix("/")), "/" in text, folders_only, keep)


def _without_trailing_spaces(pattern: str) -> str:
    stripped = pattern.rstrip(" ")
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if escapes % 2 and len(stripped) < len(pattern) else stripped


def _regex(text: str) -> str:
    """Return the regex of a pattern of git's wildmatch, in which * stops at a slash.

    All but the last * of a segment, and all but the last **/, take the shortest match and never backtrack: a longer
    match could not help, so no pattern takes exponential time.
    """
    out: list[str] = []
    star = folders = -1  # indices in out of the last * of this segment and the last **/
    for token in _tokens(text):
        if token == _STAR:
            if star >= 0:
                out[star] = "(?>[^/]*?"
                out.append(")")
            star = len(out)
        elif token == _FOLDERS:
            if folders >= 0:
                out[folders] = "(?>(?:[^/]*/)*?"
                out.append(")")
            folders = len(out)
        elif token == "/":
            star = -1
        out.append(token)
    return "".join(out)


def _tokens(text: str) -> Iterator[str]:
    """Yield the regex of each character, bracket expression and run of asterisks in text."""
    at, end = 0, len(text)
    while at < end:
        start, char = at, text[at]
        at += 1
        if char == "*":
            while text[at : at + 1] == "*":
                at += 1
            whole_segment = at - start > 1 and text[start - 1 : start] in ("", "/") and text[at : at + 1] in ("", "/")
            if whole_segment and at < end:
                yield _FOLDERS
                at += 1
            else:
                yield ".+" if whole_segment else _STAR
        elif char == "?":
            yield "[^/]"
        elif char == "[":
            at, body = _bracket(text, start)
            yield body
        else:
            literal, at = _literal(text, start)
            yield re.escape(literal) if literal else _NOTHING


def _bracket(text: str, start: int) -> tuple[int, str]:
    """Return (index after it, regex) of the bracket expression at start; one that never closes matches nothing."""
    at, negated = start + 1, text[start + 1 : start + 2] in ("!", "^")
    at += negated
    first, items = at, []
    while (char := text[at : at + 1]) != "]" or at == first:
        if char == "[" and (close := _class_end(text, at)):
            if text[at + 2 : close] not in _POSIX_CLASSES:
                return len(text), _NOTHING
            items.append(_POSIX_CLASSES[text[at + 2 : close]])
            at = close + 2
            continue
        low, at = _literal(text, at)
        high = low
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("", "]"):
            high, at = _literal(text, at + 1)
        if not low or not high:
            return len(text), _NOTHING
        items.append(re.escape(low) if low == high else _range(low, high))
    inside = "".join(items)
    return at + 1, f"[^/{inside}]" if negated else f"(?!/)[{inside}]"


def _range(low: str, high: str) -> str:
    """Return the characters from low to high for a regex set; low alone when high comes before it."""
    parts = []
    for first, last in _BLOCKS:
        start, end = max(low, first, key=_order), min(high, last, key=_order)
        if _order(start) <= _order(end):
            parts.append(f"{re.escape(start)}-{re.escape(end)}")
    return "".join(parts) or re.escape(low)


def _order(character: str) -> tuple[bool, str]:
    return "\ud800" <= character <= "\udfff", character


def _class_end(text: str, start: int) -> int:
    """Return the index of the ``:]`` that ends the ``[:`` at start, or 0 when this is no character class."""
    close = text.find("]", start + 2) - 1
    return close if text[start + 1 : start + 2] == ":" and close >= start + 2 and text[close] == ":" else 0


def _literal(text: str, at: int) -> tuple[str, int]:
    """Return the character at this index, without its backslash, and the index after it; "" at the end of text."""
    if text[at : at + 1] == "\\":
        at += 1
    return text[at : at + 1], at + 1
