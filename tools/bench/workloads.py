"""The folders that are hashed, pushed and pulled. The same scale gives the same bytes on every machine.

=======  ============================================================================  ===========  =======
name     what it stands for                                                            at scale 1   files
=======  ============================================================================  ===========  =======
W1       one large file that does not compress                                         1 GiB        1
W2       many small texts in 200 folders                                               170 MB       20,000
W3in     the documents of a RAG corpus: text head, incompressible rest                 0.5 GB       300
W3out    their embeddings (768 float32 a row: weakly compressible) and chunks (JSONL)  378 MB       2
W4c      W3out after 1 % changed: three of the 300 documents                           378 MB       2
W4s      W3out after 1 % changed: single rows and lines, anywhere                      378 MB       2
D        the outputs of `map` over many items: one text each                           325 MB       10,000
D-1      D after 1 % of its texts changed, anywhere                                    325 MB       10,000
=======  ============================================================================  ===========  =======
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from bench.items import Items
from bench.prose import Prose

__all__ = ["NAMES", "Workload", "make", "make_files", "measure_folder"]

NAMES = ("W1", "W2", "W3in", "W3out", "W4c", "W4s", "D", "D-1")

MIB = 1 << 20
GENERATION = 1  # increased when the bytes of a workload change, so that old folders are not used

DIMENSIONS = 768  # of an embedding, float32
ROWS = 102_400  # 300 MiB
DOCUMENTS = 300
LINES_BYTES = 60 * MIB
ROWS_AT_ONCE = 1024  # 3 MiB

Changes = tuple[set[int], set[int]]
"""Numbers of the rows and of the lines that differ from W3out."""


class Workload(NamedTuple):
    """A folder and what it holds. size: bytes of all its files."""

    name: str
    folder: Path
    files: int
    size: int


def make(name: str, root: Path, scale: float) -> Workload:
    """Return a workload in a folder below root, made unless it is there. scale: 1 for the sizes in the table above."""
    home = root / f"g{GENERATION}-{scale:g}" / name
    folder = home / "outputs"  # the same for all: the packs of two workloads are kin
    done = home / "done"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        folder.mkdir(parents=True)
        _MAKERS[name](folder, scale)
        done.touch()
    return measure_folder(name, folder)


def make_files(folder: Path, files: int, size: int) -> Workload:
    """Return a folder with files of size bytes each, at most 1000 in a folder; made unless it is there.

    The bytes do not compress, and no two files are the same.
    """
    done = folder.with_suffix(".done")
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        random = Random(f"files {files} {size}")
        for number in range(files):
            within = folder / f"d{number // 1000:03d}"
            if number % 1000 == 0:
                within.mkdir(parents=True)
            _write(within / f"f{number:06d}.bin", _random_bytes(random, size))
        done.touch()
    return measure_folder(folder.name, folder)


def measure_folder(name: str, folder: Path) -> Workload:
    """Return the workload of a folder that is there."""
    sizes = [os.lstat(os.path.join(parent, file)).st_size for parent, _, files in os.walk(folder) for file in files]
    return Workload(name, folder, len(sizes), sum(sizes))


def _large_file(folder: Path, scale: float) -> None:
    _write(folder / "large.bin", _random_bytes(Random("W1"), max(1, round(1024 * scale)) * MIB))


def _small_texts(folder: Path, scale: float) -> None:
    random = Random("W2")
    files = max(200, round(20_000 * scale))
    prose = Prose(random).text(max(1, round(48 * min(scale, 1))) * MIB)
    for number in range(files):
        within = folder / f"d{number % 200:03d}"
        within.mkdir(exist_ok=True)
        size = random.randint(MIB // 1024, 16 * MIB // 1024)
        start = random.randrange(len(prose) - size)
        # Ranges of one text. The number at the top makes them different.
        (within / f"f{number:05d}.txt").write_bytes(b"%d\n%b" % (number, prose[start : start + size]))


def _documents(folder: Path, scale: float) -> None:
    random = Random("W3in")
    prose = Prose(random).text(MIB)
    for number in range(_document_count(scale)):
        size = random.randint(MIB // 5, 3 * MIB)
        text = prose[: size // 20]
        (folder / f"doc_{number:04d}.pdf").write_bytes(b"%PDF-1.7\n" + text + random.randbytes(size) + b"\n%%EOF\n")


def _corpus(folder: Path, scale: float) -> None:
    with open(folder / "embeddings.f32", "wb") as file:
        file.writelines(_embeddings(Random("rows"), _row_count(scale)))
    with open(folder / "chunks.jsonl", "wb") as file:
        file.writelines(_lines(Random("lines"), scale))


def _clustered_change(folder: Path, scale: float) -> None:
    rows, lines = _row_count(scale), sum(1 for _ in _lines(Random("lines"), scale))
    starts = (0.11, 0.47, 0.83)  # positions of the three documents in the corpus
    changes = tuple(
        {int(count * start) + offset for start in starts for offset in range(max(1, count // DOCUMENTS))}
        for count in (rows, lines)
    )
    _changed_corpus(folder, scale, (changes[0], changes[1]))


def _scattered_change(folder: Path, scale: float) -> None:
    rows, lines = _row_count(scale), sum(1 for _ in _lines(Random("lines"), scale))
    random = Random("scattered")
    changes = [set(random.sample(range(count), max(1, count // 100))) for count in (rows, lines)]
    _changed_corpus(folder, scale, (changes[0], changes[1]))


def _changed_corpus(folder: Path, scale: float, changes: Changes) -> None:
    rows, lines = changes
    random = Random("changed")
    prose = Prose(random)
    width = DIMENSIONS * 4
    with open(folder / "embeddings.f32", "wb") as file:
        for start, block in enumerate(_embeddings(Random("rows"), _row_count(scale))):
            changed = bytearray(block)
            for row in range(len(block) // width):
                if start * ROWS_AT_ONCE + row in rows:
                    changed[row * width : (row + 1) * width] = next(_embeddings(random, 1))
            file.write(changed)
    with open(folder / "chunks.jsonl", "wb") as file:
        for number, line in enumerate(_lines(Random("lines"), scale)):
            if number in lines:
                line = json.dumps(json.loads(line) | {"text": prose.sentence() * 3}).encode() + b"\n"
            file.write(line)


def _items(folder: Path, scale: float) -> None:
    Items(scale).write(folder)


def _changed_items(folder: Path, scale: float) -> None:
    items = Items(scale)
    items.write(folder)
    items.change(folder, 1)


def _document_count(scale: float) -> int:
    return max(10, round(DOCUMENTS * scale))


def _row_count(scale: float) -> int:
    return max(ROWS_AT_ONCE, round(ROWS * scale))


def _embeddings(random: Random, rows: int) -> Iterator[bytes]:
    """Yield rows of normally distributed float32, little-endian, about 1024 at a time.

    Sign, exponent and the upper bits of the mantissa come from a pool that is larger than the window of a compressor.
    The lower 16 bits are random, so that no two rows are the same.
    """
    pool = array("f", (random.gauss(0, 1) for _ in range(1 << 17))).tobytes() if rows > 1 else b""
    while rows > 0:
        count = min(rows, ROWS_AT_ONCE)
        size = count * DIMENSIONS * 4
        if pool:
            start = random.randrange(len(pool) // 4) * 4
            block = ((pool[start:] + pool[:start]) * (size // len(pool) + 1))[:size]
        else:
            block = array("f", (random.gauss(0, 1) for _ in range(size // 4))).tobytes()
        low_bits = int.from_bytes(random.randbytes(size), "little") & int.from_bytes(
            b"\xff\xff\0\0" * (size // 4), "little"
        )
        yield (int.from_bytes(block, "little") ^ low_bits).to_bytes(size, "little")
        rows -= count


def _lines(random: Random, scale: float) -> Iterator[bytes]:
    """Yield the passages of the corpus as JSON lines, by document. Each repeats half of the one before."""
    prose = Prose(random)
    documents = _document_count(scale)
    share = LINES_BYTES * scale / documents
    for document in range(documents):
        written = number = 0
        half = [prose.sentence() for _ in range(4)]
        while written < share:
            other = [prose.sentence() for _ in range(4)]
            record = {
                "id": f"doc_{document:04d}/{number}",
                "source": f"doc_{document:04d}.pdf",
                "page": number // 4 + 1,
                "splitter": {"kind": "recursive", "chunk_size": 900, "overlap": 450},
                "text": "".join(half + other),
            }
            line = json.dumps(record).encode() + b"\n"
            yield line
            written, number, half = written + len(line), number + 1, other


def _random_bytes(random: Random, size: int) -> Iterator[bytes]:
    for start in range(0, size, MIB):
        yield random.randbytes(min(MIB, size - start))


def _write(path: Path, blocks: Iterator[bytes]) -> None:
    with open(path, "wb") as file:
        file.writelines(blocks)


_MAKERS = {
    "W1": _large_file,
    "W2": _small_texts,
    "W3in": _documents,
    "W3out": _corpus,
    "W4c": _clustered_change,
    "W4s": _scattered_change,
    "D": _items,
    "D-1": _changed_items,
}
