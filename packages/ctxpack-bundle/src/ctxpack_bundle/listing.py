"""Listings: one line of canonical JSON for each file or empty folder, in canonical order. FORMAT.md, "Listings"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from json.encoder import encode_basestring
from typing import Annotated, BinaryIO

import msgspec

from ctxpack_bundle.remedy import EITHER
from ctxpack_identity import IntegrityError, TreeEntry
from ctxpack_identity.canonical import MAX_INTEGER

__all__ = ["MAX_LINE_BYTES", "listing_line", "listing_lines", "read_executables", "read_listing"]

_MODES = {False: "0644", True: "0755"}
_EXECUTABLE = b'{"mode":"0755",'  # how the line of an executable file begins
MAX_LINE_BYTES = 16 << 10  # a path of 1024 bytes, every one of them escaped, and its digest

_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch

# Matches the line of nearly every file: its path is printable ASCII in which nothing is escaped. It takes half as long
# as to decode a line and to write it again.
_plain = re.compile(
    rb'\{"mode":"(0644|0755)","path":"([ !#-\[\]-~]*[ !#-.0-\[\]-~])",'
    rb'"sha256":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,14})\}\n'
).fullmatch


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str = ""
    mode: str = ""
    sha256: str = ""
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)] = 0


_decode = msgspec.json.Decoder(_Line).decode


def listing_line(entry: TreeEntry) -> bytes:
    """Return the line of one entry, with its line feed. The path of a root that is a file is empty, and left out.

    >>> listing_line(TreeEntry("a b.txt", 2, "00" * 32)).decode()[:35]
    '{"mode":"0644","path":"a b.txt","sh'
    >>> listing_line(TreeEntry("empty/", 0, ""))
    b'{"path":"empty/"}\\n'
    """
    if entry.is_empty_folder:
        return f'{{"path":{encode_basestring(entry.path)}}}\n'.encode()
    path = f'"path":{encode_basestring(entry.path)},' if entry.path else ""
    return f'{{"mode":"{_MODES[entry.executable]}",{path}"sha256":"{entry.sha256}","size":{entry.size}}}\n'.encode()


def read_listing(file: BinaryIO, *, where: str) -> Iterator[TreeEntry]:
    """Yield the entries of a listing, open for reading.

    Each line must be, to the byte, what listing_line writes. Order, paths, and that an entry without a path is the only
    one, are the caller's to check.
    Raises: IntegrityError, which names the line.
    """
    for number, line in enumerate(listing_lines(file), 1):
        yield _entry(line, where, number)


def read_executables(file: BinaryIO, *, where: str) -> Iterator[TreeEntry]:
    """Yield the executable files of a listing, open for reading. Other lines are not parsed.

    Raises: as read_listing does, for these lines.
    """
    for number, line in enumerate(listing_lines(file), 1):
        if line.startswith(_EXECUTABLE):
            yield _entry(line, where, number)


def _entry(line: bytes, where: str, number: int) -> TreeEntry:
    plain = _plain(line)
    if plain is not None and len(line) <= MAX_LINE_BYTES:
        mode, path, sha256, size = plain.groups()
        return TreeEntry(path.decode(), int(size), sha256.decode(), mode == b"0755")
    try:
        read = _decode(line) if len(line) <= MAX_LINE_BYTES else _Line()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _malformed(where, number) from error
    entry = TreeEntry(read.path, read.size, read.sha256, read.mode == "0755")
    sound = entry.is_empty_folder or _is_sha256(entry.sha256)
    if not sound or listing_line(entry) != line:
        raise _malformed(where, number)
    return entry


def listing_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a listing, open for reading, unchecked; of a longer line parts of MAX_LINE_BYTES + 1 bytes."""
    return iter(partial(file.readline, MAX_LINE_BYTES + 1), b"")


def _malformed(where: str, number: int) -> IntegrityError:
    return IntegrityError("malformed line", where=f"{where}, line {number}", fix=EITHER)
