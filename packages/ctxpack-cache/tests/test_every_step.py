"""A process is killed, refused or interrupted before each system call it makes; then we look at what is left.

The rules: a name in packs stands for a whole pack or is absent; a sweep takes all the rest; the next one succeeds.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import Cache
from ctxpack_cache.staging import Staging
from ctxpack_identity.digest import digest_of
from ctxpack_identity.errors import LocalFailure

KEY = digest_of(b"a contract")

Fill = Callable[[str], None]
Contents = Callable[[str], dict[str, str]]
Leftovers = Callable[[Path], list[str]]
Strike = Callable[[int, Callable[[], object]], Callable[[], int]]
Run = Callable[[Callable[[], object]], Any]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


def fail_with(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


class Bench:
    """Does one thing to a fresh cache, striking before step 1, then 2, … until the thing is through unharmed."""

    def __init__(self, root: Path, run: Run, strike_at: Strike) -> None:
        self.root = root
        self.cache = Cache(root)
        self._run = run
        self._strike_at = strike_at

    def each(
        self, prepare: Callable[[], object], work: Callable[[], object], strike: Callable[[], None]
    ) -> Iterator[Any]:
        """Yield how the process ended, once for each step it has."""
        for number in itertools.count(1):
            self._empty()
            prepare()

            def child(number: int = number) -> str:
                steps = self._strike_at(number, strike)
                work()
                return "through" if steps() < number else "struck"

            outcome = self._run(child)
            if outcome == (0, "through"):
                assert number > 10, "the failpoints saw next to nothing"
                return
            yield outcome

    def _empty(self) -> None:
        if self.root.exists():
            for folder in self.root.rglob("*/"):
                folder.chmod(0o700)
            shutil.rmtree(self.root)


@pytest.fixture
def bench(tmp_path: Path, run: Run, strike_at: Strike) -> Bench:
    return Bench(tmp_path / "cache", run, strike_at)


def publish(cache: Cache, fill: Fill) -> None:
    with cache.lock(KEY), cache.staging() as folder:
        fill(folder)
        cache.publish(KEY, folder)


def nothing() -> None:
    pass


def expected(fill: Fill, contents: Contents, tmp_path: Path) -> dict[str, str]:
    model = tmp_path / "model"
    model.mkdir()
    fill(str(model))
    return contents(str(model))


def check_absent_or_complete(cache: Cache, whole: dict[str, str], contents: Contents) -> bool:
    path = cache.find(KEY)
    if path is None:
        return False
    assert contents(path) == whole
    writable = [str(found) for found in Path(path).rglob("*") if found.stat().st_mode & 0o222]
    assert writable == []
    return True


def test_killed_in_a_publication(
    bench: Bench, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)
    seen = set()
    for outcome in bench.each(nothing, lambda: publish(bench.cache, fill), kill):
        assert outcome.status == -signal.SIGKILL
        seen.add(check_absent_or_complete(bench.cache, whole, contents))
        bench.cache.sweep()
        assert leftovers(bench.root) == []
        publish(bench.cache, fill)
        assert check_absent_or_complete(bench.cache, whole, contents)
    assert seen == {True, False}


def test_killed_in_a_removal(
    bench: Bench, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)
    seen = set()
    for outcome in bench.each(lambda: publish(bench.cache, fill), lambda: bench.cache.remove(KEY), kill):
        assert outcome.status == -signal.SIGKILL
        there = check_absent_or_complete(bench.cache, whole, contents)
        seen.add(there)
        bench.cache.sweep()
        assert leftovers(bench.root) == []
        assert bench.cache.remove(KEY) is there
    assert seen == {True, False}


def test_killed_in_a_sweep(bench: Bench, fill: Fill, run: Run, leftovers: Leftovers) -> None:
    def die_in_staging() -> None:
        with bench.cache.staging() as folder:
            fill(folder)
            kill()

    for outcome in bench.each(lambda: run(die_in_staging), lambda: bench.cache.sweep(), kill):
        assert outcome.status == -signal.SIGKILL
        bench.cache.sweep()
        assert leftovers(bench.root) == []


class FillingFailed(Exception):
    """The refused call was the test's own."""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_refused_in_a_publication(
    bench: Bench, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path, number: int
) -> None:
    """The system refuses one call, then behaves again: a LocalFailure or, where it did not matter, success."""
    whole = expected(fill, contents, tmp_path)

    def fill_or_say_so(folder: str) -> None:
        try:
            fill(folder)
        except OSError as error:
            raise FillingFailed from error

    failures = 0
    for outcome in bench.each(nothing, lambda: publish(bench.cache, fill_or_say_so), fail_with(number)):
        if outcome.status != 0 and "FillingFailed" not in outcome.said:
            assert "ctxpack_identity.errors.LocalFailure: " in outcome.said
            assert str(bench.root) in outcome.said
            failures += 1
        check_absent_or_complete(bench.cache, whole, contents)
        bench.cache.sweep()
        assert leftovers(bench.root) == []
    assert failures > 20


def test_refused_in_a_removal(
    bench: Bench, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)
    failures = 0
    for outcome in bench.each(
        lambda: publish(bench.cache, fill), lambda: bench.cache.remove(KEY), fail_with(errno.EACCES)
    ):
        if outcome.status != 0:
            assert "permission denied; give yourself write access" in outcome.said
            failures += 1
        check_absent_or_complete(bench.cache, whole, contents)
        bench.cache.sweep()
        assert leftovers(bench.root) == []
    assert failures > 10


def test_interrupted_in_a_publication(
    bench: Bench, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    """One Ctrl-C before any step: it comes out as such, and no staging folder is left, even without a sweep."""
    whole = expected(fill, contents, tmp_path)
    for outcome in bench.each(nothing, lambda: publish(bench.cache, fill), interrupt):
        assert outcome == (130, "KeyboardInterrupt")
        check_absent_or_complete(bench.cache, whole, contents)
        assert list(bench.root.glob("v1/staging/*")) == []
        bench.cache.sweep()
        assert leftovers(bench.root) == []


def test_interrupted_when_giving_up(bench: Bench, fill: Fill, leftovers: Leftovers) -> None:
    """A Ctrl-C while a staging folder is removed does not stop the removal."""

    def give_up() -> None:
        with bench.cache.staging() as folder:
            fill(folder)

    for outcome in bench.each(nothing, give_up, interrupt):
        assert outcome == (130, "KeyboardInterrupt")
        assert list(bench.root.glob("v1/staging/*")) == []


def test_were_locks_to_lie_no_half_swept_folder_is_published(
    bench: Bench, fill: Fill, contents: Contents, tmp_path: Path
) -> None:
    """Some network filesystems lock within one machine only; a sweep on another one then takes living folders."""
    whole = expected(fill, contents, tmp_path)
    living: list[Staging] = []
    folders: list[str] = []

    def prepare() -> None:
        living.append(bench.cache.staging())
        folders.append(living[-1].__enter__())
        fill(folders[-1])
        for lock in bench.root.glob("v1/locks/*"):
            lock.unlink()

    seen = set()
    for outcome in bench.each(prepare, lambda: bench.cache.sweep(), kill):
        assert outcome.status == -signal.SIGKILL
        with contextlib.suppress(LocalFailure):  # the folder is gone
            bench.cache.publish(KEY, folders[-1])
        seen.add(check_absent_or_complete(bench.cache, whole, contents))
        living[-1].__exit__(None, None, None)
    assert seen == {True, False}
    living[-1].__exit__(None, None, None)
