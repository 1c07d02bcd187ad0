"""DSSE: what exactly is signed (secure-systems-lab/dsse, protocol.md, version 1.0.2)."""

from __future__ import annotations

__all__ = ["PAYLOAD_TYPE", "pre_authentication_encoding"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def pre_authentication_encoding(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the bytes to sign for payload: its type and itself, each after its length in bytes.

    >>> pre_authentication_encoding(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
