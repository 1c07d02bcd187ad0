"""What is signed: DSSE's published vector (secure-systems-lab/dsse, protocol.md, "Test Vectors"), and lengths."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_trust import public_key_of
from ctxpack_trust.dsse import PAYLOAD_TYPE, pre_authentication_encoding

X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
SIGNATURE = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


def test_the_published_vector() -> None:
    signed = pre_authentication_encoding(b"hello world", "http://example.com/HelloWorld")
    assert signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    raw = base64.b64decode(SIGNATURE)
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = EllipticCurvePublicNumbers(X, Y, SECP256R1()).public_key()
    key = public_key_of(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), where="vector")
    assert key.verifies(signature, signed)
    assert not key.verifies(raw, signed)
    assert not key.verifies(signature, signed + b" ")


@pytest.mark.parametrize(
    ("payload", "kind", "signed"),
    [
        (b"", "", b"DSSEv1 0  0 "),
        (b"{}", PAYLOAD_TYPE, b"DSSEv1 28 application/vnd.in-toto+json 2 {}"),
        ("ü".encode(), "ü", b"DSSEv1 2 \xc3\xbc 2 \xc3\xbc"),
        (b" 1 x", "a", b"DSSEv1 1 a 4  1 x"),
    ],
)
def test_lengths_count_bytes(payload: bytes, kind: str, signed: bytes) -> None:
    assert pre_authentication_encoding(payload, kind) == signed


PAIRS = st.tuples(st.binary(max_size=12) | st.text(" 01", max_size=6).map(str.encode), st.text(" 0a", max_size=6))


@given(PAIRS, PAIRS)
def test_no_two_pairs_have_one_encoding(one: tuple[bytes, str], other: tuple[bytes, str]) -> None:
    assert (pre_authentication_encoding(*one) == pre_authentication_encoding(*other)) == (one == other)
