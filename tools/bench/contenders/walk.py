"""The bound of a second hash in Python: lstat every file, read none. walk.py FOLDER prints the number of files."""

import os
import sys

files = 0
folders = [sys.argv[1]]
while folders:
    with os.scandir(folders.pop()) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                os.lstat(entry.path)
                files += 1
print(files)
