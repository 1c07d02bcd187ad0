"""A file system is local only where that is known, by the mount that holds the path."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity.hashing import filesystem
from ctxpack_identity.hashing.filesystem import is_local


def mount(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[str, str]) -> None:
    """Let the system have just these mounts: (point as mountinfo writes it, type)."""
    lines = [
        f"{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw\n"
        for number, (point, kind) in enumerate(mounts)
    ]

    def opened(path: str, **_: Any) -> io.StringIO:
        assert path == "/proc/self/mountinfo"
        return io.StringIO("".join(lines))

    monkeypatch.setattr(filesystem, "open", opened, raising=False)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"])
def test_a_file_system_whose_numbers_and_times_this_kernel_keeps_is_local(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mount(monkeypatch, ("/", kind))
    assert is_local("/") is is_local("/a/b") is True


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre", "ceph", "vfat", "squashfs", "new", ""]
)
def test_network_and_image_file_systems_and_unknown_ones_are_not(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mount(monkeypatch, ("/", kind))
    assert is_local("/a") is False


MOUNTS = [
    ("/", "ext4"),
    ("/home", "nfs4"),
    ("/home/me/fast", "xfs"),
    (r"/mnt/a\040b\134c", "nfs4"),
    ("/twice", "ext4"),
    ("/twice", "nfs4"),
]


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/", True),
        ("/homes/x", True),
        ("/home", False),
        ("/home/", False),
        ("/home/me", False),
        ("/home/me/fast", True),
        ("/home/me/fast/not/there", True),
        ("/home/me/fast/../slow", False),
        ("/mnt/a b\\c/x", False),
        ("/mnt/a", True),
        ("/twice/x", False),
    ],
)
@pytest.mark.parametrize("order", [1, -1], ids=["outer-first", "inner-first"])
def test_the_innermost_mount_decides_and_of_two_at_one_point_the_last(
    monkeypatch: pytest.MonkeyPatch, path: str, local: bool, order: int
) -> None:
    mount(monkeypatch, *MOUNTS[:4][::order], *MOUNTS[4:])
    assert is_local(path) is local


def test_a_link_is_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path.resolve()
    (real / "away").mkdir()
    (real / "link").symlink_to("away")
    monkeypatch.chdir(real)
    mount(monkeypatch, ("/", "ext4"), (str(real / "away"), "nfs4"))
    assert [is_local(path) for path in ("link", "link/file", str(real / "link"))] == [False] * 3
    assert is_local("other") is True


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_without_a_table_of_mounts_nothing_is_local(monkeypatch: pytest.MonkeyPatch, error: type[OSError]) -> None:
    def refuse(path: str, **_: Any) -> io.StringIO:
        raise error(path)

    monkeypatch.setattr(filesystem, "open", refuse, raising=False)
    assert is_local("/") is False


def test_a_table_that_cannot_be_read_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "open", lambda path, **_: io.StringIO("1 2 3\n"), raising=False)
    assert is_local("/") is False


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="has no mountinfo")
def test_the_file_system_of_a_path_is_found() -> None:
    assert filesystem._file_system("/proc/self/status") == "proc"
    assert filesystem._file_system("/process") == filesystem._file_system("/") != ""
    assert is_local("/proc/self/status") is False
