"""Digests: what is accepted, and the text of the error."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, digest_of, parse_digest


@given(st.binary())
def test_a_digest_is_sha256_in_hexadecimal_and_reads_back(data: bytes) -> None:
    digest = digest_of(data)
    assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert parse_digest(digest) == digest
    assert digest_of(bytearray(data)) == digest_of(memoryview(data)) == digest


@pytest.mark.parametrize("value", [None, 1, b"sha256:" + b"0" * 64, ["sha256:"]])
def test_a_value_that_is_not_text_is_not_a_digest(value: object) -> None:
    with pytest.raises(InvalidInput):
        parse_digest(value)


def test_the_error_has_the_place_and_the_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_digest("sha256:AB", where="layers[0].digest")
    assert str(caught.value) == (
        "layers[0].digest: not a digest: expected sha256: and 64 lower-case hexadecimal digits, got 'sha256:AB'; "
        "write it in full, in lower case"
    )


def test_the_error_of_a_long_text_is_short() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_digest("x" * 10_000)
    assert len(str(caught.value)) < 250
