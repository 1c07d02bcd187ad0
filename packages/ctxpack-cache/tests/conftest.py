"""Child processes, and a failpoint before every system call that changes something.

A child is forked, so that it can run a closure, die by a signal and give up root without a script of its own. The
failpoint is an audit hook (PEP 578): the interpreter calls it before each open, mkdir, chmod, rename, unlink, flock …
of our code, so nothing is patched and no step is missed.
"""

from __future__ import annotations

# What our code imports late is imported here: a child that gave up root may be unable to read it, and opening a source
# file would count as a step.
import ctypes  # noqa: F401
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import ctxpack_cache.durability
import ctxpack_cache.staging  # noqa: F401
from ctxpack_cache import Cache

_STEPS = ("open", "os.", "fcntl.", "ctypes.dlopen")


class Outcome(NamedTuple):
    """How a child ended. status: exit status, or minus the signal. output: the result of its function, or its error."""

    status: int
    output: str


class Child:
    """A forked process that runs function and ends."""

    def __init__(self, function: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _run_and_exit(function, writing)
        os.close(writing)
        self._reading = reading
        self._outcome: Outcome | None = None

    def outcome(self) -> Outcome:
        if self._outcome is None:
            with os.fdopen(self._reading, encoding="utf-8") as pipe:
                output = pipe.read()
            _, status = os.waitpid(self.pid, 0)
            self._outcome = Outcome(os.waitstatus_to_exitcode(status), output)
        return self._outcome

    def kill(self, number: int = signal.SIGKILL) -> Outcome:
        if self._outcome is None:
            os.kill(self.pid, number)
        return self.outcome()


def _run_and_exit(function: Callable[[], object], writing: int) -> None:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(writing, str(function()).encode())
        status = 0
    except KeyboardInterrupt:
        status = 130
        os.write(writing, b"KeyboardInterrupt")
    except BaseException as error:
        os.write(writing, "".join(traceback.format_exception_only(error)).encode())
    finally:
        os._exit(status)


def _at_step(number: int, act: Callable[[], object]) -> Callable[[], int]:
    seen = 0

    def hook(event: str, _: object) -> None:
        nonlocal seen
        if event.startswith(_STEPS):
            seen += 1
            if seen == number:
                act()

    sys.addaudithook(hook)
    return lambda: seen


@pytest.fixture
def spawn() -> Iterator[Callable[[Callable[[], object]], Child]]:
    """Start a child; it is killed after the test if it still runs."""
    children: list[Child] = []

    def start(function: Callable[[], object]) -> Child:
        children.append(Child(function))
        return children[-1]

    yield start
    for child in children:
        child.kill()


@pytest.fixture
def run(spawn: Callable[[Callable[[], object]], Child]) -> Callable[[Callable[[], object]], Outcome]:
    """Run a function in a child; return how it ended."""
    return lambda function: spawn(function).outcome()


@pytest.fixture
def at_step() -> Callable[[int, Callable[[], object]], Callable[[], int]]:
    """Call a function before the step of a number; return a counter of steps. Children only: a hook stays for life."""
    return _at_step


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def _fill(folder: str) -> None:
    Path(folder, "artifacts", "deep", "empty").mkdir(parents=True)
    Path(folder, "manifest.json").write_text("{}")
    Path(folder, "artifacts", "deep", "text").write_text("words")
    program = Path(folder, "artifacts", "program")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)


@pytest.fixture
def fill() -> Callable[[str], None]:
    """Write a small pack: three files, one of them a program, and an empty folder."""
    return _fill


@pytest.fixture
def contents() -> Callable[[str], dict[str, str]]:
    """Return the content of a pack: path to text, or to "/" for a folder."""

    def read(folder: str) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): "/" if path.is_dir() else path.read_text()
            for path in sorted(Path(folder).rglob("*"))
        }

    return read


@pytest.fixture
def leftovers() -> Callable[[Path], list[str]]:
    """Return the names in staging and locks of the cache at a root."""

    def names(root: Path) -> list[str]:
        return sorted(path.name for part in ("staging", "locks") for path in (root / "v1" / part).glob("*"))

    return names


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition is true, at most 20 seconds."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "the condition never became true"
            time.sleep(0.002)

    return wait
