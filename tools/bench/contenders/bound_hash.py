"""The bound of hashing a folder in Python: only SHA-256 of every file. bound_hash.py FOLDER THREADS."""

import hashlib
import os
import sys
import threading
from queue import Empty, SimpleQueue

BLOCK = 1 << 20  # bytes; larger reads were no faster


def hash_files(files: "SimpleQueue[tuple[int, str]]", digests: "list[tuple[str, str]]") -> None:
    buffer = memoryview(bytearray(BLOCK))
    while True:
        try:
            _, path = files.get_nowait()
        except Empty:
            return
        digest = hashlib.sha256()
        descriptor = os.open(path, os.O_RDONLY)
        while count := os.readv(descriptor, [buffer]):
            digest.update(buffer[:count])
        os.close(descriptor)
        digests.append((path, digest.hexdigest()))


def main() -> None:
    folder, threads = sys.argv[1], int(sys.argv[2])
    found = []
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    found.append((entry.stat().st_size, entry.path))
    files: SimpleQueue[tuple[int, str]] = SimpleQueue()
    for each in sorted(found, reverse=True):  # the largest first, so that the threads end at about the same time
        files.put(each)
    digests: list[tuple[str, str]] = []
    helpers = [threading.Thread(target=hash_files, args=(files, digests)) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    hash_files(files, digests)
    for helper in helpers:
        helper.join()
    total = hashlib.sha256()
    for path, digest in sorted(digests, key=lambda one: one[0].split(os.sep)):  # as pathlib sorts
        total.update(f"{os.path.relpath(path, folder)}\0{digest}\n".encode())
    print(total.hexdigest())


if __name__ == "__main__":
    main()
