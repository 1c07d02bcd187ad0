"""Every kind of worker gives the same digests and errors, and leaves nothing behind."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity import CtxPackError, InvalidInput, LocalFailure
from ctxpack_identity.hashing import workers
from ctxpack_identity.hashing.filehash import Batch, hash_batch
from ctxpack_identity.hashing.workers import ExecutorWorkers, LocalWorkers, Workers

CORES = 4


def batch_of(folder: Path) -> Batch:
    return Batch(
        f"{folder}/",
        [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir()) if p.is_file()],
    )


def write_files(folder: Path, count: int, size: int = 100) -> Batch:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03}").write_bytes(b"%d" % number * size)
    return batch_of(folder)


def living_children(parent: int) -> set[int]:
    """Return the ids of its children, zombies included, from proc(5)."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", name, "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(stat[1]) == parent:
            found.add(int(name))
    return found


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def idle(pid: int) -> bool:
    """Whether a process waits, as a child does that has no batch."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, and children that are started for the second small file."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(CORES)))
    monkeypatch.setattr(workers, "ALONE", 1)
    wait_until(lambda: len(os.listdir("/proc/self/task")) == 1)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test, descriptors, processes and threads are those of before."""

    def counted() -> tuple[int, set[int], int]:
        return len(os.listdir("/proc/self/fd")), living_children(os.getpid()), threading.active_count()

    before = counted()
    yield
    wait_until(lambda: counted() == before)


@pytest.fixture
def started(four_cores: None, nothing_left: None, tmp_path: Path) -> Iterator[tuple[LocalWorkers, Batch, list[int]]]:
    """Workers that have forked, a batch, and the processes' ids."""
    before = living_children(os.getpid())
    local, batch = LocalWorkers(), write_files(tmp_path / "started", 10)
    try:
        local.submit(batch).result()
        yield local, batch, sorted(living_children(os.getpid()) - before)
    finally:
        local.close()


@pytest.mark.parametrize("kind", ["alone", "children", "threads", "thread pool", "process pool", "shuffling"])
def test_all_workers_return_the_digests_of_hash_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, kind: str
) -> None:
    batches = [write_files(tmp_path / str(number), 5 + number) for number in range(30)]
    before = living_children(os.getpid())
    executor: Executor | None = None
    if kind == "alone":
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    elif kind == "children":
        request.getfixturevalue("four_cores")
    elif kind == "threads":
        monkeypatch.setattr(workers, "LARGE", 0)
    elif kind == "thread pool":
        executor = ThreadPoolExecutor(3)
    elif kind == "process pool":
        executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    elif kind == "shuffling":
        executor = request.getfixturevalue("shuffling")(5)
    pool: Workers = ExecutorWorkers(executor) if executor else LocalWorkers()
    try:
        pending = [pool.submit(batch) for batch in batches]
        if kind == "children":
            assert len(living_children(os.getpid()) - before) == CORES - 1
        elif kind == "alone":
            assert living_children(os.getpid()) == before
        elif kind == "threads":
            assert {thread.name for thread in threading.enumerate()} > {"hash"}
        assert [job.result() for job in pending] == [hash_batch(batch) for batch in batches]
    finally:
        pool.close()
        if executor:
            executor.shutdown()


