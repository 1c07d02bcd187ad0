"""Which paths an input leaves out, in gitignore syntax (git's gitignore(5)), as one list without nested files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["Excludes", "compile_excludes"]

Excludes = Callable[[str, bool], bool]
"""(path relative to the input's root, is it a folder) -> left out. Nothing below a folder left out is ever asked."""

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


def compile_excludes(patterns: Iterable[str]) -> Excludes:
    """Return the rule these patterns make together; the last one that matches a path decides.

    >>> left_out = compile_excludes(["*.tmp", "!keep.tmp", "build/"])
    >>> left_out("a/b.tmp", False), left_out("keep.tmp", False), left_out("build", True), left_out("build", False)
    (True, False, True, False)
    """
    rules = [rule for rule in map(_compile, patterns) if rule]

    def left_out(path: str, is_folder: bool) -> bool:
        for matches, folders_only, keep in reversed(rules):
            if (is_folder or not folders_only) and matches(path):
                return not keep
        return False

    return left_out


def _compile(pattern: str) -> tuple[Callable[[str], object], bool, bool] | None:
    text = _without_trailing_spaces(pattern)
    if not text or text.startswith("#"):
        return None
    keep = text.startswith("!")
    if keep:
        text = text[1:]
    folders_only = text.endswith("/")
    if folders_only:
        text = text[:-1]
    anchored = "/" in text
    body = _regex(text.removeprefix("/"))
    if not text or body is None:
        return None
    return re.compile(body if anchored else f"(?:.*/)?{body}", re.DOTALL).fullmatch, folders_only, keep


def _without_trailing_spaces(pattern: str) -> str:
    stripped = pattern.rstrip(" ")
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if escapes % 2 and len(stripped) < len(pattern) else stripped


def _regex(text: str) -> str | None:
    """Translate git's wildmatch, path-aware; None for a pattern that can match nothing."""
    out, at, end = [], 0, len(text)
    while at < end:
        char = text[at]
        if char == "*":
            stars = at
            while at < end and text[at] == "*":
                at += 1
            whole_segment = (
                at - stars == 2 and (stars == 0 or text[stars - 1] == "/") and text[at : at + 1] in ("", "/")
            )
            if whole_segment and at < end:
                out.append("(?:.*/)?")
                at += 1
            elif whole_segment and stars:
                out.append(".+")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
            at += 1
        elif char == "[":
            found = _bracket(text, at)
            if found is None:
                return None
            at, body = found
            out.append(body)
        else:
            if char == "\\":
                at += 1
                if at == end:
                    return None
            out.append(re.escape(text[at]))
            at += 1
    return "".join(out)


def _bracket(text: str, start: int) -> tuple[int, str] | None:
    """Translate the bracket expression at start into (index after it, regex); None when it never closes."""
    at, negated = start + 1, False
    if text[at : at + 1] in ("!", "^"):
        at, negated = at + 1, True
    first, items = at, []
    while True:
        char = text[at : at + 1]
        if not char:
            return None
        if char == "]" and at > first:
            break
        if char == "[" and text[at + 1 : at + 2] == ":" and (close := text.find(":]", at + 2)) > 0:
            name = text[at + 2 : close]
            if name not in _POSIX_CLASSES:
                return None
            items.append(_POSIX_CLASSES[name])
            at = close + 2
            continue
        low, at = _literal(text, at)
        high = low
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("", "]"):
            high, at = _literal(text, at + 1)
        if not high:
            return None
        if low <= high:
            items.append(f"{re.escape(low)}-{re.escape(high)}")
    inside = "".join(items)
    if negated:
        return at + 1, f"[^/{inside}]"
    return at + 1, f"(?!/)[{inside}]" if inside else "(?!)"


def _literal(text: str, at: int) -> tuple[str, int]:
    if text[at] == "\\":
        at += 1
    return text[at : at + 1], at + 1
