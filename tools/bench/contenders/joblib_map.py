"""Run a command for each file of a folder with joblib.Memory, which keeps results by the digest of the file.

    joblib_map.py JOBS RAW OUT CACHE COMMAND...

As users write it: the function gets the digest, and the path is not part of the key; it returns the result, which is
written where it belongs.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from joblib import Memory, Parallel, delayed

jobs, raw, out, cache, *command = sys.argv[1:]
memory = Memory(cache, verbose=0)


@memory.cache(ignore=["path"])
def compute(digest: str, path: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result")
        subprocess.run([*command, path, result], check=True)
        return Path(result).read_bytes()


def place(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    result = compute(digest, str(path))
    to = Path(out, path.relative_to(raw))
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(result)


paths = [path for path in Path(raw).rglob("*") if path.is_file()]
Parallel(n_jobs=int(jobs), backend="threading")(delayed(place)(path) for path in paths)
wanted = {Path(out, path.relative_to(raw)) for path in paths}
for path in Path(out).rglob("*"):
    if path.is_file() and path not in wanted:
        path.unlink()
