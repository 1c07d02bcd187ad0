"""One holder at a time, among threads and processes; none after its death; nothing left on the disk."""

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
from ctxpack_cache.lock import Lock
from ctxpack_identity.digest import digest_of, hex_of

KEY = digest_of(b"a contract")

Spawn = Callable[[Callable[[], object]], Any]
Eventually = Callable[[Callable[[], bool]], None]


def increment(counter: Path) -> None:
    """Add one, slowly: without a lock, additions get lost."""
    value = int(counter.read_text())
    time.sleep(0.001)
    counter.write_text(str(value + 1))


def hold(cache: Cache, said: Path, seconds: float = 60) -> None:
    with cache.lock(KEY):
        said.touch()
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


def test_another_key_or_purpose_is_another_lock(cache: Cache) -> None:
    def never() -> None:
        raise AssertionError("it waited")

    with cache.lock(KEY), cache.lock(digest_of(b"other"), on_wait=never), cache.lock(KEY, "push", on_wait=never):
        pass


def test_the_waiter_is_told_once(cache: Cache, tmp_path: Path, spawn: Spawn, eventually: Eventually) -> None:
    said = tmp_path / "said"
    spawn(lambda: hold(cache, said, seconds=0.3))
    eventually(said.exists)
    waits: list[str] = []
    with cache.lock(KEY, on_wait=lambda: waits.append("waiting")):
        assert waits == ["waiting"]
    with cache.lock(KEY, on_wait=lambda: waits.append("again")):
        assert waits == ["waiting"]


def test_the_kernel_gives_back_the_lock_of_a_killed_holder(
    cache: Cache, tmp_path: Path, spawn: Spawn, eventually: Eventually, leftovers: Callable[[Path], list[str]]
) -> None:
    said = tmp_path / "said"
    holder = spawn(lambda: hold(cache, said))
    eventually(said.exists)
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
            raise AssertionError("nobody gave it back")

    waiter = spawn(wait)
    eventually(waiting.exists)
    begun = time.monotonic()
    assert waiter.kill(signal.SIGINT).status == 130
    assert time.monotonic() - begun < 1


def test_an_exception_in_the_body_gives_the_lock_back(cache: Cache, leftovers: Callable[[Path], list[str]]) -> None:
    with pytest.raises(KeyError), cache.lock(KEY):
        raise KeyError
    with cache.lock(KEY, on_wait=lambda: pytest.fail("still held")):
        pass


def test_a_child_that_lives_on_does_not_keep_the_lock(cache: Cache, spawn: Spawn) -> None:
    with cache.lock(KEY):
        spawn(lambda: time.sleep(60))  # forked now, it inherits the open lock file
    assert cache.lock(KEY).attempt()


def test_a_forked_child_that_unwinds_leaves_its_parent_the_lock(tmp_path: Path, run: Spawn) -> None:
    path = str(tmp_path / "lock")
    mine = Lock(path)
    with mine:
        assert run(mine.release).status == 0
        assert mine.held
        assert not Lock(path).attempt()


@pytest.mark.parametrize("taken_again", [True, False])
def test_a_lock_file_removed_between_opening_and_locking_is_no_lock(
    tmp_path: Path, run: Spawn, strike_at: Callable[[int, Callable[[], object]], object], taken_again: bool
) -> None:
    """Each holder removes the file, so two processes could lock two files of one name."""
    path = tmp_path / "lock"

    def let_another_have_it() -> None:
        path.unlink()
        if taken_again:
            path.touch()

    def work() -> tuple[bool, bool]:
        strike_at(2, let_another_have_it)  # step 1 opens, step 2 locks
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
def test_a_filesystem_without_locks_is_said_so(cache: Cache, run: Spawn, number: int, expected: str) -> None:
    def refuse(event: str, _: object) -> None:
        if event == "fcntl.flock":
            raise OSError(number, "no flock here")

    def work() -> None:
        sys.addaudithook(refuse)
        with cache.lock(KEY):
            pass

    outcome = run(work)
    assert "LocalFailure" in outcome.said
    assert f"locks/pack-{hex_of(KEY)}: {expected}" in outcome.said
