"""A process is killed, refused or interrupted before each of its system calls.

The rules: each pack is whole or absent; a sweep removes everything else; the next attempt succeeds.
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
AtStep = Callable[[int, Callable[[], object]], Callable[[], int]]
Run = Callable[[Callable[[], object]], Any]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


def fail_with(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


class EachStep:
    """Runs one operation on an empty cache, with a fault before step 1, then 2, … to the last step."""

    def __init__(self, root: Path, run: Run, at_step: AtStep) -> None:
        self.root = root
        self.cache = Cache(root)
        self._run = run
        self._at_step = at_step

    def run(
        self, prepare: Callable[[], object], work: Callable[[], object], fault: Callable[[], None]
    ) -> Iterator[Any]:
        """Yield how the process ended, once for each of its steps."""
        for number in itertools.count(1):
            self._empty()
            prepare()

            def child(number: int = number) -> str:
                steps = self._at_step(number, fault)
                work()
                return "no such step" if steps() < number else "no effect"

            outcome = self._run(child)
            if outcome == (0, "no such step"):
                assert number > 10, "the failpoints saw few steps"
                return
            yield outcome

    def _empty(self) -> None:
        if self.root.exists():
            for folder in self.root.rglob("*/"):
                folder.chmod(0o700)
            shutil.rmtree(self.root)


@pytest.fixture
def each_step(tmp_path: Path, run: Run, at_step: AtStep) -> EachStep:
    return EachStep(tmp_path / "cache", run, at_step)


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


def test_after_a_kill_during_publish_the_pack_is_whole_or_absent(
    each_step: EachStep, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)
    seen = set()
    for outcome in each_step.run(nothing, lambda: publish(each_step.cache, fill), kill):
        assert outcome.status == -signal.SIGKILL
        seen.add(check_absent_or_complete(each_step.cache, whole, contents))
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []
        publish(each_step.cache, fill)
        assert check_absent_or_complete(each_step.cache, whole, contents)
    assert seen == {True, False}


def test_after_a_kill_during_remove_the_pack_is_whole_or_absent(
    each_step: EachStep, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)
    seen = set()
    for outcome in each_step.run(lambda: publish(each_step.cache, fill), lambda: each_step.cache.remove(KEY), kill):
        assert outcome.status == -signal.SIGKILL
        there = check_absent_or_complete(each_step.cache, whole, contents)
        seen.add(there)
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []
        assert each_step.cache.remove(KEY) is there
    assert seen == {True, False}


def test_after_a_kill_a_pack_is_set_aside_whole_or_not_at_all(
    each_step: EachStep, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)

    def set_aside_once_and_publish() -> None:
        publish(each_step.cache, fill)
        each_step.cache.set_aside(KEY)
        publish(each_step.cache, fill)

    seen = set()
    for outcome in each_step.run(set_aside_once_and_publish, lambda: each_step.cache.set_aside(KEY), kill):
        assert outcome.status == -signal.SIGKILL
        there = check_absent_or_complete(each_step.cache, whole, contents)
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []
        aside = list(each_step.root.glob("v1/damaged/*"))
        assert len(aside) in ([1] if there else [1, 2])
        assert whole in [contents(str(path)) for path in aside]
        seen.add((there, each_step.cache.is_as_published(KEY)))
        assert each_step.cache.remove(KEY)
        assert list(each_step.root.glob("v1/damaged/*")) == []
    assert seen == {(True, True), (True, False), (False, False)}


def test_after_a_kill_during_confirm_the_print_is_whole(each_step: EachStep, fill: Fill, leftovers: Leftovers) -> None:
    """Otherwise a torn print would cost a read of the pack again and again."""

    def prepare() -> None:
        publish(each_step.cache, fill)
        (kept,) = each_step.root.glob("v1/prints/*")
        kept.write_text("old")

    def confirm() -> None:
        each_step.cache.confirm(KEY, each_step.cache.fingerprint_of(KEY))

    seen = set()
    for outcome in each_step.run(prepare, confirm, kill):
        assert outcome.status == -signal.SIGKILL
        (kept,) = each_step.root.glob("v1/prints/*")
        seen.add((kept.read_text() == "old", each_step.cache.is_as_published(KEY)))
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []
    assert seen == {(True, False), (False, True)}


def test_after_a_kill_during_sweep_the_next_sweep_removes_the_rest(
    each_step: EachStep, fill: Fill, run: Run, leftovers: Leftovers
) -> None:
    def die_while_staging() -> None:
        with each_step.cache.staging() as folder:
            fill(folder)
            kill()

    for outcome in each_step.run(lambda: run(die_while_staging), lambda: each_step.cache.sweep(), kill):
        assert outcome.status == -signal.SIGKILL
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []


class FillFailed(Exception):
    """The refused call was made by fill."""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_call_refused_during_publish_is_a_local_failure(
    each_step: EachStep, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path, number: int
) -> None:
    """Success where the refused call did not matter, such as the removal of a lock file."""
    whole = expected(fill, contents, tmp_path)

    def fill_or_fail(folder: str) -> None:
        try:
            fill(folder)
        except OSError as error:
            raise FillFailed from error

    failures = 0
    for outcome in each_step.run(nothing, lambda: publish(each_step.cache, fill_or_fail), fail_with(number)):
        if outcome.status != 0 and "FillFailed" not in outcome.output:
            assert "ctxpack_identity.errors.LocalFailure: " in outcome.output
            assert str(each_step.root) in outcome.output
            failures += 1
        check_absent_or_complete(each_step.cache, whole, contents)
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []
    assert failures > 20


def test_a_call_refused_during_remove_is_a_local_failure(
    each_step: EachStep, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)
    failures = 0
    for outcome in each_step.run(
        lambda: publish(each_step.cache, fill), lambda: each_step.cache.remove(KEY), fail_with(errno.EACCES)
    ):
        if outcome.status != 0:
            assert "permission denied; give yourself write access" in outcome.output
            failures += 1
        check_absent_or_complete(each_step.cache, whole, contents)
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []
    assert failures > 10


def test_after_ctrl_c_during_publish_no_staging_folder_is_left(
    each_step: EachStep, fill: Fill, contents: Contents, leftovers: Leftovers, tmp_path: Path
) -> None:
    whole = expected(fill, contents, tmp_path)
    for outcome in each_step.run(nothing, lambda: publish(each_step.cache, fill), interrupt):
        assert outcome == (130, "KeyboardInterrupt")
        check_absent_or_complete(each_step.cache, whole, contents)
        assert list(each_step.root.glob("v1/staging/*")) == []
        each_step.cache.sweep()
        assert leftovers(each_step.root) == []


def test_ctrl_c_does_not_stop_the_removal_of_a_staging_folder(
    each_step: EachStep, fill: Fill, leftovers: Leftovers
) -> None:
    def abandon() -> None:
        with each_step.cache.staging() as folder:
            fill(folder)

    for outcome in each_step.run(nothing, abandon, interrupt):
        assert outcome == (130, "KeyboardInterrupt")
        assert list(each_step.root.glob("v1/staging/*")) == []


def test_a_folder_half_swept_despite_its_lock_is_not_published(
    each_step: EachStep, fill: Fill, contents: Contents, tmp_path: Path
) -> None:
    """Some network filesystems lock within one machine only: a sweep on another machine removes folders in use."""
    whole = expected(fill, contents, tmp_path)
    stagings: list[Staging] = []
    folders: list[str] = []

    def prepare() -> None:
        stagings.append(each_step.cache.staging())
        folders.append(stagings[-1].__enter__())
        fill(folders[-1])
        for lock in each_step.root.glob("v1/locks/*"):
            lock.unlink()

    seen = set()
    for outcome in each_step.run(prepare, lambda: each_step.cache.sweep(), kill):
        assert outcome.status == -signal.SIGKILL
        with contextlib.suppress(LocalFailure):  # the folder is gone
            each_step.cache.publish(KEY, folders[-1])
        seen.add(check_absent_or_complete(each_step.cache, whole, contents))
        stagings[-1].__exit__(None, None, None)
    assert seen == {True, False}
    stagings[-1].__exit__(None, None, None)
