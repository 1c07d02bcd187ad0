"""Context URIs: every contract's URI reads back, and the text of the error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, digest_of, parse_uri, uri_digest, uri_for


@given(st.binary())
def test_a_uri_reads_back_and_gives_its_digest(contract: bytes) -> None:
    uri = uri_for(digest_of(contract))
    assert parse_uri(uri) == uri
    assert uri_digest(parse_uri(uri)) == digest_of(contract)


@given(st.text(max_size=90))
def test_only_the_exact_form_is_a_uri(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_uri(text)


@pytest.mark.parametrize("value", [None, 1, b"ctx://sha256:" + b"0" * 64])
def test_a_value_that_is_not_text_is_not_a_uri(value: object) -> None:
    with pytest.raises(InvalidInput):
        parse_uri(value)


def test_the_error_has_a_fix() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_uri("ctx://sha256:0123456789ab")
    assert str(caught.value) == (
        "URI: not a ctx URI: expected ctx://sha256: and 64 lower-case hexadecimal digits, "
        "got 'ctx://sha256:0123456789ab'; `ctxpack id CONTRACT` prints it in full"
    )
