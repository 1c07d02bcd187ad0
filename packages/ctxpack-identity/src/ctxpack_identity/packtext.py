"""Which texts of lock files a pack may hold. FORMAT.md of ctxpack-bundle, "Listings"."""

from __future__ import annotations

from ctxpack_identity.errors import InvalidInput

__all__ = ["MAX_TEXT_BYTES", "check_text"]

MAX_TEXT_BYTES = 1 << 20  # a lock file of some thousand packages has half of it


def check_text(data: bytes, *, where: str) -> None:
    """Raise InvalidInput unless a pack may hold data as the text of an environment: UTF-8, MAX_TEXT_BYTES at most."""
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidInput(
            "too large for a text that a pack holds",
            where=where,
            expected=f"at most {MAX_TEXT_BYTES} bytes",
            fix='remove "text": the digest is in the contract anyway',
            code="E_TOO_LARGE",
        )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            '"text" is for a file of UTF-8',
            where=where,
            got=f"byte {data[error.start]:#04x} at offset {error.start}",
            fix='save it as UTF-8, or remove "text"',
            code="E_TEXT",
        ) from error
