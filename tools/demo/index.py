"""Turn passages into a searchable index: embed, index.

    python index.py

Run it in the folder of the contract: it reads ``passages``, which parse.py made, and writes ``processed_data``. The
parameters are in the contract, which ``ctxpack run`` names in CTXPACK_CONTRACT; otherwise it is contract.json.
Written::

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
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

# One thread, so that two runs on a machine write the same bytes: with another number of threads, a BLAS adds in another
# order, which changes the last bits of the vectors. numpy reads these variables when it loads its BLAS.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["VECLIB_MAXIMUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt

PASSAGES = Path("passages")
INDEX = Path("processed_data")

TERM_PATTERN = r"[a-z_][a-z0-9_]+"
RAREST = 2  # passages that a term must occur in: a term of one passage relates it to no other passage

Matrix: TypeAlias = npt.NDArray[np.float32]


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


def write_index(lines: list[str], dimensions: int, folder: Path) -> None:
    """Embed passages, each a line of JSON, and write all that query.py reads to folder."""
    idf, weights = weighed([json.loads(line)["text"] for line in lines])
    projection = projection_of(weights, dimensions)
    (folder / "index").mkdir(parents=True, exist_ok=True)
    (folder / "chunks.jsonl").write_text("".join(lines), encoding="utf-8")
    np.save(folder / "embeddings.npy", unit_length(weights @ projection))
    terms = {"pattern": TERM_PATTERN, "idf": idf}
    (folder / "index" / "terms.json").write_text(json.dumps(terms), encoding="utf-8")
    np.save(folder / "index" / "projection.npy", projection)


def main() -> None:
    argparse.ArgumentParser(description="Turn passages into a searchable index.").parse_args()
    path = Path(os.environ.get("CTXPACK_CONTRACT", "contract.json"))
    contract: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    (transform,) = contract["transforms"]
    if transform["tool_version"] != np.__version__:
        raise SystemExit(f"{path} names numpy {transform['tool_version']}, but {np.__version__} is installed")
    files = sorted(PASSAGES.glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines(keepends=True)]
    write_index(lines, transform["params"]["dimensions"], INDEX)
    print(f"indexed {len(lines)} passages of {len(files)} documents")


if __name__ == "__main__":
    main()
