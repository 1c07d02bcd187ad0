"""For any bytes, readers return a pack or raise IntegrityError: no other exception, and nothing outside the folder."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

from forged_pack import File, canonical, forge, listing, manifest, stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxpack_bundle import inflate_chunk, make_chunk, pack_manifest_of, parse_pack_manifest
from ctxpack_bundle.folder import read_entries, read_pack_manifest
from ctxpack_bundle.listing import read_listing
from ctxpack_identity import IntegrityError

FILES = [File("a", b"one"), File("d/f", b"two", executable=True), File("e/"), File("ü" * 60, b"end")]
LISTED = {
    "code/0.jsonl": listing([File("", b"#!", executable=True)]),
    "environment/0.txt": b"lock",
    "inputs/raw.jsonl": b"",
}
MANIFEST = canonical(manifest(FILES, listed=LISTED, provenance={"who": ["me", 1.5, None, {}]}))
STREAM = stream(forge(FILES, listed=LISTED))
CHUNK = make_chunk(STREAM)

WORDS = [
    b"\0",
    bytes(512),
    b'"',
    b"\\ud800",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b",",
    b"-1",
    b"1e9",
    b"..",
    b"/",
    b"\n",
    b"9" * 20,
]

in_an_arena = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """data with parts of it removed, repeated, overwritten or moved."""
    place = st.integers(0, len(data))
    edit = st.tuples(place, place, st.one_of(st.sampled_from(WORDS), st.binary(max_size=20), st.just(None)))

    def apply(edits: list[tuple[int, int, bytes | None]]) -> bytes:
        changed = data
        for start, end, word in edits:
            piece = changed[min(start, end) : max(start, end)][:600] if word is None else word
            changed = changed[:start] + piece + changed[min(max(start, end), start + 40) :]
        return changed

    return st.lists(edit, min_size=1, max_size=4).map(apply)


ANYTHING = st.binary(max_size=3000)


@given(st.one_of(ANYTHING, mutations(MANIFEST)))
def test_manifests(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        parse_pack_manifest(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_manifests_of_other_values(value: Any) -> None:
    for member in ("contract", "listings", "outputs", "provenance", "schema", "uri"):
        with contextlib.suppress(IntegrityError):
            parse_pack_manifest(canonical(manifest(FILES) | {member: value}))


@given(st.one_of(ANYTHING, mutations(listing([File("", b"file"), *FILES]))))
def test_listings(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        list(read_listing(io.BytesIO(data), where="files.jsonl"))


@given(st.one_of(ANYTHING, mutations(STREAM[:2048])))
def test_first_pieces(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        pack_manifest_of(data, where="first chunk")


@in_an_arena
@given(data=st.one_of(ANYTHING, mutations(STREAM)))
def test_streams(quick_arena: Any, data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        quick_arena.unpack([data])


@in_an_arena
@given(lines=st.one_of(ANYTHING, mutations(listing(FILES))))
def test_listings_the_manifest_vouches_for(quick_arena: Any, lines: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        quick_arena.unpack([stream(forge(FILES, lines=lines))])


@given(st.one_of(ANYTHING, mutations(CHUNK), ANYTHING.map(lambda rest: CHUNK[:10] + rest)), st.integers(-3, 10_000))
def test_chunks(data: bytes, size: int) -> None:
    with contextlib.suppress(IntegrityError):
        assert len(inflate_chunk(data, size, where="chunk")) == size


@given(st.one_of(ANYTHING, mutations(MANIFEST)), ANYTHING)
def test_damaged_folders(data: bytes, lines: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "manifest.json").write_bytes(data)
        Path(scratch, "files.jsonl").write_bytes(lines)
        with contextlib.suppress(IntegrityError):
            read_pack_manifest(scratch)
        with contextlib.suppress(IntegrityError):
            list(read_entries(scratch))
