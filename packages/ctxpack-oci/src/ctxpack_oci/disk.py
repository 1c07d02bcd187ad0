"""Write a file atomically: after a crash it is whole, or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from ctxpack_identity.disk import write_all

__all__ = ["Disk", "publish"]


class Disk:
    """The calls that make a file durable: a class, so that a test can stop between any two of them."""

    def write(self, file: int, data: memoryview) -> int:
        """Write some of data to an open file; return how many bytes."""
        return os.write(file, data)

    def sync(self, file: int) -> None:
        """Return when the open file or folder has reached the disk."""
        os.fsync(file)

    def replace(self, source: Path, target: Path) -> None:
        """Rename source to target in one step."""
        os.replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in folder have reached the disk."""
        opened = os.open(folder, os.O_RDONLY)
        try:
            self.sync(opened)
        finally:
            os.close(opened)


def publish(blocks: Iterable[bytes], target: Path, *, staging: Path, mode: int, disk: Disk) -> None:
    """Write blocks, one after the other, to target in one step.

    staging: an existing folder on the same file system, for the draft.
    Raises: OSError, and what blocks raises; target is then unchanged, and the draft is gone.
    """
    draft = staging / f"{target.name[:80]}.{os.getpid()}.{os.urandom(6).hex()}"
    try:
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            for block in blocks:
                write_all(file, block, write=disk.write)
            disk.sync(file)
        finally:
            os.close(file)
        disk.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
