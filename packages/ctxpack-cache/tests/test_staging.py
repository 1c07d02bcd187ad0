"""A staging folder is private, and is removed when its work ends or its process dies."""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import Cache
from ctxpack_identity.digest import digest_of
from ctxpack_identity.errors import LocalFailure

KEY = digest_of(b"a contract")

Spawn = Callable[[Callable[[], object]], Any]
Leftovers = Callable[[Path], list[str]]
Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_staging_folder_is_new_private_and_next_to_the_packs(cache: Cache, root: Path) -> None:
    with cache.staging() as one, cache.staging() as two:
        assert one != two
        assert Path(one).parent == root / "v1" / "staging"
        assert os.listdir(one) == []
        assert stat.S_IMODE(os.stat(one).st_mode) == 0o700


@pytest.mark.parametrize("end", [None, ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_staging_folder_is_removed_after_any_exception(
    cache: Cache, root: Path, fill: Callable[[str], None], leftovers: Leftovers, end: type[BaseException] | None
) -> None:
    def work() -> None:
        with cache.staging() as folder:
            fill(folder)
            if end is not None:
                raise end

    if end is None:
        work()
    else:
        with pytest.raises(end):
            work()
    assert leftovers(root) == []


def test_read_only_and_unreadable_folders_are_removed(
    cache: Cache, root: Path, fill: Callable[[str], None], leftovers: Leftovers
) -> None:
    with cache.staging() as folder:
        fill(folder)
        Path(folder, "artifacts/deep/empty").chmod(0)
        Path(folder, "artifacts/deep").chmod(0o555)
        Path(folder, "artifacts").chmod(0)
        Path(folder).chmod(0o555)
    assert leftovers(root) == []


def test_a_folder_of_any_depth_is_removed(cache: Cache, root: Path, leftovers: Leftovers) -> None:
    depth = 3000  # levels, three characters each: too long for a path, too deep for recursion
    with cache.staging() as folder:
        here = os.open(folder, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("aa", dir_fd=here)
            deeper = os.open("aa", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
    assert leftovers(root) == []


def test_links_are_removed_and_not_followed(cache: Cache, root: Path, tmp_path: Path, leftovers: Leftovers) -> None:
    linked = tmp_path / "linked"
    linked.mkdir(mode=0o750)
    (linked / "file").touch()
    with cache.staging() as folder:
        Path(folder, "link").symlink_to(linked)
        Path(folder, "dangling").symlink_to("nowhere")
        os.mkfifo(Path(folder, "pipe"))
    assert leftovers(root) == []
    assert (linked / "file").exists()
    assert stat.S_IMODE(linked.stat().st_mode) == 0o750


def test_a_sweep_removes_folders_of_dead_processes_only(
    cache: Cache, root: Path, fill: Callable[[str], None], spawn: Spawn, eventually: Eventually, leftovers: Leftovers
) -> None:
    def work() -> None:
        with cache.staging() as folder:
            fill(folder)
            Path(folder).chmod(0o500)
            time.sleep(60)

    child = spawn(work)
    eventually(lambda: any(path.stat().st_mode & 0o777 == 0o500 for path in root.glob("v1/staging/*")))
    with cache.staging() as own:
        assert cache.sweep() == 0
        assert len(list(root.glob("v1/staging/*"))) == 2
        child.kill()
        assert cache.sweep() == 1
        assert leftovers(root) == sorted([Path(own).name, "staging-" + Path(own).name])
    assert leftovers(root) == []


def test_staging_sweeps_first(cache: Cache, root: Path, run: Spawn, leftovers: Leftovers) -> None:
    def work() -> None:
        with cache.staging():
            os.kill(os.getpid(), signal.SIGKILL)

    assert run(work).status == -signal.SIGKILL
    (dead,) = root.glob("v1/staging/*")
    with cache.staging():
        assert not dead.exists()
    assert leftovers(root) == []


def test_a_sweep_leaves_other_names_and_files(cache: Cache, root: Path, tmp_path: Path) -> None:
    with cache.staging():
        pass
    staging = root / "v1" / "staging"
    (staging / "notes").mkdir()
    (staging / ("0" * 16)).write_text("a file")
    (staging / ("1" * 16)).symlink_to(tmp_path)
    assert cache.sweep() == 0
    assert sorted(os.listdir(staging)) == ["0" * 16, "1" * 16, "notes"]


def test_staging_works_when_a_folder_cannot_be_swept(cache: Cache, root: Path) -> None:
    with cache.staging():
        pass
    staging = root / "v1" / "staging"
    (root / "v1" / "locks" / "staging-4444444444444444").mkdir()  # no lock file can be opened there
    for digit in "0123456789":
        (staging / (digit * 16)).mkdir()
    with cache.staging() as folder:
        assert set(os.listdir(staging)) == {"4444444444444444", os.path.basename(folder)}
    with pytest.raises(LocalFailure, match="cannot make a lock file: Is a directory"):
        cache.sweep()


def test_a_folder_swept_despite_its_lock_is_not_published(
    cache: Cache, root: Path, fill: Callable[[str], None]
) -> None:
    """Some network filesystems lock within one machine only: a sweep on another machine removes folders in use."""
    with cache.staging() as folder:
        fill(folder)
        for lock in root.glob("v1/locks/*"):
            lock.unlink()
        assert cache.sweep() == 1
        with pytest.raises(LocalFailure, match="No such file or directory"):
            cache.publish(KEY, folder)
    assert cache.find(KEY) is None


def test_a_forked_child_cannot_remove_the_folder_of_its_parent(cache: Cache, run: Spawn) -> None:
    staging = cache.staging()
    with staging as folder:
        assert run(lambda: staging.__exit__(None, None, None)).status == 0
        assert os.path.isdir(folder)
        assert cache.sweep() == 0


def test_after_ctrl_c_at_any_time_a_sweep_removes_the_rest(
    cache: Cache,
    root: Path,
    tmp_path: Path,
    fill: Callable[[str], None],
    spawn: Spawn,
    eventually: Eventually,
    leftovers: Leftovers,
) -> None:
    ready = tmp_path / "ready"

    def work() -> str:
        ready.touch()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with cache.lock(KEY), cache.staging() as folder:
                fill(folder)
                cache.publish(KEY, folder)
            cache.remove(KEY)
        return "lost"

    ends = []
    for milliseconds in range(0, 60, 3):
        ready.unlink(missing_ok=True)
        child = spawn(work)
        eventually(ready.exists)
        time.sleep(milliseconds / 1000)
        ends.append(child.kill(signal.SIGINT))
    # CPython drops an exception raised while it finalises an object, so a Ctrl-C may be lost there.
    assert set(ends) <= {(130, "KeyboardInterrupt"), (0, "lost")}
    assert ends.count((0, "lost")) <= 2
    cache.sweep()
    assert leftovers(root) == []


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "no space left on the disk; free some space, or move the cache"),
        (errno.EDQUOT, "disk quota exceeded; free some space, or move the cache"),
        (errno.EFBIG, "file larger than allowed; raise the file size limit"),
    ],
)
def test_an_oserror_of_the_body_that_means_no_space_is_a_local_failure(
    cache: Cache, root: Path, leftovers: Leftovers, number: int, reason: str
) -> None:
    with pytest.raises(LocalFailure) as caught, cache.staging():
        raise OSError(number, os.strerror(number))
    assert caught.value.where.startswith(str(root / "v1" / "staging"))
    assert f": cannot fill the staging folder: {reason}" in str(caught.value)
    assert leftovers(root) == []


def test_another_error_of_the_body_is_not_changed(cache: Cache) -> None:
    with pytest.raises(FileNotFoundError), cache.staging():
        Path("/no/such/file").read_bytes()
