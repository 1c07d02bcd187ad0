"""Which paths a pack may hold, and the text of the error for others."""

from __future__ import annotations

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_identity.packpath import check_path

ALLOWED = [
    "a",
    "a/",
    "a/b/c.txt",
    "...",
    ".hidden",
    "-rf",
    "a b",
    "CON",
    "x:y",
    "ü/日本/\U0001f4e6",
    "e\u0301",
    "\u202etxt",
    "n" * 255,
    "é" * 127 + "n",
    "/".join(["n" * 204] * 4 + ["n" * 204]),
    "d/" * 511 + "d",
    "d/" * 511 + "d/",
]

REFUSED = [
    ("", "path is not relative and normal"),
    ("/", "path is not relative and normal"),
    ("/a", "path is not relative and normal"),
    ("a//b", "path is not relative and normal"),
    ("a//", "path is not relative and normal"),
    (".", "path is not relative and normal"),
    ("./a", "path is not relative and normal"),
    ("a/./b", "path is not relative and normal"),
    ("..", "path is not relative and normal"),
    ("../a", "path is not relative and normal"),
    ("a/../../b", "path is not relative and normal"),
    ("a/..", "path is not relative and normal"),
    ("../", "path is not relative and normal"),
    ("a\\b", "name holds a backslash or a control character"),
    ("C:\\a", "name holds a backslash or a control character"),
    ("a\0b", "name holds a backslash or a control character"),
    ("a\nb", "name holds a backslash or a control character"),
    ("\x1b[2J", "name holds a backslash or a control character"),
    ("a\x7f", "name holds a backslash or a control character"),
    ("a\x85b", "name holds a backslash or a control character"),
    ("a\ud800", "name is not Unicode text"),
    ("n" * 256, "name is longer than 255 bytes"),
    ("é" * 128, "name is longer than 255 bytes"),
    ("a/" + "é" * 128 + "/b", "name is longer than 255 bytes"),
    ("d/" * 512 + "d", "path is longer than 1024 bytes"),
]


@pytest.mark.parametrize("path", ALLOWED)
def test_a_pack_may_hold(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(("path", "fault"), REFUSED)
def test_a_pack_may_not_hold(path: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_path(path)
    error = caught.value
    assert (error.what, error.code, error.where) == (fault, "E_PATH", repr(path))
    assert str(error).isprintable()
    assert str(error).endswith(
        "; rename it: no backslash, no control character, at most 255 bytes a name and 1024 a path"
    )
