"""Tables of packs are noted by repository and kin, newest first; a note is believed only as far as its digests go."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pantry_image import bare_pack

from ctxpack_bundle import Record, encode_table, make_chunk
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, digest_of, uri_digest
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, describe
from ctxpack_pantry.artifact import build_image_manifest, describe_layer, describe_table
from ctxpack_pantry.tables import KnownTable, Tables

HERE, THERE = "registry.example/team/packs", "oci:/srv/packs"
KIN, OTHER_KIN = "a" * 64, "b" * 64


def uri_of(number: int) -> CtxUri:
    return CtxUri(f"ctx://sha256:{number:064x}")


def table_of(number: int) -> bytes:
    return encode_table([Record(digest_of(b"%d" % number).encode()[7:39], 1, 1, 2, 0)])


def image_of(number: int, table: bytes | None = None) -> bytes:
    """Return an image manifest that names the table of number, or this one."""
    first, last = (describe_layer(digest_of(data), len(data)) for data in (b"first", make_chunk(b"%d" % number)))
    return build_image_manifest(
        bare_pack(), [first, describe_table(table_of(number) if table is None else table), last]
    )


@pytest.fixture
def tables(cache: Cache) -> Tables:
    return Tables(cache)


@pytest.fixture
def record(cache: Cache, tables: Tables) -> Callable[..., None]:
    """Note the table of pack number; each note is newer than those before."""
    clock = itertools.count(1)

    def note(number: int, repository: str = HERE, kin: str = KIN) -> None:
        before = set(notes(cache))
        tables.record(uri_of(number), repository, kin, image_of(number), table_of(number))
        now = next(clock)
        for path in set(notes(cache)) - before:
            os.utime(path, (now, now))

    return note


def notes(cache: Cache) -> list[Path]:
    return [path for path in Path(cache.side("tables")).rglob("*") if path.is_file()]


def numbers(found: list[KnownTable]) -> list[int]:
    return [int(known.contract.removeprefix("sha256:"), 16) for known in found]


def test_what_was_noted_is_read(tables: Tables, record: Callable[..., None]) -> None:
    record(7)
    [known] = tables.of_kin(HERE, KIN)
    assert (known.image, known.contract) == (digest_of(image_of(7)), uri_digest(uri_of(7)))
    base = known.read()
    assert base is not None
    assert base.image == describe(image_of(7), IMAGE_MANIFEST_MEDIA_TYPE)
    assert base.manifest.layers[1].digest == digest_of(table_of(7))
    assert base.table.data == table_of(7)


def test_tables_are_known_by_repository_and_kin_newest_first(tables: Tables, record: Callable[..., None]) -> None:
    for number, repository, kin in ((3, HERE, KIN), (1, THERE, KIN), (2, HERE, KIN), (4, HERE, OTHER_KIN)):
        record(number, repository, kin)
    assert numbers(tables.of_kin(HERE, KIN)) == [2, 3]
    assert numbers(tables.of_kin(THERE, KIN)) == [1]
    assert numbers(tables.of_kin(THERE, OTHER_KIN)) == []
    assert numbers(tables.newest()) == [4, 2, 1, 3]


def test_the_newest_sixteen_of_a_kin_and_repository_are_kept(
    cache: Cache, tables: Tables, record: Callable[..., None]
) -> None:
    record(100, THERE)
    record(200, HERE, OTHER_KIN)
    for number in range(20):
        record(number)
    assert numbers(tables.of_kin(HERE, KIN)) == [*reversed(range(4, 20))]
    assert len(notes(cache)) == 18


def test_one_pack_under_two_image_manifests_is_noted_twice(tables: Tables) -> None:
    for number in (1, 2):
        tables.record(uri_of(0), HERE, KIN, image_of(number), table_of(number))
    assert {known.image for known in tables.of_kin(HERE, KIN)} == {digest_of(image_of(1)), digest_of(image_of(2))}


def test_a_pack_that_is_noted_again_is_one_note(cache: Cache, tables: Tables) -> None:
    for _ in range(2):
        tables.record(uri_of(0), HERE, KIN, image_of(1), table_of(1))
    assert len(notes(cache)) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_note_with_any_other_byte_is_ignored(cache: Cache, tables: Tables, data: st.DataObject) -> None:
    tables.record(uri_of(1), HERE, KIN, image_of(1), table_of(1))
    [path] = notes(cache)
    [known] = tables.of_kin(HERE, KIN)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert known.read() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.integers().map(b"%d\n{}".__mod__))
def test_a_note_of_anything_is_ignored(cache: Cache, tables: Tables, content: bytes) -> None:
    tables.record(uri_of(1), HERE, KIN, image_of(1), table_of(1))
    notes(cache)[0].write_bytes(content)
    assert [known.read() for known in tables.of_kin(HERE, KIN)] == [None]


@pytest.mark.parametrize(
    ("image", "table"),
    [
        (image_of(1), table_of(2)),
        (image_of(1), b""),
        (image_of(1), table_of(1) + b"0"),
        (build_image_manifest(bare_pack(), []), b""),
        (build_image_manifest(bare_pack(), [describe_table(table_of(1))]), table_of(1)),
        (b"{}", table_of(1)),
        (b"", b""),
    ],
    ids=["another table", "no table", "more", "no layers", "one layer", "no image manifest", "nothing"],
)
def test_an_image_manifest_that_does_not_name_the_table_is_ignored(tables: Tables, image: bytes, table: bytes) -> None:
    tables.record(uri_of(1), HERE, KIN, image, table)
    assert [known.read() for known in tables.of_kin(HERE, KIN)] == [None]


def test_a_note_under_another_name_is_ignored(cache: Cache, tables: Tables, record: Callable[..., None]) -> None:
    record(1)
    [path] = notes(cache)
    path.rename(path.with_name(f"{'0' * 64}-{'0' * 64}"))
    assert [known.read() for known in tables.of_kin(HERE, KIN)] == [None]


def test_what_else_lies_there_does_no_harm(cache: Cache, tables: Tables, record: Callable[..., None]) -> None:
    record(1)
    [path] = notes(cache)
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        (folder / "a folder").mkdir()
        (folder / "a file").write_text("-")
        (folder / "a link").symlink_to(folder)
    found = [base for known in tables.newest() if (base := known.read()) is not None]
    assert {base.table.data for base in found} == {table_of(1)}


def test_a_note_that_is_gone_is_none(cache: Cache, tables: Tables, record: Callable[..., None]) -> None:
    record(1)
    [known] = tables.of_kin(HERE, KIN)
    shutil.rmtree(cache.side("tables"))
    assert known.read() is None
    assert tables.newest() == []


def test_a_note_that_cannot_be_written_is_none(cache: Cache, tables: Tables) -> None:
    Path(cache.side("tables")).parent.mkdir(parents=True)
    Path(cache.side("tables")).write_text("not a folder")
    tables.record(uri_of(1), HERE, KIN, image_of(1), table_of(1))
    assert (tables.newest(), tables.of_kin(HERE, KIN)) == ([], [])
