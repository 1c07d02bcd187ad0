"""Answer a question from an index that index.py made, without the documents.

    python query.py processed_data "How do I stop a loop early?"

Prints the closest passages, best first: cosine similarity, document, page, first words.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HITS = 3
SHOWN = 70  # characters of a passage


def embedded(question: str, index: Path) -> npt.NDArray[np.float32]:
    """Return the vector of question, of unit length, in the space of the index."""
    terms: dict[str, Any] = json.loads((index / "terms.json").read_text(encoding="utf-8"))
    projection = np.load(index / "projection.npy", mmap_mode="r")
    count = Counter(re.findall(terms["pattern"], question.lower()))
    vector = np.zeros(projection.shape[1], dtype=np.float32)
    for row, (term, idf) in enumerate(terms["idf"].items()):
        if term in count:
            vector += (1 + math.log(count[term])) * idf * projection[row]
    length = np.linalg.norm(vector)
    if not length:
        raise SystemExit("no word of the question occurs in the documents")
    vector /= length
    return vector


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer a question from an index.")
    parser.add_argument("folder", type=Path, help="the folder that index.py wrote")
    parser.add_argument("question")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    similarity = np.load(folder / "embeddings.npy", mmap_mode="r") @ embedded(arguments.question, folder / "index")
    passages = (folder / "chunks.jsonl").read_text(encoding="utf-8").splitlines()
    for number in np.argsort(-similarity, kind="stable")[:HITS]:
        passage = json.loads(passages[number])
        words = " ".join(passage["text"].split())[:SHOWN]
        print(f"{similarity[number]:.2f}  {passage['document']} p. {passage['page']}  {words}")


if __name__ == "__main__":
    main()
