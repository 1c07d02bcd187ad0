"""Memory is a few chunks, whatever the size of the files, and bounded for hostile chunks and manifests."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from forged_pack import canonical, manifest

from ctxpack_bundle import Piece, inflate_chunk, inflate_first, make_chunk, make_chunks, pack, runs
from ctxpack_identity import IntegrityError

MIB = 1 << 20
SIZE = 64 * MIB


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fail when more than limit bytes are allocated at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.fixture(params=["noise", "zeros"])
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        if request.param == "noise":
            for _ in range(SIZE // MIB):
                file.write(os.urandom(MIB))
        else:
            file.truncate(SIZE)
    return path


def test_a_large_file_is_never_in_memory(large: Path, make_pack: Callable[..., Path], arena: Any) -> None:
    with at_most(4 * MIB):
        folder = make_pack(large)
    with at_most(4 * MIB):  # the chunker's buffer, the pieces between two cuts, and one piece with its chunk
        for piece in pack(str(folder)):
            make_chunk(piece)
    with at_most(24 * MIB):  # a run of 4 MiB, its chunks, and the next run
        for run in runs(map(Piece.of, pack(str(folder)))):
            make_chunks([piece.data for piece in run])
    chunks = [(len(piece), make_chunk(piece)) for piece in pack(str(folder))]
    with at_most(4 * MIB):
        arena.unpack(inflate_chunk(chunk, size, where="chunk") for size, chunk in chunks)
    assert (arena.staging / "artifacts/large").stat().st_size == SIZE


def test_many_files_are_never_in_memory(tmp_path: Path, make_pack: Callable[..., Path], arena: Any) -> None:
    for folder in range(10):
        (tmp_path / f"out/folder-{folder}").mkdir(parents=True)
        for number in range(100):
            (tmp_path / f"out/folder-{folder}/{number}").write_bytes(b"x")
    with at_most(2 * MIB):
        packed = make_pack(tmp_path / "out")
    pieces = list(pack(str(packed)))
    with at_most(MIB):
        arena.unpack(pieces)


def test_a_chunk_is_not_inflated_beyond_its_announced_size() -> None:
    bomb = gzip.compress(bytes(200 * MIB))
    for announced in (0, 1000, MIB):
        with at_most(4 * MIB), pytest.raises(IntegrityError, match="chunk unpacks to more than announced"):
            inflate_chunk(bomb, announced, where="chunk")
    with at_most(40 * MIB), pytest.raises(IntegrityError, match="chunk unpacks to more than announced"):
        inflate_first(bomb, where="first chunk")


PARSE = """
import re, sys, zlib
from ctxpack_bundle import parse_pack_manifest
from ctxpack_identity import IntegrityError

def peak_memory():
    # In KiB. Not ru_maxrss, which starts with the memory of the parent process.
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1])

data = zlib.decompress(sys.stdin.buffer.read())
before = peak_memory()
try:
    parse_pack_manifest(data)
except IntegrityError as error:
    print(peak_memory() - before, error.what)
else:
    print(peak_memory() - before)
"""

TOO_MANY = "malformed: manifest.json: too many values"
# Functions: together the documents have 90 MiB.
WORST: dict[str, tuple[Callable[[], bytes], str]] = {
    "a name of 8 MiB, and three million elements below it": (
        lambda: b'{"contract":{"' + b"n" * (8 * MIB) + b'":[' + b"0," * 3_000_000 + b"0]}}",
        TOO_MANY,
    ),
    "a name of 8 MiB, and as many elements as there may be": (
        lambda: b'{"contract":{"' + b"n" * (8 * MIB) + b'":[' + b"0," * 262_000 + b"0]}}",
        "malformed: manifest.json, /contract: name is too long",
    ),
    "a name of 8 MiB, twice": (
        lambda: b'{"' + b"n" * (8 * MIB - 9) + b'":0,"' + b"n" * (8 * MIB - 9) + b'":0}',
        "malformed: manifest.json, /nnn",
    ),
    "a name of 8 MiB that is no text": (
        lambda: b'{"' + b"n" * (8 * MIB) + b'\\ud800":0}',
        "malformed: manifest.json, /nnn",
    ),
    "4.1 million arrays, each in the one before": (lambda: b"[" * 4_100_000 + b"]" * 4_100_000, TOO_MANY),
    "4.1 million empty arrays": (lambda: b'{"provenance":{"a":[' + b"[]," * 4_100_000 + b"[]]}}", TOO_MANY),
    "4.1 million empty objects": (lambda: b'{"provenance":{"a":[' + b"{}," * 4_100_000 + b"{}]}}", TOO_MANY),
    "three million names": (lambda: b'{"provenance":{' + b'"":0,' * 3_000_000 + b'"":0}}', TOO_MANY),
    "eight million numbers": (lambda: b'{"provenance":[' + b"0," * 8_000_000 + b"0]}", TOO_MANY),
    "a number of 16 million digits": (
        lambda: b'{"provenance":' + b"9" * 16_000_000 + b"}",
        "malformed: manifest.json, /provenance: number has no canonical form",
    ),
}


def parse_in_a_process(data: bytes, environment: Mapping[str, str]) -> tuple[int, str]:
    """Return by how many KiB the memory of a process grew while it parsed a manifest, and the fault it found."""
    script = [sys.executable, "-W", "error", "-c", PARSE]
    done = subprocess.run(script, input=zlib.compress(data), capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    grown, _, fault = done.stdout.decode().strip().partition(" ")
    return int(grown), fault


@pytest.mark.parametrize(("document", "fault"), WORST.values(), ids=WORST)
def test_a_manifest_beyond_the_limits_is_refused_before_objects_are_made_of_it(
    document: Callable[[], bytes], fault: str, environment: Mapping[str, str]
) -> None:
    """Each compresses to some KiB. Python objects for what it holds would take up to a GiB."""
    data = document()
    assert len(data) <= 16 * MIB
    grown, found = parse_in_a_process(data, environment)
    assert found.startswith(fault)
    assert grown < 48 << 10


def test_a_manifest_at_the_limits_is_read_in_bounded_memory(environment: Mapping[str, str]) -> None:
    many: list[Any] = [{} for _ in range(262_144 - 200)]
    data = canonical(manifest([], provenance={"many": many, "text": "x" * (14 * MIB)}))
    grown, fault = parse_in_a_process(data, environment)
    assert fault == ""
    assert grown < 100 << 10
