"""Digests: ``sha256:`` and 64 lower-case hexadecimal digits, nothing else (OCI image-spec, descriptor)."""

from __future__ import annotations

import hashlib
import re

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import NewType

__all__ = ["DIGEST_PATTERN", "Digest", "digest_from_hex", "digest_of", "hex_of", "parse_digest"]

Digest = NewType("Digest", str)

_ALGORITHM = "sha256:"
DIGEST_PATTERN = r"\Asha256:[0-9a-f]{64}\Z"

_is_digest = re.compile(DIGEST_PATTERN).match


def digest_of(data: bytes | bytearray | memoryview) -> Digest:
    """Return the SHA-256 digest of data."""
    return digest_from_hex(hashlib.sha256(data).hexdigest())


def digest_from_hex(sha256: str) -> Digest:
    """Return the digest with these 64 hexadecimal digits, as hashlib returns them.

    >>> digest_from_hex("00" * 32)[:10]
    'sha256:000'
    """
    return Digest(_ALGORITHM + sha256)


def hex_of(digest: Digest) -> str:
    """Return the 64 hexadecimal digits of a digest."""
    return digest.removeprefix(_ALGORITHM)


def parse_digest(text: object, *, where: str = "digest") -> Digest:
    """Return text as a Digest.

    Raises: InvalidInput, unless text is ``sha256:`` and 64 lower-case hexadecimal digits. No other algorithm,
    case or length is accepted, so a Digest is always safe in a path or a URL.
    """
    if isinstance(text, str) and _is_digest(text):
        return Digest(text)
    raise InvalidInput(
        "not a digest",
        where=where,
        expected="sha256: and 64 lower-case hexadecimal digits",
        got=repr(text)[:120],
        fix="write it in full, in lower case",
        code="E_DIGEST",
    )
