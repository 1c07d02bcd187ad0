"""Headers are exactly those of FORMAT.md, "Members", and Python's tarfile reads them alike."""

from __future__ import annotations

import io
import tarfile

import pytest
from forged_pack import right_header
from hypothesis import example, given
from hypothesis import strategies as st

from ctxpack_bundle.tar import BLOCK, END, file_header, folder_header, padding

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=300)
SIZES = st.one_of(st.integers(0, 2**53 - 1), st.sampled_from([0, 511, 512, 513, 8**11 - 1, 8**11]))


@given(NAMES, SIZES, st.booleans())
@example("n" * 100, 8**11 - 1, False)
@example("n" * 101, 8**11, True)
@example("n" * 84, 0, False)  # a record of 92 bytes, one digit away from 100
def test_headers_are_as_the_format_says(name: str, size: int, executable: bool) -> None:
    assert file_header(name, size, executable=executable) == right_header(name, size, executable=executable)
    assert folder_header(name + "/") == right_header(name + "/", 0)


@given(NAMES, SIZES, st.booleans())
def test_tarfile_reads_the_same_name_size_and_mode(name: str, size: int, executable: bool) -> None:
    with tarfile.open(fileobj=io.BytesIO(file_header(name, size, executable=executable) + END)) as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size, member.isreg()) == (name, size, True)
    assert member.mode == (0o755 if executable else 0o644)
    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


@pytest.mark.parametrize("length", range(80, 120))
def test_the_length_of_a_record_counts_its_own_digits(length: int) -> None:
    header = file_header("é" * length, 0)
    record = header[BLOCK : 2 * BLOCK].rstrip(b"\0")
    assert int(record.split()[0]) == len(record)
    assert record.endswith(b"\n")


@given(st.integers(0, 10_000))
def test_padding_fills_blocks_with_zeros(size: int) -> None:
    fill = padding(size)
    assert (size + len(fill)) % BLOCK == 0
    assert len(fill) < BLOCK
    assert not any(fill)
