"""What must reach the disk before a name may point at it.

Linux: one syncfs(2). Measured on ext4, 20,000 small files: 0.2 s, against 4 to 7 s for an fsync of each. It also
writes what other programs left unwritten on that filesystem, and waits for it; before Linux 5.8 it reports no write
errors. Elsewhere: an fsync of each.
"""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType

from ctxpack_cache.tree import walk

__all__ = ["FlushAhead", "flush", "flush_tree", "flush_tree_one_by_one"]

AHEAD = 0.1  # seconds from one flush to the next; what is filled in less has none


def flush_tree(folder: str) -> None:
    """Return when folder and everything below it is on the disk.

    Raises: OSError, also when the disk reports that it lost something.
    """
    if not _flush_filesystem(folder):
        flush_tree_one_by_one(folder)


def flush_tree_one_by_one(folder: str) -> None:
    """Do what flush_tree does without syncfs; about 0.35 ms for each file and folder."""
    for entry in walk(folder):
        flush(entry.path)
    flush(folder)


def flush(path: str) -> None:
    """Return when this file's bytes, or this folder's names, are on the disk. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FlushAhead:
    """While the context lasts, a thread has the disk write what a folder has got so far; less is left to flush_tree.

    Raises at its end, if nothing else does: OSError, when the disk reports that it lost something. The system says so
    once only, so that flush_tree would not hear of it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._failure: OSError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="flush")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if kind is None:
            self._thread.join()
            if self._failure is not None:
                raise self._failure

    def _work(self) -> None:
        try:
            while not self._done.wait(AHEAD) and _flush_filesystem(self._folder):
                continue
        except OSError as failure:
            self._failure = failure


def _flush_filesystem(folder: str) -> bool:
    """Flush the filesystem that holds folder; return False where the system cannot. Raises: OSError."""
    if sys.platform != "linux":
        return False
    import ctypes  # 2 ms, which only a publication pays

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), folder)
    finally:
        os.close(descriptor)
    return True
