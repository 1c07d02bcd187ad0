"""Turn a folder of PDF files into a searchable index: parse, chunk, embed, index.

    python ingest.py

Run it in the folder of the contract: it reads ``raw_docs`` and writes ``processed_data``. The parameters are in the
contract, which ``ctxpack run`` names in CTXPACK_CONTRACT; otherwise it is contract.json. Written::

    chunks.jsonl           one passage per line: document, page, text
    embeddings.npy         one vector of unit length per passage, in the same order
    index/terms.json       how a text is cut into terms, and the weight of each term
    index/projection.npy   from term weights to the vector, one row per term in the order of terms.json

The embedding is latent semantic analysis: the strongest directions of the term weights of all passages.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

# One thread, so that two runs on a machine write the same bytes: with another number of threads, a BLAS adds in another
# order, which changes the last bits of the vectors. numpy reads these variables when it loads its BLAS.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["VECLIB_MAXIMUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt
import pypdf

DOCUMENTS = Path("raw_docs")
INDEX = Path("processed_data")

TERM_PATTERN = r"[a-z_][a-z0-9_]+"
RAREST = 2  # passages that a term must occur in: a term of one passage relates it to no other passage

Matrix: TypeAlias = npt.NDArray[np.float32]


class Passage(NamedTuple):
    """A part of a document. page: where it begins, counted from 1."""

    document: str
    page: int
    text: str


def parsed(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of every PDF file in folder and the text of each of its pages, sorted by name."""
    for path in sorted(folder.glob("*.pdf")):
        yield path.name, [page.extract_text() for page in pypdf.PdfReader(path).pages]


def chunked(document: str, pages: list[str], size: int, overlap: int) -> Iterator[Passage]:
    """Yield passages of size characters; each begins overlap characters before the end of the one before."""
    starts = [0]  # of each page in the joined text
    for page in pages[:-1]:
        starts.append(starts[-1] + len(page) + 1)
    text = "\n".join(pages)
    for start in range(0, max(len(text) - overlap, 1), size - overlap):
        yield Passage(document, bisect_right(starts, start), text[start : start + size])


def weighed(texts: list[str]) -> tuple[dict[str, float], Matrix]:
    """Return the inverse document frequency of each term, and the tf-idf matrix: a row of unit length per text."""
    counts = [Counter(re.findall(TERM_PATTERN, text.lower())) for text in texts]
    spread = Counter(term for count in counts for term in count)
    idf = {term: math.log(len(texts) / n) for term, n in sorted(spread.items()) if n >= RAREST}
    column = {term: number for number, term in enumerate(idf)}
    weights = np.zeros((len(texts), len(idf)), dtype=np.float32)
    for row, count in enumerate(counts):
        for term in count.keys() & column.keys():
            weights[row, column[term]] = (1 + math.log(count[term])) * idf[term]
    return idf, unit_length(weights)


def unit_length(rows: Matrix) -> Matrix:
    """Return rows scaled to length 1. A row of zeros stays as it is."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Matrix = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def projection_of(weights: Matrix, dimensions: int) -> Matrix:
    """Return the strongest right singular directions of weights as columns: latent semantic analysis."""
    _, _, directions = np.linalg.svd(weights, full_matrices=False)
    projection: Matrix = np.ascontiguousarray(directions[:dimensions].T)
    return projection


def write_index(passages: list[Passage], dimensions: int, folder: Path) -> None:
    """Embed passages, and write all that query.py reads to folder."""
    idf, weights = weighed([passage.text for passage in passages])
    projection = projection_of(weights, dimensions)
    (folder / "index").mkdir(parents=True, exist_ok=True)
    with open(folder / "chunks.jsonl", "w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(passage._asdict()) + "\n" for passage in passages)
    np.save(folder / "embeddings.npy", unit_length(weights @ projection))
    terms = {"pattern": TERM_PATTERN, "idf": idf}
    (folder / "index" / "terms.json").write_text(json.dumps(terms), encoding="utf-8")
    np.save(folder / "index" / "projection.npy", projection)


def main() -> None:
    argparse.ArgumentParser(description="Turn the documents in raw_docs into a searchable index.").parse_args()
    path = Path(os.environ.get("CTXPACK_CONTRACT", "contract.json"))
    contract: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    (transform,) = contract["transforms"]
    if transform["tool_version"] != pypdf.__version__:
        raise SystemExit(f"{path} names pypdf {transform['tool_version']}, but {pypdf.__version__} is installed")
    params = transform["params"]
    documents = dict(parsed(DOCUMENTS))
    passages = [
        passage
        for document, pages in documents.items()
        for passage in chunked(document, pages, params["chunk_size"], params["overlap"])
    ]
    write_index(passages, params["dimensions"], INDEX)
    print(f"{len(documents)} documents, {sum(map(len, documents.values()))} pages, {len(passages)} passages")


if __name__ == "__main__":
    main()
