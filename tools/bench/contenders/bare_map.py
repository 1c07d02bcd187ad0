"""Run a command for each item, so many at a time, and nothing else.

    bare_map.py JOBS LIST RAW OUT COMMAND...

LIST: a file with the paths of the items in RAW, one a line; their results lie below OUT. COMMAND gets both paths.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

jobs, names, raw, out, *command = sys.argv[1:]


def compute(name: str) -> None:
    subprocess.run([*command, f"{raw}/{name}", f"{out}/{name}"], check=True)


items = Path(names).read_text().splitlines()
for folder in {Path(out, name).parent for name in items}:
    folder.mkdir(parents=True, exist_ok=True)
with ThreadPoolExecutor(int(jobs)) as pool:
    for _ in pool.map(compute, items):
        pass
