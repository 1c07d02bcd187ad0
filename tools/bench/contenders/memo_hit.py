"""Call a function that @memo remembers: ``memo_hit.py INPUT``."""

import sys
from pathlib import Path

from ctxpack_pantry import memo


@memo
def shout(docs: Path, out: Path, *, times: int = 1) -> None:
    out.mkdir()
    for path in docs.iterdir():
        (out / path.name).write_text(path.read_text().upper() * times)


if __name__ == "__main__":
    print(shout(Path(sys.argv[1]), times=2))
