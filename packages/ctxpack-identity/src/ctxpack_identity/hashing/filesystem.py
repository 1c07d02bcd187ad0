"""Which file systems are local, and what is mounted.

Local are those whose inode numbers and times this machine's kernel keeps. Not local are network file systems, on which
other machines write too; those that invent inode numbers (FAT); images with the times of their builder (squashfs); and
all that are not known, so every one where the system has no /proc/self/mountinfo (macOS).
"""

from __future__ import annotations

import os
import re

__all__ = ["TICK_NS", "LocalDevices", "is_local", "is_mount"]

TICK_NS = 20_000_000  # the clock of file times ticks every 10 ms or more often, and is behind meanwhile

_LOCAL = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs3", "overlay", "ramfs", "reiserfs"}
    | {"rootfs", "tmpfs", "xfs", "zfs"}
)


def is_local(path: str) -> bool:
    """Return whether path, with links followed, lies on a local file system; it need not exist.

    Reads the table of mounts each time; LocalDevices does so once for each device.
    """
    return _file_system(os.path.realpath(path)) in _LOCAL


class LocalDevices:
    """Which devices are local, each asked about once."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}

    def holds(self, path: str, status: os.stat_result) -> bool:
        """Return whether path lies on a local file system. status: stat(2) of it, links followed."""
        device = status.st_dev
        if device not in self._known:
            self._known[device] = is_local(path)
        return self._known[device]


def is_mount(path: str) -> bool:
    """Return whether something is mounted at path, with links followed.

    os.path.ismount compares devices, so it does not see a folder that is mounted from the same file system.
    """
    real = os.path.realpath(path)
    return os.path.ismount(real) or any(point == real for point, _ in _mounts())


def _file_system(path: str) -> str:
    """Return the type of the file system that holds path, "" where that is not known.

    By path: btrfs subvolumes have devices that no mount has.
    """
    best, kind = -1, ""
    for point, its_kind in _mounts():
        if len(point) >= best and f"{path}/".startswith(os.path.join(point, "")):
            best, kind = len(point), its_kind
    return kind


def _mounts() -> list[tuple[str, str]]:
    """Return each mount point and the type of its file system (proc(5), mountinfo); none where that is not known."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            parts = [line.partition(" - ") for line in mounts]
        return [(_unescaped(before.split(" ")[4]), after.split(" ")[0]) for before, _, after in parts]
    except (OSError, IndexError):
        return []


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), point) if "\\" in point else point
