"""Hostile archives are refused, and nothing happens outside the staging folder (Arena checks that).

The first kind has something in the tar stream that manifest and listing do not announce. In the second kind manifest,
listing and stream agree, digests included, so that only the rules of FORMAT.md can refuse it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from typing import Any

import pytest
from forged_pack import (
    CONTRACT,
    END,
    File,
    Member,
    canonical,
    forge,
    header,
    listing,
    manifest,
    pax,
    right_header,
    stream,
)

from ctxpack_bundle import pack_manifest_of
from ctxpack_identity import IntegrityError

FILES = [File("a", b"one"), File("d/f", b"two"), File("e/"), File("z", b"end")]
HONEST = forge(FILES)
MANIFEST, LISTING, ARTIFACTS, A, F, E, Z = range(7)
EVIL = b"evil"


def insert(at: int, *members: Member) -> bytes:
    """The honest pack with more members before the one at this index."""
    return stream([*HONEST[:at], *members, *HONEST[at:]])


def replace(at: int, *members: Member) -> bytes:
    """The honest pack with other members in place of one."""
    return stream([*HONEST[:at], *members, *HONEST[at + 1 :]])


def reheaded(at: int, **fields: Any) -> bytes:
    """The honest pack with other fields in one header: mode, kind, …"""
    member = HONEST[at]
    name = member.header[:100].rstrip(b"\0")
    return replace(at, member._replace(header=header(name, len(member.content), **fields)))


def renamed(at: int, name: bytes, **fields: Any) -> bytes:
    member = HONEST[at]
    return replace(at, member._replace(header=header(name, len(member.content), **fields)))


def link(name: bytes, target: bytes, kind: bytes) -> Member:
    return Member(header(name, kind=kind, link=target, mode=0o777))


def evil(name: bytes, **fields: Any) -> Member:
    return Member(header(name, len(EVIL), **fields), EVIL)


def with_pax(at: int, records: Mapping[str, str] | bytes, **fields: Any) -> bytes:
    return replace(at, Member(pax(records, **fields)), HONEST[at])


def gnu(kind: bytes, name: bytes) -> Member:
    """A GNU long name (L) or long link (K)."""
    return Member(header(b"././@LongLink", len(name) + 1, kind=kind), name + b"\0")


def by_tarfile(mode: str, **fields: Any) -> Member:
    """A member as Python's tarfile writes it."""
    info = tarfile.TarInfo("artifacts/a")
    info.size, info.mode = 3, 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    formats = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}
    return Member(info.tobuf(formats[mode]), b"one")  # type: ignore[arg-type]


_WRONG_SUM = bytearray(HONEST[F].header)
_WRONG_SUM[148:156] = b"000000\0 "

