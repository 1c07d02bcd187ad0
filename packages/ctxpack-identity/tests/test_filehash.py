"""Hashing files: the right digest, or an error for a file that changes."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_identity.hashing.filehash import (
    READ_SIZE,
    Batch,
    hash_batch,
    hash_file,
    open_regular,
    require_unchanged,
)

SIZES = [0, 1, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, 2 * READ_SIZE, 2 * READ_SIZE + 1]


def found(path: Path) -> tuple[str, int, int]:
    """Return a file as a walk finds it: location, size in bytes, mtime in ns."""
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def test_a_batch_has_the_digests_of_its_files_in_order(tmp_path: Path) -> None:
    files = []
    for size in reversed(SIZES):
        (tmp_path / str(size)).write_bytes(os.urandom(size))
        files.append((str(size), *found(tmp_path / str(size))[1:]))
    batch = Batch(f"{tmp_path}/", files)
    expected = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name, _, _ in files]
    assert hash_batch(batch) == expected
    assert hash_batch(pickle.loads(pickle.dumps(batch))) == expected


def test_a_large_sparse_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as stream:
        stream.truncate(200 << 20)
    tracemalloc.start()
    digest = hash_file(*found(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with open(path, "rb") as stream:
        assert digest == hashlib.file_digest(stream, "sha256").hexdigest()
    assert peak < 2 * READ_SIZE


def test_a_file_that_never_ends_is_not_read_forever() -> None:
    with pytest.raises(InvalidInput, match="/dev/zero: changed while it was read"):
        hash_file("/dev/zero", 3 * READ_SIZE, 0)


def test_a_read_that_returns_too_little_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1000)
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, size: read(fd, min(size, 100)))
    assert hash_file(*found(path)) == hashlib.sha256(b"x" * 1000).hexdigest()


def grow(path: Path) -> None:
    with open(path, "ab") as stream:
        stream.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 1)


def rewrite(path: Path) -> None:
    path.write_bytes(b"z" * path.stat().st_size)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def vanish(path: Path) -> None:
    path.unlink()


def vanish_with_its_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def folder_becomes_a_file(path: Path) -> None:
    vanish_with_its_folder(path)
    path.parent.write_text("")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_symlink(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_socket(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o140600)


@pytest.mark.parametrize("size", [10, READ_SIZE + 10])
@pytest.mark.parametrize(
    "change",
    [
        grow,
        shrink,
        rewrite,
        vanish,
        vanish_with_its_folder,
        folder_becomes_a_file,
        become_a_folder,
        become_a_symlink,
        become_a_fifo,
        become_a_socket,
    ],
)
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, change: Callable[[Path], None], size: int
) -> None:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"x" * size)
    as_found, open_files = found(path), len(os.listdir("/proc/self/fd"))
    change(path)
    with pytest.raises(InvalidInput) as caught:
        hash_file(*as_found)
    assert caught.value.code == "E_INPUT_CHANGED"
    assert str(caught.value) == f"{path}: changed while it was read; try again when nothing writes to it"
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_followed_link_that_gets_another_target_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "other").write_text("22")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    as_found = found(link)
    assert hash_file(*as_found, follow=True) == hashlib.sha256(b"1").hexdigest()
    with pytest.raises(InvalidInput, match="changed while it was read"):
        hash_file(*as_found)
    link.unlink()
    link.symlink_to(tmp_path / "other")
    with pytest.raises(InvalidInput, match="changed while it was read"):
        hash_file(*as_found, follow=True)


def test_opening_never_waits_and_leaves_no_descriptor(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path must be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        open_files = len(os.listdir("/proc/self/fd"))
        for name in ("fifo", "socket", "."):
            with pytest.raises(InvalidInput):
                open_regular(str(tmp_path / name))
        assert len(os.listdir("/proc/self/fd")) == open_files


def test_an_open_file_is_compared_with_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("abc")
    before = path.stat()
    fd = open_regular(str(path))
    try:
        require_unchanged(fd, str(path), before.st_size, before.st_mtime_ns)
        grow(path)
        with pytest.raises(InvalidInput, match="changed while it was read"):
            require_unchanged(fd, str(path), before.st_size, before.st_mtime_ns)
    finally:
        os.close(fd)


def test_a_file_without_read_permission_is_an_error(
    tmp_path: Path, as_nobody: Callable[[Path, Callable[[], Any]], Any]
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    _, size, mtime_ns = found(tmp_path / "secret")
    error = as_nobody(tmp_path, lambda: hash_file("secret", size, mtime_ns))
    assert type(error) is LocalFailure
    assert error.code == "E_INPUT_UNREADABLE"
    assert str(error) == "secret: cannot be read: Permission denied; check its permissions"


def test_a_disk_failure_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    path = tmp_path / "a"
    path.write_bytes(b"x")
    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(LocalFailure) as caught:
        hash_file(*found(path))
    assert str(caught.value) == f"{path}: cannot be read: Input/output error"
