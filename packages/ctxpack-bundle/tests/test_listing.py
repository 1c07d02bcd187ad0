"""Lines of listings: each entry has one form, and every other form is refused."""

from __future__ import annotations

import io

import pytest
from forged_pack import File, listing
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.listing import listing_line, read_executables, read_listing
from ctxpack_identity import IntegrityError, TreeEntry, canonical_json, parse_json

DIGEST = "0123456789abcdef" * 4
GOOD = f'{{"mode":"0644","path":"a","sha256":"{DIGEST}","size":1}}\n'


def read(data: bytes) -> list[TreeEntry]:
    return list(read_listing(io.BytesIO(data), where="files.jsonl"))


# That of a root that is a file is empty.
PATHS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300).filter(lambda path: not path.endswith("/"))


@given(PATHS, st.integers(0, 2**53 - 1), st.booleans())
def test_a_line_reads_back_and_is_canonical_json(path: str, size: int, executable: bool) -> None:
    for entry in (TreeEntry(path, size, DIGEST, executable), TreeEntry(path + "/", 0, "")):
        line = listing_line(entry)
        assert read(line) == [entry]
        assert canonical_json(parse_json(line)) + b"\n" == line


# Those of most files: one pattern matches their lines.
PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


@given(PLAIN.filter(lambda path: not path.endswith("/")), st.integers(0, 2**53 - 1), st.data())
def test_a_line_that_differs_in_one_byte_is_malformed_or_another_entry(
    path: str, size: int, data: st.DataObject
) -> None:
    line = bytearray(listing_line(TreeEntry(path, size, DIGEST)))
    assert read(bytes(line)) == [TreeEntry(path, size, DIGEST)]
    place, byte = data.draw(st.integers(0, len(line) - 2)), data.draw(st.integers(0x20, 0x7E))
    line[place] = byte
    try:
        [entry] = read(bytes(line))
    except IntegrityError:
        return
    assert listing_line(entry) == line


def test_lines_are_as_the_format_says() -> None:
    files = [File("a", b"1"), File("b c/", b""), File("ü", b"", executable=True), File("", b"2")]
    assert [listing_line(entry) for entry in read(listing(files))] == listing(files).splitlines(keepends=True)


def test_executable_files_are_read_without_the_others() -> None:
    files = [File("a", b"1"), File('b","mode":"0755', b""), File("ü", b"", executable=True), File("", b"2", True)]
    found = read_executables(io.BytesIO(listing(files)), where="files.jsonl")
    assert list(found) == [entry for entry in read(listing(files)) if entry.executable]
    damaged = io.BytesIO(listing(files).replace(b'"size":0}', b'"size":00}'))
    with pytest.raises(IntegrityError, match=r"files\.jsonl, line 3: malformed line"):
        list(read_executables(damaged, where="files.jsonl"))


def test_the_line_of_a_root_that_is_a_file_has_no_path() -> None:
    line = f'{{"mode":"0755","sha256":"{DIGEST}","size":12}}\n'.encode()
    assert read(line) == [TreeEntry("", 12, DIGEST, True)]


def test_an_empty_listing_has_no_entries() -> None:
    assert read(b"") == []


MALFORMED = {
    "empty line": "\n",
    "not JSON": "{\n",
    "two documents": GOOD[:-1] + GOOD,
    "an array": "[]\n",
    "no line feed at the end": GOOD[:-1],
    "CR LF": GOOD[:-1] + "\r\n",
    "blank after the colon": GOOD.replace(":", ": ", 1),
    "blank at the end": GOOD[:-1] + " \n",
    "byte order mark": "\ufeff" + GOOD,
    "members out of order": f'{{"path":"a","mode":"0644","sha256":"{DIGEST}","size":1}}\n',
    "duplicate member": GOOD.replace('"path":"a"', '"path":"b","path":"a"'),
    "unknown member": GOOD.replace('"path"', '"link":"b","path"'),
    "empty path": GOOD.replace('"a"', '""'),
    "path of null": GOOD.replace('"a"', "null"),
    "neither path nor digest": '{"mode":"0644","size":1}\n',
    "no member": "{}\n",
    "no path, members out of order": f'{{"sha256":"{DIGEST}","mode":"0644","size":1}}\n',
    "no path and no mode": f'{{"sha256":"{DIGEST}","size":1}}\n',
    "empty folder without a name": '{"path":""}\n',
    "no mode": f'{{"path":"a","sha256":"{DIGEST}","size":1}}\n',
    "no digest": '{"mode":"0644","path":"a","size":1}\n',
    "no size": f'{{"mode":"0644","path":"a","sha256":"{DIGEST}"}}\n',
    "mode of null": GOOD.replace('"0644"', "null"),
    "needless escape in the path": GOOD.replace('"a"', '"\\u0061"'),
    "lone surrogate in the path": GOOD.replace('"a"', '"\\ud800"'),
    "mode of another kind": GOOD.replace("0644", "0777"),
    "setuid": GOOD.replace("0644", "4755"),
    "mode as a number": GOOD.replace('"0644"', "644"),
    "digest in upper case": GOOD.replace(DIGEST, DIGEST.upper()),
    "digest with its algorithm": GOOD.replace(DIGEST, "sha256:" + DIGEST),
    "short digest": GOOD.replace(DIGEST, DIGEST[1:]),
    "empty digest": GOOD.replace(DIGEST, ""),
    "negative size": GOOD.replace(":1}", ":-1}"),
    "negative zero": GOOD.replace(":1}", ":-0}"),
    "size as a text": GOOD.replace(":1}", ':"1"}'),
    "size as a float": GOOD.replace(":1}", ":1.0}"),
    "size as a bool": GOOD.replace(":1}", ":true}"),
    "size with a plus": GOOD.replace(":1}", ":+1}"),
    "size with a leading zero": GOOD.replace(":1}", ":01}"),
    "size beyond 2^53 - 1": GOOD.replace(":1}", f":{2**53}}}"),
    "size beyond every integer": GOOD.replace(":1}", f":{10**400}}}"),
    "empty folder with a size": '{"path":"a/","size":0}\n',
    "empty folder with a mode": '{"mode":"0755","path":"a/"}\n',
    "file whose path ends like a folder's": GOOD.replace('"a"', '"a/"'),
    "line that is too long": GOOD.replace('"a"', f'"{"a" * (16 << 10)}"'),
    "nested": "[" * 5000 + "\n",
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED)
def test_a_line_in_any_other_form_is_refused(line: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        read(GOOD.encode() + line.encode())
    assert str(caught.value) == ("files.jsonl, line 2: malformed line; pull it anew; if the error stays, make it again")


def test_a_line_that_is_not_utf_8_is_refused() -> None:
    for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"):
        with pytest.raises(IntegrityError, match="line 1: malformed line"):
            read(GOOD.encode().replace(b'"a"', b'"' + bad + b'"'))


class Endless(io.RawIOBase):
    """A file of one line that never ends. given: bytes that were read."""

    def __init__(self) -> None:
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        view[:] = b"x" * len(view)
        self.given += len(view)
        assert self.given < 1_000_000
        return len(view)


def test_an_endless_line_is_refused_at_the_length_limit() -> None:
    endless = Endless()
    with pytest.raises(IntegrityError, match="line 1: malformed line"):
        list(read_listing(io.BufferedReader(endless), where="files.jsonl"))
    assert endless.given < 100_000