@pytest.mark.parametrize("count", [1, 3, 30])
def test_results_may_be_taken_in_any_order_or_not_at_all(
    started: tuple[LocalWorkers, Batch, list[int]], count: int
) -> None:
    local, batch, _ = started
    pending = [local.submit(batch) for _ in range(count)]
    assert [job.result() for job in reversed(pending)][::2] == [hash_batch(batch)] * ((count + 1) // 2)


def test_a_child_that_is_done_gets_the_next_batch(started: tuple[LocalWorkers, Batch, list[int]]) -> None:
    local, batch, children = started
    pending = []
    for _ in range(3):
        pending += [local.submit(batch) for _ in range(3 * len(children))]
        wait_until(lambda: all(map(idle, children)))  # without a call of result()
    assert len({type(job) for job in pending}) == 1, "the main thread did some"
    assert [job.result() for job in pending] == [hash_batch(batch)] * len(pending)
    assert len(children) == CORES - 1


def test_the_largest_batches_pass_through_the_pipes(four_cores: None, nothing_left: None, tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 255) / ("e" * 255)
    folder.mkdir(parents=True)
    for number in range(128):
        (folder / f"{number:03}{'ü' * 126}").write_bytes(b"x")
    local, batch = LocalWorkers(), batch_of(folder)
    try:
        pending = [local.submit(batch) for _ in range(50)]
        assert [job.result() for job in pending] == [[hashlib.sha256(b"x").hexdigest()] * 128] * 50
    finally:
        local.close()


def vanish(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("kind", ["children", "threads", "thread pool", "process pool"])
@pytest.mark.parametrize("change", [vanish, grow])
def test_an_error_of_a_worker_keeps_its_class_and_fields(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    kind: str,
    change: Callable[[Path], None],
) -> None:
    batch = write_files(tmp_path / "folder", 5)
    change(tmp_path / "folder" / "003")
    with pytest.raises(InvalidInput) as direct:
        hash_batch(batch)
    executor: Executor | None = None
    if kind == "children":
        request.getfixturevalue("four_cores")
    elif kind == "threads":
        monkeypatch.setattr(workers, "LARGE", 0)
    elif kind == "thread pool":
        executor = ThreadPoolExecutor(1)
    else:
        executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    pool: Workers = ExecutorWorkers(executor) if executor else LocalWorkers()
    try:
        with pytest.raises(InvalidInput) as caught:
            pool.submit(batch).result()
    finally:
        pool.close()
        if executor:
            executor.shutdown()
    fields = ("what", "where", "expected", "got", "fix", "code")
    assert [getattr(caught.value, name) for name in fields] == [getattr(direct.value, name) for name in fields]
    assert str(caught.value) == str(direct.value)


def test_a_child_reports_a_file_without_read_permission(
    four_cores: None, tmp_path: Path, as_nobody: Callable[[Path, Callable[[], Any]], Any]
) -> None:
    tmp_path.chmod(0o755)
    batch = write_files(tmp_path / "folder", 5)
    (tmp_path / "folder").chmod(0o755)
    (tmp_path / "folder" / "003").chmod(0)

    def hash_in_a_child() -> None:
        local = LocalWorkers()
        try:
            pending = local.submit(batch._replace(location="folder/"))
            assert living_children(os.getpid())
            pending.result()
        finally:
            local.close()

    error = as_nobody(tmp_path, hash_in_a_child)
    assert type(error) is LocalFailure
    assert str(error) == "folder/003: cannot be read: Permission denied; check its permissions"
    assert error.code == "E_INPUT_UNREADABLE"


@pytest.mark.parametrize("when", ["before a task", "after a task"])
def test_a_killed_child_is_an_error(started: tuple[LocalWorkers, Batch, list[int]], when: str) -> None:
    local, batch, children = started
    pending = [] if when == "before a task" else [local.submit(batch)]
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

    def go_on() -> None:
        pending.extend(local.submit(batch) for _ in range(20))
        for job in pending:
            job.result()

    with pytest.raises(LocalFailure) as caught:
        go_on()
    assert str(caught.value) == (
        "a process that hashes or copies files ended; check whether it was killed, or whether memory is short"
    )


def test_closing_ends_children_with_pending_batches(started: tuple[LocalWorkers, Batch, list[int]]) -> None:
    local, batch, children = started
    for _ in range(50):
        local.submit(batch)
    local.close()
    assert not living_children(os.getpid()) & set(children)
    local.close()  # closing twice is allowed


def test_closing_accepts_children_that_were_waited_for_already(started: tuple[LocalWorkers, Batch, list[int]]) -> None:
    local, _, children = started
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    local.close()


def test_no_process_is_forked_while_there_are_other_threads(
    four_cores: None, nothing_left: None, tmp_path: Path
) -> None:
    batch, stop = write_files(tmp_path / "folder", 5), threading.Event()
    thread = threading.Thread(target=stop.wait)
    local = LocalWorkers()
    thread.start()
    try:
        before = living_children(os.getpid())
        assert local.submit(batch).result() == hash_batch(batch)
        assert living_children(os.getpid()) == before
    finally:
        stop.set()
        thread.join()
        local.close()


def test_pipes_too_small_for_the_answers_are_not_used(
    four_cores: None, nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = os.pipe

    def small_pipe() -> tuple[int, int]:
        """Return a pipe of the size that a user with many pipes gets."""
        ends = pipe()
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
        return ends

    monkeypatch.setattr(os, "pipe", small_pipe)
    assert_hashed_alone(write_files(tmp_path / "folder", 5))


def test_without_descriptors_for_pipes_this_thread_hashes(four_cores: None, nothing_left: None, tmp_path: Path) -> None:
    import resource

    batch = write_files(tmp_path / "folder", 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # There is room for one more pipe, not for two.
    lowest = os.dup(0)
    os.close(lowest)
    taken = [os.dup(0) for _ in range(3)]
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, hard))
    try:
        assert_hashed_alone(batch, look=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def assert_hashed_alone(batch: Batch, look: bool = True) -> None:
    local = LocalWorkers()
    try:
        before = living_children(os.getpid()) if look else set()
        for _ in range(5):
            assert local.submit(batch).result() == hash_batch(batch)
        assert not look or living_children(os.getpid()) == before
    finally:
        local.close()


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_children_are_as_many_as_the_system_allows(
    four_cores: None, nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    fork, asked = os.fork, []

    def scarce() -> int:
        asked.append(1)
        if len(asked) > allowed:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    monkeypatch.setattr(os, "fork", scarce)
    batch, local = write_files(tmp_path / "folder", 5), LocalWorkers()
    before = living_children(os.getpid())
    try:
        assert [local.submit(batch).result() for _ in range(5)] == [hash_batch(batch)] * 5
        assert len(living_children(os.getpid()) - before) == allowed
        assert len(asked) == allowed + 1, "refused once, and asked again"
    finally:
        local.close()


@pytest.mark.parametrize("allowed", [0, 1])
def test_threads_are_as_many_as_the_system_allows(
    nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    start, asked = threading.Thread.start, []

    def scarce(thread: threading.Thread) -> None:
        asked.append(1)
        if len(asked) > allowed:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    monkeypatch.setattr(workers, "LARGE", 0)
    batch, local = write_files(tmp_path / "folder", 5), LocalWorkers()
    try:
        assert [local.submit(batch).result() for _ in range(5)] == [hash_batch(batch)] * 5
    finally:
        local.close()


def test_children_close_locks_and_pipes_of_their_parent(four_cores: None, nothing_left: None, tmp_path: Path) -> None:
    batch, local = write_files(tmp_path / "folder", 5), LocalWorkers()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def free(action: Callable[[], object]) -> bool:
        try:
            action()
        except BlockingIOError:  # perhaps held by a child that has just started
            return False
        return True

    try:
        with open(tmp_path / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            local.submit(batch).result()
        os.close(writing)
        wait_until(lambda: free(lambda: os.read(reading, 1)))
        with open(tmp_path / "lock", "wb") as lock:
            wait_until(lambda: free(lambda: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    finally:
        os.close(reading)
        local.close()


def test_waiting_returns_whether_a_child_has_answered(
    started: tuple[LocalWorkers, Batch, list[int]],
) -> None:
    local, batch, children = started
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        jobs = [local.submit(batch) for _ in range(3)]
        assert not any(job.wait(0) for job in jobs)
        assert not jobs[2].wait(0.001)
    finally:
        for child in children:
            os.kill(child, signal.SIGCONT)
    assert jobs[2].wait(60)
    assert jobs[0].wait(0)
    assert [job.result() for job in jobs] == [hash_batch(batch)] * 3


def test_children_ignore_signals_that_the_parent_handles(four_cores: None, nothing_left: None, tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(os.getpid()))
    local, batch = LocalWorkers(), write_files(tmp_path / "folder", 5)
    existing = living_children(os.getpid())
    try:
        local.submit(batch).result()
        for child in living_children(os.getpid()) - existing:
            os.kill(child, signal.SIGTERM)
            os.kill(child, signal.SIGINT)
        assert [local.submit(batch).result() for _ in range(9)] == [hash_batch(batch)] * 9
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [os.getpid()]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signal.signal(signal.SIGTERM, before)
        local.close()


SLOW = """
import os, sys, time
from ctxpack_identity import Hashing, hash_tree
from ctxpack_identity.hashing import workers
os.sched_getaffinity = lambda pid: {0, 1, 2, 3}
workers.ALONE = 1
def progress(stage, advanced, total):
    print("hashing", flush=True)
    time.sleep(0.05)
hash_tree(sys.argv[1], hashing=Hashing(progress=progress))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_children_end_with_their_parent_however_it_ends(tmp_path: Path, number: int) -> None:
    for folder in range(300):
        write_files(tmp_path / str(folder), 2)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hashing\n"
    children = living_children(process.pid)
    assert len(children) == CORES - 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    wait_until(lambda: not any(os.path.exists(f"/proc/{child}/exe") for child in children))


class Broken(Executor):
    """Refuses a task, or fails it."""

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._refuses:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("cannot schedule new futures after shutdown"))
        return future


@pytest.mark.parametrize("refuses", [True, False])
def test_an_executor_that_fails_is_named(tmp_path: Path, refuses: bool) -> None:
    pool = ExecutorWorkers(Broken(refuses))
    with pytest.raises(CtxPackError) as caught:
        pool.submit(write_files(tmp_path / "folder", 1)).result()
    assert type(caught.value) is LocalFailure
    assert str(caught.value) == (
        "the executor given for hashing failed: got RuntimeError: cannot schedule new futures after shutdown"
    )


class Wrapping(Executor):
    """Wraps what a task raises as Ray does: an instance of the task's own class, with a text that is a traceback."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        class Wrapped(InvalidInput):
            cause = InvalidInput("changed while it was read", where="a", code="E_INPUT_CHANGED")

        future: Future[Any] = Future()
        future.set_exception(Wrapped("ray::task() Traceback (most recent call last)"))
        return future


def test_an_error_that_the_executor_wrapped_is_unwrapped(tmp_path: Path) -> None:
    pool = ExecutorWorkers(Wrapping())
    with pytest.raises(InvalidInput) as caught:
        pool.submit(write_files(tmp_path / "folder", 1)).result()
    assert type(caught.value) is InvalidInput
    assert (str(caught.value), caught.value.code) == ("a: changed while it was read", "E_INPUT_CHANGED")


class Remembering(Executor):
    """Returns a remembered result for an equal call, as Dask may."""

    def __init__(self) -> None:
        self._answers: dict[str, Future[Any]] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self._answers.setdefault(repr((fn, args, kwargs)), Future())
        if not future.done():
            future.set_result(fn(*args, **kwargs))
        return future


def test_an_executor_that_remembers_calls_hashes_again(tmp_path: Path) -> None:
    pool, batch = ExecutorWorkers(Remembering()), write_files(tmp_path / "folder", 1)
    before = pool.submit(batch).result()
    file = tmp_path / "folder" / "000"
    status = file.stat()
    file.write_bytes(b"x" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert pool.submit(batch).result() != before


def test_closing_cancels_pending_futures(tmp_path: Path) -> None:
    begin = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(begin.wait)
        pool = ExecutorWorkers(executor)
        pending = pool.submit(write_files(tmp_path / "folder", 1))
        pool.close()
        begin.set()
        with pytest.raises(LocalFailure, match="the executor given for hashing failed: got CancelledError"):
            pending.result()
