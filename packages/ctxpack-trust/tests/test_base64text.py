"""One sequence of bytes has one text."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput
from ctxpack_trust.base64text import decode_base64, encode_base64


@given(st.binary(max_size=200))
def test_every_text_is_decoded_to_what_was_encoded(data: bytes) -> None:
    text = encode_base64(data)
    assert text == base64.b64encode(data).decode()
    assert decode_base64(text, where="here") == data


@pytest.mark.parametrize(
    "text",
    ["QR==", "QQ", "QQ=", "QQ===", "Q Q==", "QQ==\n", "Q-_=", "=QQ=", "QQ==QQ==", "QQ==x", "ü", "\0", None, b"QQ==", 5],
)
def test_any_other_text_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_base64(text, where="payload")
    assert (caught.value.code, caught.value.where) == ("E_BASE64", "payload")


@given(st.text(max_size=12) | st.text("AQR=+/-_ \n", max_size=12))
def test_what_is_accepted_is_the_text_of_its_bytes(text: str) -> None:
    try:
        data = decode_base64(text, where="here")
    except InvalidInput:
        return
    assert encode_base64(data) == text
