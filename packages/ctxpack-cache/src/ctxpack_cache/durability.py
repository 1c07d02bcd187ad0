"""Flush a folder to the disk before it gets its final name.

Linux: one syncfs(2). Measured on ext4, 20,000 small files: 0.2 s, against 4 to 7 s for an fsync of each. syncfs also
writes the pending data of other programs on that filesystem, and waits for it; before Linux 5.8 it reports no write
errors. Other systems: an fsync of each file and folder.
"""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType

from ctxpack_cache.tree import walk

__all__ = ["FlushAhead", "flush", "flush_tree", "flush_tree_one_by_one"]

AHEAD = 0.1  # seconds between two flushes; a folder that is filled faster gets none


def flush_tree(folder: str) -> None:
    """Return when folder and everything below it is on the disk.

    Raises: OSError, also when the disk reports lost data.
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
    """A context in which a thread flushes a folder while it is filled, so that flush_tree has less to write.

    Raises: OSError at the end, if the body raised nothing and the disk reported lost data. The system reports a loss
    only once, so flush_tree would not see it.
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
    import ctypes  # 2 ms, needed only to publish

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
