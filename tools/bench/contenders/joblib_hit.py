"""Call a function that joblib.Memory remembers, by the digests of its files: ``joblib_hit.py CACHE INPUT``."""

import hashlib
import sys
from pathlib import Path

from joblib import Memory

memory = Memory(sys.argv[1], verbose=0)


@memory.cache(ignore=["docs"])
def shout(digests: list[str], docs: Path, times: int = 1) -> dict[str, str]:
    return {path.name: path.read_text().upper() * times for path in docs.iterdir()}


docs = Path(sys.argv[2])
print(shout([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(docs.iterdir())], docs, times=2))
