"""Commands of ctxpack as forks of one process that has loaded it: they begin at once, and cost little.

For tests of races, and for tests of many commands. What a command does is what the installed ``ctxpack`` does, but for
the start of Python, which takes most of the time of a small command.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from machine import Finished, Machine

__all__ = ["Call", "ForkedMachine", "Forks", "Running"]

_PACKAGES = (
    "ctxpack_identity",
    "ctxpack_bundle",
    "ctxpack_cache",
    "ctxpack_oci",
    "ctxpack_trust",
    "ctxpack_pantry",
    "ctxpack_cli",
)


class Call(NamedTuple):
    """A command. arguments: without ``ctxpack``; folder: to work in; environment: all of it."""

    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]


class Running:
    """A command that runs, in a process group of its own."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self.pid = pid
        self._forks = forks

    def finish(self) -> Finished:
        """Wait for the end. Raises: AssertionError if stderr has a traceback."""
        self._forks.wait(self.pid)
        done = Finished(*self._forks.ask(self.pid))
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def end_with(self, number: signal.Signals) -> Finished:
        """Send a signal to the group, and wait for the end."""
        os.killpg(self.pid, number)
        return self.finish()


class Forks:
    """The process, inside ``with``."""

    def __enter__(self) -> Forks:
        # A process of its own: this one has threads, and a fork of it could wait for a lock for ever.
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        assert self._process.returncode == 0 or kind is not None

    def start(self, *calls: Call) -> list[Running]:
        """Start calls, which begin at the same time."""
        return [Running(self, pid) for pid in self.ask(calls)]

    def together(self, *calls: Call) -> list[Finished]:
        """Run calls at the same time, each to its end. Raises: AssertionError if stderr of one has a traceback."""
        return [running.finish() for running in self.start(*calls)]

    def wait(self, pid: int) -> None:
        """Wait for the end of a call. The process does not, so that it can start others for other threads."""
        ended = os.pidfd_open(pid)
        try:
            select.select([ended], [], [])
        finally:
            os.close(ended)

    def ask(self, question: object) -> Any:
        """Return the answer of the process: to a list of calls their process numbers; to such a number, its end."""
        with self._lock:
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


class ForkedMachine(Machine):
    """A machine whose commands are forks, but those of `start` and those with a prefix."""

    def __init__(self, forks: Forks, folder: Path, registry: str = "", environment: Mapping[str, str] = {}) -> None:
        super().__init__(folder, registry, environment)
        self.forks = forks

    def call(self, *arguments: str | Path, registry: str = "", folder: Path | None = None) -> Call:
        """Return what `Forks` runs. registry, folder: see `Machine.start`."""
        environment = self.environment | ({"CTXPACK_REGISTRY": registry} if registry else {})
        return Call([os.fspath(one) for one in arguments], os.fspath(folder or self.work), environment)

    def begin(self, *arguments: str | Path, registry: str = "") -> Running:
        """Start ``ctxpack``. registry: see `Machine.start`."""
        return self.forks.start(self.call(*arguments, registry=registry))[0]

    def run(
        self, *arguments: str | Path, registry: str = "", prefix: Sequence[str] = (), folder: Path | None = None
    ) -> Finished:
        if prefix:
            return super().run(*arguments, registry=registry, prefix=prefix, folder=folder)
        return self.forks.together(self.call(*arguments, registry=registry, folder=folder))[0]


class _Child(NamedTuple):
    """begun: seconds of the monotonic clock. place: path without the suffixes of what the command writes."""

    begun: float
    place: str


def _serve() -> None:
    """Answer questions, one a line: see Forks.ask."""
    for name in _PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    faulthandler.enable()  # a child that crashes says where
    numbers, children = count(), dict[int, _Child]()
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            question = json.loads(line)
            if isinstance(question, int):
                answer: object = _end_of(question, children.pop(question))
            else:
                begun = time.monotonic()
                started = {}
                for call in question:
                    child = _Child(begun, os.path.join(folder, str(next(numbers))))
                    started[_fork(Call(*call), child, begun + 0.01 * (len(question) - 1))] = child
                children |= started
                answer = list(started)
            print(json.dumps(answer), flush=True)


def _end_of(pid: int, child: _Child) -> tuple[int, str, str, float]:
    """Wait for the end of a child; return what Finished has."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    stdout, stderr = (Path(child.place + suffix).read_text("utf-8") for suffix in (".out", ".err"))
    return status, stdout, stderr, time.monotonic() - child.begun


def _fork(call: Call, child: _Child, begin: float) -> int:
    """Start a call, which begins at that time of the monotonic clock; return its process number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.chdir(call.folder)
        os.environ.clear()
        os.environ.update(call.environment)
        for number, path in enumerate((os.devnull, f"{child.place}.out", f"{child.place}.err")):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        from ctxpack_cli.main import main

        time.sleep(max(0.0, begin - time.monotonic()))
        main(call.arguments)
    finally:
        os._exit(99)  # main never returns


if __name__ == "__main__":
    _serve()
