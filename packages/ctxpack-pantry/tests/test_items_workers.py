"""Workers: one command after the other, each in a process group of its own, that ends when it shall."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxpack_pantry.items import making
from ctxpack_pantry.items.making import Made, _Crew
from ctxpack_pantry.items.workers import LOST, Refused, Worker

ENVIRONMENT = {b"PATH": os.environb[b"PATH"]}
LIMIT = 60.0  # seconds


def wait_for(moment: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT
    while not moment():
        assert time.monotonic() < until
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(str(tmp_path)) as worker:
        yield worker


def run(worker: Worker, *command: str, **variables: str) -> int:
    return worker.run(command, ENVIRONMENT, variables)


@pytest.mark.parametrize(
    ("code", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("kill -6 $$", 134)]
)
def test_the_status_is_that_of_the_command(worker: Worker, code: str, status: int) -> None:
    for _ in range(3):
        assert run(worker, "sh", "-c", code) == status


def test_a_command_runs_in_the_folder_with_these_variables_only(worker: Worker, tmp_path: Path) -> None:
    code = "env > env; pwd > cwd; cat > stdin"
    assert run(worker, "sh", "-c", code, B="2 \n\u00fc", A="1") == 0
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines() if "=" in line}
    assert names - {"_", "PWD", "SHLVL", "OLDPWD"} == {"A", "B", "PATH"}
    assert "B=2 " in (tmp_path / "env").read_text()
    assert os.path.samefile((tmp_path / "cwd").read_text().strip(), tmp_path)
    assert (tmp_path / "stdin").read_text() == ""


def test_what_a_command_gets_arrives_to_the_byte(worker: Worker, tmp_path: Path) -> None:
    words = ["", " ", "\n", "'", "$x", "\u4e2d", os.fsdecode(b"\xff"), "{item}"]
    code = "import os, sys; open('got', 'wb').write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    assert run(worker, sys.executable, "-c", code, *words) == 0
    assert (tmp_path / "got").read_bytes() == b"\0".join(map(os.fsencode, words))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_command_inherits_no_descriptors_and_no_ignored_signals(worker: Worker, tmp_path: Path) -> None:
    code = (
        "import os, signal; open('fds', 'w').write(' '.join(sorted(os.listdir('/proc/self/fd'))))\n"
        "open('ignored', 'w').write(next(line for line in open('/proc/self/status') if line.startswith('SigIgn')))"
    )
    assert run(worker, sys.executable, "-S", "-E", "-c", code) == 0
    assert set((tmp_path / "fds").read_text().split()) <= {"0", "1", "2", "3", "4"}  # its own files are among them
    ignored = int((tmp_path / "ignored").read_text().split()[1], 16)
    expected = {signal.SIGPIPE, signal.SIGXFSZ}  # Python itself ignores these
    expected |= {n for n in signal.Signals if signal.getsignal(n) is signal.SIG_IGN}  # as under nohup, which stays
    assert {n for n in range(1, 32) if ignored >> (n - 1) & 1} <= expected


@pytest.mark.parametrize("command", [["no-such-program"], ["./nothing"], ["."], ["a\0b"], ["true", "a\0b"]])
def test_a_command_that_cannot_be_started_is_refused_and_the_next_one_runs(worker: Worker, command: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        run(worker, *command)
    assert str(caught.value)
    assert run(worker, "true") == 0


def test_a_runner_that_is_killed_loses_its_command_only(worker: Worker) -> None:
    assert run(worker, "sh", "-c", "kill -9 $PPID") == LOST
    assert run(worker, "true") == 0


@pytest.mark.parametrize("kill", [False, True])
def test_stop_ends_the_command_that_runs_and_what_it_started(worker: Worker, tmp_path: Path, kill: bool) -> None:
    statuses: list[int] = []
    code = "sleep 60 & echo $$ $! > new; mv new pids; wait"
    thread = threading.Thread(target=lambda: statuses.append(run(worker, "sh", "-c", code)))
    thread.start()
    wait_for((tmp_path / "pids").exists)
    worker.stop(kill=kill)
    thread.join(LIMIT)
    assert statuses == [137 if kill else 143]
    wait_for(lambda: not any(is_alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()))
    assert run(worker, "true") == LOST


def test_stop_before_anything_runs_lets_nothing_run(worker: Worker, tmp_path: Path) -> None:
    worker.stop(kill=False)
    assert run(worker, "touch", "made") == LOST
    assert not (tmp_path / "made").exists()
    worker.stop(kill=True)


CHILD = """
import os, sys, threading
sys.path[:0] = sys.argv[2:]
from ctxpack_pantry.items.workers import Worker
with Worker(sys.argv[1]) as worker:
    worker.run(["sh", "-c", "sleep 60 & echo $$ $! > new; mv new pids; wait"], {b"PATH": os.environb[b"PATH"]}, {})
"""


@pytest.mark.parametrize("of_group", [False, True])
def test_commands_end_when_the_process_of_their_worker_is_killed(tmp_path: Path, of_group: bool) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), *sys.path], start_new_session=True)
    wait_for((tmp_path / "pids").exists)
    (os.killpg if of_group else os.kill)(child.pid, signal.SIGKILL)
    child.wait()
    wait_for(lambda: not any(is_alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()))


# ---- several workers


class Stubborn:
    """Units that run commands which ignore SIGTERM."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, worker: Worker, numbers: Any, report: Callable[[Made], object]) -> None:
        code = (
            f"trap '' TERM; echo $$ > new{numbers[0]}; mv new{numbers[0]} pid{numbers[0]}; while :; do sleep 0.05; done"
        )
        report(Made(numbers[0], None, run(worker, "sh", "-c", code)))

    def poll(self) -> None: ...


def test_commands_that_ignore_sigterm_have_their_grace_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_GRACE", 0.3)
    joined: list[float] = []
    join = threading.Thread.join

    def noted(thread: threading.Thread, timeout: float | None = None) -> None:
        if timeout is not None:
            joined.append(timeout)
        join(thread, timeout)

    crew = _Crew(4, str(tmp_path), iter([[number] for number in range(9)]), Stubborn(tmp_path))
    results = crew.results()
    until = time.monotonic() + LIMIT
    while len(list(tmp_path.glob("pid*"))) < 4:
        assert time.monotonic() < until
        assert next(results) is None
    monkeypatch.setattr(threading.Thread, "join", noted)
    crew.stop()
    assert len(joined) == 4
    assert joined[1:] == [0.0] * 3  # the first one has used it up
    wait_for(lambda: not any(is_alive(int(path.read_text())) for path in tmp_path.glob("pid*")))


def test_what_a_thread_raises_is_raised(tmp_path: Path) -> None:
    class Failing(Stubborn):
        def run(self, worker: Worker, numbers: Any, report: Callable[[Made], object]) -> None:
            raise MemoryError("no more")

    crew = _Crew(2, str(tmp_path), iter([[1], [2]]), Failing(tmp_path))
    with pytest.raises(MemoryError):
        list(crew.results())
    crew.stop()
