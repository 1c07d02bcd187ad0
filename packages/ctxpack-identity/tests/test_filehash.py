"""Hashing files: the same answer whoever computes it, and none for a file that did not hold still."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Generator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_identity.filehash import (
    BATCH_BYTES,
    BATCH_FILES,
    PENDING_BATCHES,
    READ_SIZE,
    THREAD_BYTES,
    hash_file,
    hash_files,
    open_regular,
    require_unchanged,
)
from ctxpack_identity.scan import scan

SIZES = [0, 1, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, 2 * READ_SIZE, BATCH_BYTES, BATCH_BYTES + 1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files around every size at which the code takes another way, more than one batch of them, and empty folders."""
    root = tmp_path_factory.mktemp("files")
    for size in SIZES:
        (root / f"{size:09}").write_bytes(os.urandom(size))
    for number in range(BATCH_FILES + 10):
        (root / f"small{number:04}").write_bytes(b"%d" % number)
    (root / "empty").mkdir()
    (root / "also" / "empty").mkdir(parents=True)
    return root


def expected(root: Path) -> list[tuple[str, str]]:
    return [
        (found.path, "" if found.is_empty_folder else hashlib.sha256(Path(found.location).read_bytes()).hexdigest())
        for found in scan(str(root))
    ]


def test_files_come_back_in_the_order_given_with_their_digests(files: Path, executor: Executor | None) -> None:
    hashed = [(found.path, digest) for found, digest in hash_files(scan(str(files)), executor=executor)]
    assert hashed == expected(files)


def test_a_process_pool_hashes_the_same(files: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        hashed = [(found.path, digest) for found, digest in hash_files(scan(str(files)), executor=processes)]
    assert hashed == expected(files)


def test_an_error_comes_back_from_a_process_pool(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    found = list(scan(str(tmp_path)))
    (tmp_path / "a").unlink()
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes,
        pytest.raises(InvalidInput, match=r"/a: changed while it was read; try again when nothing writes to it"),
    ):
        list(hash_files(found, executor=processes))


def test_few_small_files_start_no_thread(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).write_bytes(b"x" * (THREAD_BYTES // 200))
    before = threading.active_count()
    for _ in hash_files(scan(str(tmp_path))):
        assert threading.active_count() == before


def test_no_thread_outlives_its_hashing(files: Path) -> None:
    before = threading.active_count()
    hashing = hash_files(scan(str(files)))
    next(hashing)
    assert isinstance(hashing, Generator)
    hashing.close()
    list(hash_files(scan(str(files))))
    assert threading.active_count() == before


def test_progress_counts_every_byte_once(files: Path, executor: Executor | None) -> None:
    seen: list[int] = []

    def progress(stage: str, advanced: int, total: int | None) -> None:
        assert (stage, total) == ("hash", None)
        seen.append(advanced)

    list(hash_files(scan(str(files)), executor=executor, progress=progress))
    assert sum(seen) == sum(found.stat.st_size for found in scan(str(files)) if not found.is_empty_folder)


def test_only_so_much_is_under_way_at_once(tmp_path: Path, shuffling: Callable[[int], Any]) -> None:
    for number in range(40):
        with open(tmp_path / f"{number:02}", "wb") as stream:
            stream.truncate(BATCH_BYTES)
    lazy = shuffling(0)
    hashing = hash_files(scan(str(tmp_path)), executor=lazy)
    next(hashing)
    assert lazy.submitted == PENDING_BATCHES


def test_a_large_sparse_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as stream:
        stream.truncate(200 << 20)
    tracemalloc.start()
    digest = hash_file(str(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with open(path, "rb") as stream:
        assert digest == hashlib.file_digest(stream, "sha256").hexdigest()
    assert peak < 2 * READ_SIZE


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
    "meddle",
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
def test_a_file_that_does_not_hold_still_has_no_digest(
    tmp_path: Path, meddle: Callable[[Path], None], size: int, meddling: Callable[[Callable[[], object]], Executor]
) -> None:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"x" * size)
    with pytest.raises(InvalidInput) as caught:
        list(hash_files(scan(str(tmp_path)), executor=meddling(lambda: meddle(path))))
    assert caught.value.code == "E_INPUT_CHANGED"
    assert str(caught.value) == f"{path}: changed while it was read; try again when nothing writes to it"


def test_a_followed_link_may_not_turn_to_another_file(
    tmp_path: Path, meddling: Callable[[Callable[[], object]], Executor]
) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "other").write_text("22")
    link = tmp_path / "in" / "link"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "one")

    def turn() -> None:
        link.unlink()
        link.symlink_to(tmp_path / "other")

    with pytest.raises(InvalidInput, match="changed while it was read"):
        list(hash_files(scan(str(link.parent), follow=True), follow=True, executor=meddling(turn)))


def test_one_file_can_be_hashed_without_having_been_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("abc")
    assert hash_file(str(path)) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(InvalidInput, match="changed while it was read"):
        hash_file(str(path), expected=os.stat(tmp_path))
    (tmp_path / "link").symlink_to(path)
    assert hash_file(str(tmp_path / "link"), follow=True) == hashlib.sha256(b"abc").hexdigest()
    for gone in (tmp_path / "link", tmp_path / "nowhere", tmp_path):
        with pytest.raises(InvalidInput) as caught:
            hash_file(str(gone))
        assert caught.value.code == "E_INPUT_CHANGED"


def test_opening_never_waits_and_leaks_nothing(tmp_path: Path) -> None:
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


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, as_nobody: Callable[[Path, Callable[[], Any]], Any]
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    error = as_nobody(tmp_path, lambda: list(hash_files(scan("."))))
    assert type(error) is LocalFailure
    assert error.code == "E_INPUT_UNREADABLE"
    assert str(error) == "./secret: cannot be read: Permission denied"
