"""Base64 with one text for each sequence of bytes (RFC 4648, section 4, with padding).

Python's decoder takes ``QR==`` for ``QQ==``: bits that nobody signed could change. Here they cannot.
"""

from __future__ import annotations

import binascii

from ctxpack_identity.errors import InvalidInput

__all__ = ["decode_base64", "encode_base64"]


def encode_base64(data: bytes) -> str:
    """Return the base64 text of data, in one line."""
    return binascii.b2a_base64(data, newline=False).decode()


def decode_base64(text: object, *, where: str) -> bytes:
    """Return the bytes whose base64 text is exactly text.

    Raises: InvalidInput (E_BASE64) for anything else: another alphabet, blanks, missing padding, spare bits that are
    not 0.

    >>> decode_base64("QQ==", where="here")
    b'A'
    """
    if isinstance(text, str):
        try:
            data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
        except ValueError:  # binascii.Error, and UnicodeEncodeError
            pass
        else:
            if encode_base64(data) == text:
                return data
    raise InvalidInput(
        "not canonical base64",
        where=where,
        expected="the standard alphabet, with padding, without blanks, spare bits 0",
        got=repr(text)[:80],
        fix="encode it again",
        code="E_BASE64",
    )
