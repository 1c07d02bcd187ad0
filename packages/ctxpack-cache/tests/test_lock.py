"""One thread of one process holds a lock; when the process dies, the lock is free. No lock file is left."""

from __future__ import annotations

import errno
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import Cache
from ctxpack_cache.lock import Advice, FileLock, Lock
from ctxpack_identity.digest import digest_of, hex_of

KEY = digest_of(b"a contract")

Spawn = Callable[[Callable[[], object]], Any]
Eventually = Callable[[Callable[[], bool]], None]


def increment(counter: Path) -> None:
    """Add one, slowly: without a lock, additions are lost."""
    value = int(counter.read_text())
    time.sleep(0.001)
    counter.write_text(str(value + 1))


def hold(cache: Cache, held: Path, seconds: float = 60) -> None:
    with cache.lock(KEY):
        held.touch()
        time.sleep(seconds)


def test_threads_of_one_process_exclude_each_other(cache: Cache, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def work() -> None:
        for _ in range(5):
            with cache.lock(KEY):
                increment(counter)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "20"


def test_processes_exclude_each_other(
    cache: Cache, tmp_path: Path, spawn: Spawn, leftovers: Callable[[Path], list[str]]
) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def work() -> None:
        for _ in range(25):
            with cache.lock(KEY):
                increment(counter)

    children = [spawn(work) for _ in range(4)]
    assert [child.outcome().status for child in children] == [0, 0, 0, 0]
    assert counter.read_text() == "100"
    assert leftovers(tmp_path / "cache") == []


def test_each_key_and_purpose_has_its_own_lock(cache: Cache) -> None:
    def never() -> None:
        raise AssertionError("it waited")

    with cache.lock(KEY), cache.lock(digest_of(b"other"), on_wait=never), cache.lock(KEY, "push", on_wait=never):
        pass


def test_on_wait_is_called_once_per_wait(cache: Cache, tmp_path: Path, spawn: Spawn, eventually: Eventually) -> None:
    held = tmp_path / "held"
    spawn(lambda: hold(cache, held, seconds=0.3))
    eventually(held.exists)
    waits: list[str] = []
    with cache.lock(KEY, on_wait=lambda: waits.append("waiting")):
        assert waits == ["waiting"]
    with cache.lock(KEY, on_wait=lambda: waits.append("again")):
        assert waits == ["waiting"]


def test_the_kernel_releases_the_lock_of_a_killed_process(
    cache: Cache, tmp_path: Path, spawn: Spawn, eventually: Eventually, leftovers: Callable[[Path], list[str]]
) -> None:
    held = tmp_path / "held"
    holder = spawn(lambda: hold(cache, held))
    eventually(held.exists)
    assert not cache.lock(KEY).attempt()
    assert holder.kill().status == -signal.SIGKILL
    with cache.lock(KEY):
        pass
    assert leftovers(tmp_path / "cache") == []


def test_ctrl_c_ends_the_wait_at_once(cache: Cache, tmp_path: Path, spawn: Spawn, eventually: Eventually) -> None:
    holding, waiting = tmp_path / "holding", tmp_path / "waiting"
    spawn(lambda: hold(cache, holding))
    eventually(holding.exists)

    def wait() -> None:
        with cache.lock(KEY, on_wait=waiting.touch):
            raise AssertionError("the lock was free")

    waiter = spawn(wait)
    eventually(waiting.exists)
    assert waiter.kill(signal.SIGINT).status == 130
    assert not cache.lock(KEY).attempt()  # it did not end because it got the lock


def test_an_exception_in_the_body_releases_the_lock(cache: Cache, leftovers: Callable[[Path], list[str]]) -> None:
    with pytest.raises(KeyError), cache.lock(KEY):
        raise KeyError
    with cache.lock(KEY, on_wait=lambda: pytest.fail("still held")):
        pass


def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(cache: Cache, spawn: Spawn) -> None:
    with cache.lock(KEY):
        spawn(lambda: time.sleep(60))  # forked here, so it inherits the open lock file
    assert cache.lock(KEY).attempt()


def test_a_forked_child_cannot_release_the_lock_of_its_parent(tmp_path: Path, run: Spawn) -> None:
    path = str(tmp_path / "lock")
    lock = Lock(path)
    with lock:
        assert run(lock.release).status == 0
        assert lock.held
        assert not Lock(path).attempt()


@pytest.mark.parametrize("taken_again", [True, False])
def test_an_attempt_fails_when_its_file_was_removed_between_opening_and_locking(
    tmp_path: Path, run: Spawn, at_step: Callable[[int, Callable[[], object]], object], taken_again: bool
) -> None:
    """Each holder removes the file, so two processes could lock two files of one name."""
    path = tmp_path / "lock"

    def let_another_process_take_it() -> None:
        path.unlink()
        if taken_again:
            path.touch()

    def work() -> tuple[bool, bool]:
        at_step(2, let_another_process_take_it)  # step 1 opens, step 2 locks
        lock = Lock(str(path))
        return lock.attempt(), lock.attempt()

    assert run(work) == (0, "(False, True)")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOLCK, "this filesystem has no file locks: got no flock here; move the cache to a local disk"),
        (errno.ENOSYS, "this filesystem has no file locks: got no flock here; move the cache to a local disk"),
        (errno.EIO, "cannot lock: no flock here; check the disk and the folder's permissions, or move the cache"),
    ],
)
def test_a_refused_flock_is_a_local_failure(cache: Cache, run: Spawn, number: int, expected: str) -> None:
    def refuse(event: str, _: object) -> None:
        if event == "fcntl.flock":
            raise OSError(number, "no flock here")

    def work() -> None:
        sys.addaudithook(refuse)
        with cache.lock(KEY):
            pass

    outcome = run(work)
    assert "LocalFailure" in outcome.output
    assert f"locks/pack-{hex_of(KEY)}: {expected}" in outcome.output


def shared(path: Path) -> FileLock:
    return FileLock(str(path), Advice("elsewhere", "a local disk"), shared=True)


def test_shared_locks_share_and_the_last_release_removes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    one, other = shared(path), shared(path)
    assert one.attempt()
    assert other.attempt()
    assert not Lock(str(path)).attempt()
    one.release()
    assert path.exists()
    assert not Lock(str(path)).attempt()
    other.release()
    assert not path.exists()


def test_an_exclusive_lock_excludes_a_shared_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(str(path)):
        assert not shared(path).attempt()
    assert shared(path).attempt()


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_release_never_removes_the_file_of_another(
    tmp_path: Path, run: Spawn, at_step: Callable[[int, Callable[[], object]], object], exclusive: bool
) -> None:
    """From shared to exclusive is not one step: in between another may remove the file, and a third make it anew."""
    path = tmp_path / "lock"

    def let_others_replace_it() -> None:
        path.unlink()
        path.write_text("of a third")

    def work() -> str:
        lock = Lock(str(path)) if exclusive else shared(path)
        assert lock.attempt()
        at_step(1, let_others_replace_it)  # before flock
        lock.release()
        return path.read_text()

    assert run(work) == (0, "of a third")


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_release_unlocks_a_file_that_it_cannot_remove_and_that_a_child_has_open(
    tmp_path: Path, spawn: Spawn, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "no")

    path = tmp_path / "lock"
    lock = Lock(str(path)) if exclusive else shared(path)
    assert lock.attempt()
    spawn(lambda: time.sleep(60))
    monkeypatch.setattr("os.unlink", refuse)
    lock.release()
    assert path.exists()
    assert Lock(str(path)).attempt()
