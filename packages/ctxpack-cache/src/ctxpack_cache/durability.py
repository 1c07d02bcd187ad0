"""What must reach the disk before a name may point at it.

Linux: one syncfs(2). Measured on ext4, 20,000 small files: 0.2 s, against 4 to 7 s for an fsync of each. It also
writes what other programs left unwritten on that filesystem, and waits for it; before Linux 5.8 it reports no write
errors. Elsewhere: an fsync of each.
Windows: nothing, since only a writable file can be flushed there and these no longer are.
"""

from __future__ import annotations

import os
import sys

from ctxpack_cache.tree import walk

__all__ = ["flush", "flush_tree", "flush_tree_one_by_one"]


def flush_tree(folder: str) -> None:
    """Return when folder and everything below it is on the disk.

    Raises: OSError, also when the disk reports that it lost something.
    """
    if sys.platform == "win32":  # pragma: no cover
        return
    if not _flush_filesystem(folder):
        flush_tree_one_by_one(folder)


def flush_tree_one_by_one(folder: str) -> None:
    """Do what flush_tree does without syncfs; about 0.35 ms for each file and folder."""
    for entry in walk(folder):
        flush(entry.path)
    flush(folder)


def flush(path: str) -> None:
    """Return when this file's bytes, or this folder's names, are on the disk. Raises: OSError."""
    if sys.platform == "win32":  # pragma: no cover
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
