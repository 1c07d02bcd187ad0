"""The one tar header a pack may hold for a member. FORMAT.md, "Members"; POSIX.1-2008, pax interchange format.

Headers are only written, never parsed: a reader makes the header that a listing entry must have and compares bytes, so
nothing in a received header is interpreted.
"""

from __future__ import annotations

from functools import cache
from typing import Final

__all__ = ["BLOCK", "END", "file_header", "folder_header", "padding"]

BLOCK: Final = 512  # bytes
END: Final = bytes(2 * BLOCK)  # POSIX: two blocks of zeros close an archive

_ZEROS = bytes(BLOCK)
_MAX_NAME = 100  # bytes, of the ustar name field
_MAX_SIZE = 8**11 - 1  # bytes, of the ustar size field: eleven octal digits


def file_header(name: str, size: int, *, executable: bool = False) -> bytes:
    """Return the header blocks of a regular file: name relative POSIX, size in bytes."""
    return _with_pax(name, size, 0o755 if executable else 0o644, b"0")


def folder_header(name: str) -> bytes:
    """Return the header blocks of a folder; name ends in ``/``."""
    return _with_pax(name, 0, 0o755, b"5")


def padding(size: int) -> bytes:
    """Return the zeros that extend content of this size to whole blocks."""
    return _ZEROS[: -size % BLOCK]


def _with_pax(name: str, size: int, mode: int, kind: bytes) -> bytes:
    """A pax record carries what the ustar fields cannot: names beyond 100 ASCII bytes, sizes from 8 GiB."""
    encoded = name.encode()
    records = b""
    if len(encoded) > _MAX_NAME or not name.isascii():
        records += _record("path", encoded)
        encoded = name.encode("ascii", "replace")[:_MAX_NAME]
    if size > _MAX_SIZE:
        records += _record("size", str(size).encode())
        size = 0
    header = _ustar(encoded, size, mode, kind)
    if not records:
        return header
    return _ustar(b"././@PaxHeader", len(records), 0o644, b"x") + records + padding(len(records)) + header


def _record(key: str, value: bytes) -> bytes:
    """``<length> <key>=<value>\\n``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return f"{length} {key}=".encode() + value + b"\n"


def _ustar(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    digits = b"%011o" % size
    fixed, checksum = _fixed(mode, kind)
    checksum += sum(name) + sum(digits)
    return b"%b%b%b%b%06o\0 %b" % (name.ljust(100, b"\0"), fixed[0], digits, fixed[1], checksum, fixed[2])


@cache
def _fixed(mode: int, kind: bytes) -> tuple[tuple[bytes, bytes, bytes], int]:
    """Return the bytes around name, size and checksum, and their part of the checksum."""
    parts = (
        b"%07o\0%07o\0%07o\0" % (mode, 0, 0),
        b"\0%011o\0" % 0,
        b"%b%bustar\x0000%b%07o\0%07o\0%b" % (kind, bytes(100), bytes(64), 0, 0, bytes(167)),
    )
    return parts, sum(map(sum, parts)) + 8 * 0x20  # the checksum itself counts as spaces
