"""Texts that a pack may hold: UTF-8, up to a limit."""

from __future__ import annotations

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_identity.packtext import MAX_TEXT_BYTES, check_text


@pytest.mark.parametrize("data", [b"", "é\n".encode(), b"\0", b"x" * MAX_TEXT_BYTES])
def test_these_are_texts(data: bytes) -> None:
    check_text(data, where="lock")


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (
            b"x" * (MAX_TEXT_BYTES + 1),
            "E_TOO_LARGE",
            "too large for a text that a pack holds: expected at most 1048576 bytes; "
            'remove "text": the digest is in the contract anyway',
        ),
        (
            "é\n".encode() + b"\xc3",
            "E_TEXT",
            '"text" is for a file of UTF-8: got byte 0xc3 at offset 3; save it as UTF-8, or remove "text"',
        ),
    ],
)
def test_these_are_none(data: bytes, code: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_text(data, where="lock")
    assert (caught.value.code, str(caught.value)) == (code, f"lock: {message}")
