"""A file of more than 4 GiB, sparse on disk, is packed, chunked and unpacked in constant memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GIB = 1 << 30
MEMORY_LIMIT = 150  # MiB, the limit of the project for every step

# In a process of its own, so that its peak memory is that of this work alone. No chunk is kept.
SCRIPT = """
import os, re
from ctxpack_bundle import OutputTree, Piece, assemble, inflate_chunk, make_chunks, pack, runs, unpack
from ctxpack_identity import canonical_contract

def peak_memory():
    # In KiB. Not ru_maxrss, which starts with the memory of the parent process.
    with open("/proc/self/status") as status:
        return re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1]

transform = dict(code_hash="opaque", environment_hash="undeclared", params={}, tool="t", tool_version="1")
contract = canonical_contract({}, [transform], outputs=["large"])
manifest = assemble("pack", {"large": OutputTree("large")}, contract=contract)
os.replace("large", "pack/artifacts/large")  # the same bytes, but sparse: saves 4 GiB of disk

def pieces():
    for run in runs(map(Piece.of, pack("pack"))):
        for piece, chunk in zip(run, make_chunks([piece.data for piece in run]), strict=True):
            yield inflate_chunk(chunk, len(piece.data), where="chunk")

assert unpack(pieces(), "copy", where="chunks") == manifest
print(manifest.outputs.size, peak_memory())
"""

SIZE = 4 * GIB + (128 << 20)  # what 32 bits cannot count
MARKS = {0: b"first", 3 * GIB: b"middle", SIZE - 4: b"last"}


def test_a_sparse_file_of_more_than_4_gib_is_the_same_after_a_round_trip_in_constant_memory(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "copy").mkdir()
    with open(tmp_path / "large", "wb") as file:
        file.truncate(SIZE)
        for offset, mark in MARKS.items():
            file.seek(offset)
            file.write(mark)
    copy = tmp_path / "copy/artifacts/large"
    try:
        done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        size, memory = map(int, done.stdout.split())
        assert size == copy.stat().st_size == SIZE
        with open(copy, "rb") as file:
            for offset, mark in MARKS.items():
                file.seek(offset)
                assert file.read(len(mark)) == mark
        assert memory >> 10 < MEMORY_LIMIT
    finally:
        for path in (copy, tmp_path / "pack/artifacts/large", tmp_path / "large"):
            path.unlink(missing_ok=True)
