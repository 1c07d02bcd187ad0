"""Threads run jobs in order, and none after they are closed."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from ctxpack_identity.hashing.threads import Threads


def refuse(*arguments: Any) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("refused", [False, True])
def test_result_returns_or_raises_what_the_work_did(monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    if refused:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    threads = Threads(2)
    jobs = [threads.submit(partial(divmod, number, 2)) for number in range(9)]
    failing = threads.submit(lambda: [][0])
    assert [job.result() for job in jobs] == [divmod(number, 2) for number in range(9)]
    with pytest.raises(IndexError):
        failing.result()
    threads.close()


def test_waiting_returns_whether_a_job_has_run() -> None:
    go = threading.Event()
    threads = Threads(1)
    job = threads.submit(partial(go.wait, 60))
    assert not job.wait(0)
    assert not job.wait(0.001)
    go.set()
    assert job.wait(60)
    assert job.wait(0)
    assert job.result() is True
    threads.close()


def test_all_threads_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=20)
    threads = Threads(3)
    jobs = [threads.submit(together.wait) for _ in range(6)]
    assert sorted(job.result() for job in jobs) == [0, 0, 1, 1, 2, 2]
    threads.close()


def test_closing_drops_jobs_that_have_not_begun_and_does_not_wait_for_others() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []
    threads = Threads(1)

    def slow() -> None:
        begun.set()
        go_on.wait(60)

    running = threads.submit(slow)
    threads.submit(lambda: done.append(1))
    assert begun.wait(60)
    threads.close()
    assert not running.wait(0)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "hash":
            thread.join(20)
    assert done == []