IN_THE_STREAM: dict[str, bytes] = {
    # names
    "..": renamed(A, b"artifacts/../../canary"),
    "absolute": renamed(A, b"/tmp/ctxpack-canary"),
    "absolute, two slashes": renamed(A, b"//artifacts/a"),
    "alias of a file": renamed(A, b"./artifacts/a"),
    "alias, doubled slash": renamed(A, b"artifacts//a"),
    "alias, dot inside": renamed(A, b"artifacts/./a"),
    "alias, upper case": renamed(A, b"artifacts/A"),
    "empty name": renamed(A, b""),
    "name .": renamed(A, b"."),
    "file with a slash at its end": renamed(A, b"artifacts/a/"),
    "name after a NUL": renamed(A, b"artifacts/a\0/../../canary"),
    "name by prefix": replace(A, Member(header(b"a", 3)[:345] + b"artifacts".ljust(167, b"\0"), b"one")),
    "not UTF-8": renamed(A, b"artifacts/\xff"),
    "drive letter": renamed(A, b"C:\\a"),
    "another file": insert(A, evil(b"artifacts/0")),
    "another file at the end": insert(Z + 1, evil(b"artifacts/zz")),
    "another folder": insert(A, Member(header(b"artifacts/0/", kind=b"5", mode=0o755))),
    "intermediate folder": insert(F, Member(header(b"artifacts/d/", kind=b"5", mode=0o755))),
    "a file twice": insert(F, HONEST[A]),
    "a file twice, other content": insert(F, Member(HONEST[A].header, b"two")),
    "members out of order": stream([*HONEST[:A], HONEST[F], HONEST[A], *HONEST[E:]]),
    "a member missing": stream([*HONEST[:F], *HONEST[E:]]),
    "manifest last": stream([*HONEST[1:], HONEST[0]]),
    "second manifest": insert(LISTING, HONEST[MANIFEST]),
    "second manifest at the end": stream([*HONEST, HONEST[MANIFEST]]),
    "alias of the manifest": renamed(MANIFEST, b"./manifest.json"),
    "second listing": insert(ARTIFACTS, HONEST[LISTING]),
    "listing of no input": insert(ARTIFACTS, evil(b"inputs/x.jsonl")),
    "listing of no code": insert(ARTIFACTS, evil(b"code/0.jsonl")),
    "text of no environment": insert(ARTIFACTS, evil(b"environment/0.txt")),
    "no artifacts/": stream([*HONEST[:ARTIFACTS], *HONEST[A:]]),
    "artifacts/ twice": insert(A, HONEST[ARTIFACTS]),
    # links
    "symlink outside, then a file through it": replace(
        A, link(b"artifacts/a", b"../..", b"2"), evil(b"artifacts/a/canary")
    ),
    "symlink in place of a file": replace(A, link(b"artifacts/a", b"../../canary", b"2")),
    "absolute symlink": replace(A, link(b"artifacts/a", b"/etc/passwd", b"2")),
    "symlink with the content of the file": replace(
        A, Member(header(b"artifacts/a", 3, kind=b"2", link=b"../../canary"), b"one")
    ),
    "symlink in place of artifacts/": replace(ARTIFACTS, link(b"artifacts/", b"..", b"2")),
    "symlink in place of a folder": insert(F, link(b"artifacts/d", b"../..", b"2")),
    "symlink in place of an empty folder": replace(E, link(b"artifacts/e", b"..", b"2")),
    "symlink in place of the listing": replace(LISTING, link(b"files.jsonl", b"manifest.json", b"2")),
    "symlink with an empty name": insert(A, link(b"", b"..", b"2")),
    "symlink to itself": replace(A, link(b"artifacts/a", b"a", b"2")),
    "hard link": replace(A, link(b"artifacts/a", b"manifest.json", b"1")),
    "hard link outside": replace(A, link(b"artifacts/a", b"../canary", b"1")),
    "hard link with content": replace(A, Member(header(b"artifacts/a", 3, kind=b"1", link=b"../canary"), b"one")),
    "file with a link name": reheaded(A, link=b"../canary"),
    # kinds
    "character device": reheaded(A, kind=b"3"),
    "block device": reheaded(A, kind=b"4"),
    "FIFO": reheaded(A, kind=b"6"),
    "contiguous file": reheaded(A, kind=b"7"),
    "old file, type NUL": reheaded(A, kind=b"\0"),
    "old folder, type NUL": reheaded(E, kind=b"\0", mode=0o755),
    "folder in place of a file": reheaded(A, kind=b"5"),
    "file in place of a folder": reheaded(E, kind=b"0"),
    "GNU sparse": reheaded(A, kind=b"S"),
    "GNU volume": reheaded(A, kind=b"V"),
    "GNU multi-volume": reheaded(A, kind=b"M"),
    "GNU dump folder": reheaded(E, kind=b"D"),
    "vendor kind": reheaded(A, kind=b"Z"),
    "unknown kind": reheaded(A, kind=b"!"),
    # modes, owners, times
    "setuid": reheaded(A, mode=0o4755),
    "setgid": reheaded(A, mode=0o2644),
    "sticky folder": reheaded(E, kind=b"5", mode=0o1755),
    "world-writable": reheaded(A, mode=0o666),
    "mode 000": reheaded(A, mode=0),
    "executable that is not listed so": reheaded(A, mode=0o755),
    "folder of mode 000": reheaded(E, kind=b"5", mode=0),
    "owner": reheaded(A, uid=1000),
    "owner by name": reheaded(A, owner=b"root"),
    "time": reheaded(A, mtime=1),
    # sizes
    "size too small": replace(A, Member(header(b"artifacts/a", 2), b"one")),
    "size too large": replace(A, Member(header(b"artifacts/a", 4), b"one")),
    "size in base 256": reheaded(A, size_field=b"\x80" + bytes(10) + b"\x03"),
    "negative size in base 256": reheaded(A, size_field=b"\xff" * 11 + b"\x00"),
    "negative size in octal": reheaded(A, size_field=b"-0000000003"),
    "size with blanks": reheaded(A, size_field=b"         3 "),
    "size that is no number": reheaded(A, size_field=b"three\0\0\0\0\0\0"),
    "size without leading zeros": reheaded(A, size_field=b"3\0\0\0\0\0\0\0\0\0\0\0"),
    "manifest with a negative size": reheaded(MANIFEST, size_field=b"\xff" * 12),
    "manifest of 8 GiB": reheaded(MANIFEST, size_field=b"77777777777"),
    "manifest just too large": reheaded(MANIFEST, size_field=b"00100000001"),
    "manifest of no size": reheaded(MANIFEST, size_field=b"00000000000"),
    "manifest with a size in another alphabet": reheaded(MANIFEST, size_field="٣".encode() * 5),
    "manifest with an underscore in its size": reheaded(MANIFEST, size_field=b"0000000_100"),
    "manifest with a pax size": with_pax(MANIFEST, {"size": "1"}),
    # pax and GNU headers
    "pax size smuggling": replace(
        A, Member(pax({"size": "3"})), Member(header(b"artifacts/a", 512), b"one" + bytes(509))
    ),
    "pax size that hides members": replace(
        A, Member(pax({"size": "3"})), Member(HONEST[A].header, b"one"), evil(b"artifacts/smuggled")
    ),
    "needless pax path": with_pax(A, {"path": "artifacts/a"}),
    "pax path elsewhere": with_pax(A, {"path": "../canary"}),
    "needless pax size": with_pax(A, {"size": "3"}),
    "negative pax size": with_pax(A, {"size": "-3"}),
    "pax size that is no number": with_pax(A, {"size": "three"}),
    "pax time": with_pax(A, {"mtime": "1.5"}),
    "pax owner": with_pax(A, {"uname": "root"}),
    "pax link path": with_pax(A, {"linkpath": "../canary"}),
    "pax extended attribute": with_pax(A, {"SCHILY.xattr.security.capability": "x"}),
    "pax access list": with_pax(A, {"SCHILY.acl.access": "user::rwx"}),
    "pax GNU sparse": with_pax(A, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99"}),
    "pax GNU sparse name": with_pax(A, {"GNU.sparse.name": "../canary"}),
    "pax comment": with_pax(A, {"comment": "hello"}),
    "empty pax header": with_pax(A, b""),
    "malformed pax record": with_pax(A, b"nonsense"),
    "pax record of length 0": with_pax(A, b"0 path=x\n"),
    "pax record longer than its header": with_pax(A, b"999999999 path=x\n"),
    "pax record of gigabytes": replace(A, Member(header(b"././@PaxHeader", 8**11 - 1, kind=b"x"))),
    "pax header of a million": with_pax(A, {"comment": "x" * 1_000_000}),
    "two pax headers": replace(A, Member(pax({"path": "a"})), Member(pax({"path": "artifacts/a"})), HONEST[A]),
    "pax header before the end": stream([*HONEST, Member(pax({"path": "x"}))]),
    "Solaris pax header": with_pax(A, {"path": "artifacts/a"}, kind=b"X"),
    "global pax header": with_pax(A, {"path": "artifacts/a"}, kind=b"g"),
    "global pax header first": with_pax(MANIFEST, {"comment": "x"}, kind=b"g"),
    "GNU long name": replace(A, gnu(b"L", b"artifacts/a"), HONEST[A]),
    "GNU long name elsewhere": replace(A, gnu(b"L", b"../canary"), HONEST[A]),
    "GNU long name of gigabytes": replace(A, Member(header(b"././@LongLink", 8**11 - 1, kind=b"L"))),
    "GNU long link": replace(A, gnu(b"K", b"../canary"), link(b"artifacts/a", b"x", b"2")),
    "tarfile's pax": replace(A, by_tarfile("pax", mtime=1.5, uname="user")),
    "tarfile's GNU": replace(A, by_tarfile("gnu")),
    "tarfile's ustar": replace(A, by_tarfile("ustar")),
    "tarfile's negative time": replace(A, by_tarfile("gnu", mtime=-1)),
    # headers as such
    "checksum 0": replace(F, Member(bytes(_WRONG_SUM), HONEST[F].content)),
    "checksum off by one": reheaded(F, checksum=sum(HONEST[F].header) + 1),
    "old magic": reheaded(A, magic=b"ustar  \0"),
    "no magic": reheaded(A, magic=bytes(8)),
    "something in the padding": replace(A, Member(HONEST[A].header, b"one" + b"hidden".ljust(509, b"\0"))),
    "zero blocks in the middle": insert(F, Member(bytes(1024))),
    "one zero block in the middle": insert(F, Member(bytes(512))),
    "zero blocks first": END + stream(HONEST),
    "member after the end": stream(HONEST) + evil(b"artifacts/after").encoded(),
    "second archive after the end": stream(HONEST) * 2,
    "zeros after the end": stream(HONEST) + bytes(512),
    "no end": stream(HONEST, end=b""),
    "half an end": stream(HONEST, end=bytes(512)),
    "an end that is not zero": stream(HONEST, end=bytes(1023) + b"\1"),
    "nothing": b"",
    "only zeros": bytes(10_240),
    "a gzip member in place of the tar stream": gzip.compress(stream(HONEST)),
}


def test_the_honest_pack_is_accepted(arena: Any) -> None:
    """Otherwise the tables would prove nothing."""
    arena.unpack([stream(HONEST)])
    assert (arena.staging / "artifacts/d/f").read_bytes() == b"two"


@pytest.mark.parametrize("data", IN_THE_STREAM.values(), ids=IN_THE_STREAM)
def test_a_tar_stream_that_differs_from_manifest_and_listing_is_refused(arena: Any, data: bytes) -> None:
    assert data != stream(HONEST)
    error = arena.refuses([data])
    assert error.what in (
        "archive differs from its listing",
        "pack ends too early",
        "bytes after the end",
        "content differs from its digest",
        "malformed: not UTF-8",
    )
    assert error.where.startswith("a pack")
    assert str(error).isprintable()


UNSAFE_PATHS = {
    "..": "..",
    "parent": "../canary",
    "parent, deep": "a/../../../canary",
    "parent at the end": "a/..",
    "absolute": "/tmp/ctxpack-canary",
    "absolute, two slashes": "//tmp/ctxpack-canary",
    "dot": ".",
    "dot first": "./a",
    "dot inside": "a/./b",
    "doubled slash": "a//b",
    "empty": "",
    "backslash": "..\\canary",
    "drive letter": "C:\\canary",
    "NUL": "a\0b",
    "line feed": "a\nb",
    "carriage return": "a\rb",
    "escape": "\x1b]0;title\x07",
    "delete": "a\x7f",
    "C1": "a\x9b31m",
    "name of 256 bytes": "n" * 256,
    "name of 256 bytes above": "é" * 128 + "/a",
    "path of 1025 bytes": "/".join(["n" * 200] * 5) + "/" + "n" * 20,
    "six hundred levels": "d/" * 600 + "f",
}


@pytest.mark.parametrize("path", UNSAFE_PATHS.values(), ids=UNSAFE_PATHS)
@pytest.mark.parametrize("kind", ["file", "executable", "folder"])
def test_an_unsafe_path_in_a_consistent_pack_is_refused(arena: Any, path: str, kind: str) -> None:
    file = File(path + "/") if kind == "folder" else File(path, EVIL, executable=kind == "executable")
    error = arena.refuses([stream(forge([file]))])
    assert error.what.startswith(("unsafe listing: ", "malformed line"))
    assert str(error).isprintable()
    assert not list((arena.staging / "artifacts").iterdir())


def test_a_lone_surrogate_in_a_consistent_pack_is_refused(arena: Any) -> None:
    lines = listing([File("a", EVIL)]).replace(b'"a"', b'"\\ud800"')
    assert arena.refuses([stream(forge([], lines=lines))]).what == "malformed line"
    raw = listing([File("a", EVIL)]).replace(b'"a"', b'"\xed\xa0\x80"')
    assert arena.refuses([stream(forge([], lines=raw))]).what == "malformed line"


TWICE = "path occurs twice, or both as a file and as a folder"

CLASHES = {
    "a file twice": ([File("a", b"1"), File("a", b"2")], TWICE),
    "a file twice, the same": (
        [File("a", b"1"), File("a", b"1")],
        TWICE,
    ),
    "an empty folder twice": ([File("a/"), File("a/")], TWICE),
    "a file, then a folder": ([File("a", b"1"), File("a/")], TWICE),
    "a folder, then a file": ([File("a/"), File("a", b"1")], TWICE),
    "file as a parent": ([File("a", b"1"), File("a/b", EVIL)], TWICE),
    "file as a grandparent": (
        [File("a", b"1"), File("a/b/c", EVIL)],
        TWICE,
    ),
    "empty folder as a parent": (
        [File("a/"), File("a/b", EVIL)],
        TWICE,
    ),
    "file as an empty folder's parent": (
        [File("a", b"1"), File("a/b/")],
        TWICE,
    ),
    "not in order": ([File("b", b"1"), File("a", b"2")], "path is out of canonical order"),
    "ordered as whole texts": ([File("a-b", b"1"), File("a/c", b"2")], "path is out of canonical order"),
    "ordered by UTF-16": ([File("\U0001f600", b"1"), File("\uff61", b"2")], "path is out of canonical order"),
    "a folder left and entered again": (
        [File("a/x", b"1"), File("b", b"2"), File("a/y", b"3")],
        "path is out of canonical order",
    ),
    "a parent made a file later": (
        [File("a/b", b"1"), File("a", b"2")],
        TWICE,
    ),
}


@pytest.mark.parametrize(("files", "fault"), CLASHES.values(), ids=CLASHES)
def test_conflicting_paths_in_a_consistent_pack_are_refused(arena: Any, files: list[File], fault: str) -> None:
    error = arena.refuses([stream(forge(files))])
    assert error.what == f"unsafe listing: {fault}"


def test_names_that_differ_in_case_or_normalisation_are_two_files_or_an_error(arena: Any) -> None:
    """Two files, or FileExistsError on a file system that has only one name for both: no file replaces another."""
    files = [File("A", b"1"), File("a", b"2"), File("e\u0301", b"3"), File("\u00e9", b"4")]
    try:
        arena.unpack([stream(forge(files))])
    except FileExistsError:
        return
    assert [(arena.staging / "artifacts" / file.path).read_bytes() for file in files] == [b"1", b"2", b"3", b"4"]


NOTHING = "sha256:" + hashlib.sha256(b"").hexdigest()


def forged(**members: Any) -> bytes:
    """A pack of FILES with other members in the manifest."""
    return stream(forge(FILES, **members))


WRONG_MANIFESTS: dict[str, tuple[bytes, str]] = {
    "another tree digest": (forged(outputs={"digest": "sha256:" + "0" * 64}), "outputs are not those of the manifest"),
    "one file more": (forged(outputs={"files": 4}), "outputs are not those of the manifest"),
    "one file less": (forged(outputs={"files": 2}), "outputs are not those of the manifest"),
    "no files": (forged(outputs={"files": 0}), "outputs are not those of the manifest"),
    "2^53 - 1 files": (forged(outputs={"files": 2**53 - 1}), "outputs are not those of the manifest"),
    "one byte more": (forged(outputs={"size": 10}), "outputs are not those of the manifest"),
    "2^53 - 1 bytes": (forged(outputs={"size": 2**53 - 1}), "outputs are not those of the manifest"),
    "2^62 bytes": (forged(outputs={"size": 2**62}), "malformed: "),
    "-1 bytes": (forged(outputs={"size": -1}), "malformed: "),
    "another empty folder": (forged(outputs={"empty_folders": 2}), "outputs are not those of the manifest"),
    "no empty folder": (forged(outputs={"empty_folders": 0}), "outputs are not those of the manifest"),
    "a root that is not there": (
        forged(roots=[("a", "file"), ("d", "folder"), ("e", "folder"), ("y", "file"), ("z", "file")]),
        "outputs are not those of the manifest",
    ),
    "a root too few": (forged(roots=[("a", "file"), ("d", "folder"), ("e", "folder")]), "entry belongs to no output"),
    "a root of another kind": (
        forged(roots=[("a", "folder"), ("d", "folder"), ("e", "folder"), ("z", "file")]),
        "entry belongs to no output",
    ),
    "a root elsewhere": (forged(roots=[("../../canary", "folder")]), "malformed: "),
    "roots out of order": (forged(roots=[("d", "folder"), ("a", "file")]), "malformed: "),
    "the URI of another contract": (forged(uri="ctx://sha256:" + "0" * 64), "contract is not the URI's"),
    "a contract without a schema": (forged(contract={"inputs": {}}), "contract has no schema"),
    "a contract that is an array": (forged(contract=["ctxpack/contract/v1"]), "malformed: "),
    "a root that the contract does not name": (
        forged(contract=CONTRACT | {"outputs": ["other"]}),
        "outputs are not those that the contract names",
    ),
    "another schema": (forged(schema="ctxpack/pack/v2"), "malformed: "),
    "no listings": (forged(listings=[]), "listings are not in order"),
    "a listing of another size": (
        forged(listings=[manifest(FILES)["listings"][0] | {"size": 7}]),
        "archive differs from its listing",
    ),
    "a listing of 2^53 - 1 bytes": (
        forged(listings=[manifest(FILES)["listings"][0] | {"size": 2**53 - 1}]),
        "archive differs from its listing",
    ),
    "a listing of another digest": (
        forged(listings=[manifest(FILES)["listings"][0] | {"digest": "sha256:" + "0" * 64}]),
        "content differs from its digest",
    ),
    "a text over 1 MiB": (
        forged(listed={"environment/0.txt": bytes((1 << 20) + 1)}),
        "text is too long",
    ),
    "a text of 2^53 - 1 bytes": (
        forged(
            listings=[*manifest(FILES)["listings"], {"digest": NOTHING, "path": "environment/0.txt", "size": 2**53 - 1}]
        ),
        "text is too long",
    ),
    "a text that is not there": (
        forged(listings=[*manifest(FILES)["listings"], {"digest": NOTHING, "path": "environment/0.txt", "size": 0}]),
        "archive differs from its listing",
    ),
    "a listing elsewhere": (
        forged(listings=[*manifest(FILES)["listings"], {"digest": "sha256:" + "0" * 64, "path": "../x", "size": 0}]),
        "malformed: ",
    ),
}


@pytest.mark.parametrize(("data", "fault"), WRONG_MANIFESTS.values(), ids=WRONG_MANIFESTS)
def test_a_manifest_that_does_not_match_the_pack_is_refused(arena: Any, data: bytes, fault: str) -> None:
    assert arena.refuses([data]).what.startswith(fault)


LINE = listing([File("a", b"one")]).decode()

WRONG_LINES: dict[str, tuple[str, str]] = {
    "another digest": (LINE.replace(LINE[40:45], "00000"), "content differs from its digest"),
    "a size too small": (LINE.replace(":3}", ":2}"), "archive differs from its listing"),
    "a size too large": (LINE.replace(":3}", ":4}"), "archive differs from its listing"),
    "a size of 2^53 - 1": (LINE.replace(":3}", f":{2**53 - 1}}}"), "archive differs from its listing"),
    "a size of 2^62": (LINE.replace(":3}", f":{2**62}}}"), "malformed line"),
    "a size of -1": (LINE.replace(":3}", ":-1}"), "malformed line"),
    "a mode of its own": (LINE.replace("0644", "4755"), "malformed line"),
    "a link": (LINE.replace('"path"', '"link":"../canary","path"'), "malformed line"),
    "a line too many": (LINE + LINE.replace('"a"', '"b"'), "archive differs from its listing"),
    "no path": (LINE.replace('"path":"a",', ""), "unsafe listing: path is not relative and normal"),
    "an empty path": (LINE.replace('"a"', '""'), "malformed line"),
    "an empty line": (LINE + "\n", "malformed line"),
    "no line": ("", "outputs are not those of the manifest"),
    "no line feed": (LINE[:-1], "malformed line"),
    "a line of a million characters": (LINE.replace('"a"', f'"{"a" * 1_000_000}"'), "malformed line"),
}


@pytest.mark.parametrize(("lines", "fault"), WRONG_LINES.values(), ids=WRONG_LINES)
def test_a_listing_that_does_not_match_the_tar_stream_is_refused(arena: Any, lines: str, fault: str) -> None:
    """The manifest has the digest of the wrong listing; the tar stream has the right file."""
    error = arena.refuses([stream(forge([File("a", b"one")], lines=lines.encode()))])
    assert error.what == fault


def test_a_negative_size_is_refused_before_content_is_read(arena: Any) -> None:
    """A header can hold the same negative size, and then all bytes that follow would be content."""
    lines = LINE.replace(":3}", ":-1}").encode()
    members = forge([], lines=lines)
    members.append(Member(header(b"artifacts/a", size_field=b"-0000000001")))

    def endless() -> Any:
        yield stream(members, end=b"")
        for _ in range(1000):
            yield b"x"
        raise AssertionError("still reading")

    assert arena.refuses(endless()).what == "malformed line"


def test_a_huge_announced_size_allocates_nothing(arena: Any) -> None:
    """Neither memory nor disk is allocated by an announced size."""
    size = 2**53 - 1
    lines = LINE.replace(":3}", f":{size}}}").encode()
    members = forge([], lines=lines, outputs={"files": 1, "size": size})
    members.append(Member(right_header("artifacts/a", size), b"one"))
    error = arena.refuses([stream(members)])
    assert (error.where, error.what) == ("a pack, artifacts/a", "pack ends too early")
    assert (arena.staging / "artifacts/a").stat().st_size < 2000


def test_tarfile_accepts_many_of_these_streams() -> None:
    """This is why the reader interprets nothing: Python's tarfile returns members from most of these streams."""
    fooled = 0
    for data in IN_THE_STREAM.values():
        try:
            with tarfile.open(fileobj=io.BytesIO(data), errorlevel=2) as archive:
                fooled += len(archive.getmembers()) > 1
        except (tarfile.TarError, ValueError, OverflowError, UnicodeError):
            continue
    assert fooled > 60


RAW_MANIFESTS: dict[str, bytes] = {
    "not JSON": b"manifest",
    "NaN": canonical(manifest(FILES)).replace(b'"size":9', b'"size":NaN'),
    "duplicate uri": canonical(manifest(FILES)).replace(b'"uri":', b'"uri":"ctx://x","uri":'),
    "nested too deep": b'{"a":' * 100_000,
    "nested too deep, whole": b"[" * 100_000 + b"]" * 100_000,
    "a number of a million digits": b'{"a":' + b"9" * 1_000_000 + b"}",
    "a float of a million digits": b'{"a":0.' + b"9" * 1_000_000 + b"}",
    "line feed at the end": canonical(manifest(FILES)) + b"\n",
}


@pytest.mark.parametrize("data", RAW_MANIFESTS.values(), ids=RAW_MANIFESTS)
def test_bytes_that_are_no_manifest_are_refused(arena: Any, data: bytes) -> None:
    first, *others = forge(FILES, manifest_bytes=data)
    assert arena.refuses([stream([first, *others])]).where.startswith("a pack, manifest.json")
    with pytest.raises(IntegrityError):
        pack_manifest_of(first.encoded(), where="first chunk")
    assert not list(arena.staging.iterdir())
