"""The hash of a folder in ten simple lines, not made for speed: naive_hash.py FOLDER."""

import hashlib
import sys
from pathlib import Path

total = hashlib.sha256()
folder = Path(sys.argv[1])
for path in sorted(folder.rglob("*")):
    if path.is_file():
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(65536):
                digest.update(block)
        total.update(f"{path.relative_to(folder)}\0{digest.hexdigest()}\n".encode())
print(total.hexdigest())
