"""Cut PDF files into passages: a file of passages for each document.

    python parse.py BATCH

``ctxpack map`` writes BATCH: for each document that must be parsed a line of JSON with its ``id``, the path of the
document as ``item`` and the path for its passages as ``out``. The parameters are in the contract that CTXPACK_CONTRACT
names. A passage is a line of JSON: document, page, text.
"""

from __future__ import annotations

import argparse
import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pypdf


class Passage(NamedTuple):
    """A part of a document. page: where it begins, counted from 1."""

    document: str
    page: int
    text: str


def chunked(document: str, pages: list[str], size: int, overlap: int) -> Iterator[Passage]:
    """Yield passages of size characters; each begins overlap characters before the end of the one before."""
    starts = [0]  # of each page in the joined text
    for page in pages[:-1]:
        starts.append(starts[-1] + len(page) + 1)
    text = "\n".join(pages)
    for start in range(0, max(len(text) - overlap, 1), size - overlap):
        yield Passage(document, bisect_right(starts, start), text[start : start + size])


def parse(item: Path, out: Path, size: int, overlap: int) -> None:
    """Write the passages of the document item to out."""
    pages = [page.extract_text() for page in pypdf.PdfReader(item).pages]
    with open(out, "w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(one._asdict()) + "\n" for one in chunked(item.name, pages, size, overlap))


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut PDF files into passages.")
    parser.add_argument("batch", type=Path, help="a file that says which, and where to")
    batch: Path = parser.parse_args().batch
    contract: dict[str, Any] = json.loads(Path(os.environ["CTXPACK_CONTRACT"]).read_text(encoding="utf-8"))
    (transform,) = contract["transforms"]
    if transform["tool_version"] != pypdf.__version__:
        raise SystemExit(f"the contract names pypdf {transform['tool_version']}, but {pypdf.__version__} is installed")
    params = transform["params"]
    with open(batch, encoding="utf-8") as lines:
        jobs = [json.loads(line) for line in lines]
    with open(os.environ["CTXPACK_DONE"], "a", encoding="utf-8") as done:  # these count even if a later one fails
        for job in jobs:
            parse(Path(job["item"]), Path(job["out"]), params["chunk_size"], params["overlap"])
            done.write(f"{job['id']}\n")
            done.flush()
    print(f"parsed {len(jobs)} document{'s' if len(jobs) != 1 else ''}")


if __name__ == "__main__":
    main()
