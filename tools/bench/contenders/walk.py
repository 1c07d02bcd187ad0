"""Walk a folder, with stat(2) of every file; print how many there are."""

import os
import sys

files = 0
pending = [sys.argv[1]]
while pending:
    with os.scandir(pending.pop()) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            else:
                files += 1
print(files)
