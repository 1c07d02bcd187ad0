"""One user's account on one machine: a home, a cache, a folder to work in, and the installed ``ctxpack``.

Two machines share only the registry, as two agents do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox import private_environment

__all__ = ["Finished", "Machine", "Started", "without_first_contact"]

PROGRAM = Path(sysconfig.get_path("scripts")) / "ctxpack"
LIMIT = 120  # seconds; on an idle machine every command takes less than a tenth of it


class Finished(NamedTuple):
    """How a command ended, what it wrote, and how many seconds passed."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def without_first_contact(stderr: str) -> str:
    """Return what a command wrote, but for the line that each registry's first pack brings."""
    return "".join(
        line for line in stderr.splitlines(keepends=True) if not line.startswith("ctxpack: first pack from ")
    )


class Started:
    """A running command, in a process group of its own, as a shell starts it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process
        self._begun = time.monotonic()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end_with(self, number: signal.Signals) -> Finished:
        """Send a signal to the group, as the terminal does at Ctrl-C. The seconds count from the signal."""
        self._begun = time.monotonic()
        os.killpg(self.pid, number)
        return self.finish()

    def finish(self) -> Finished:
        """Wait for the end. Raises: AssertionError if stderr has a traceback."""
        try:
            stdout, stderr = self._process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            stdout, stderr = self._process.communicate()
            raise AssertionError(f"did not end in {LIMIT} seconds: {stderr}") from None
        assert "Traceback" not in stderr, stderr
        return Finished(self._process.returncode, stdout, stderr, time.monotonic() - self._begun)


class Machine:
    """folder: made for it, holds all of it. registry: the location of the target, "" for the default one."""

    def __init__(self, folder: Path, registry: str = "", environment: Mapping[str, str] = {}) -> None:
        self.cache = folder / "cache"
        self.home = folder / "home"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.environment = private_environment(self.home) | {"CTXPACK_CACHE": str(self.cache)} | dict(environment)
        if registry:
            self.environment["CTXPACK_REGISTRY"] = registry

    def succeed(self, *arguments: str | Path, registry: str = "", folder: Path | None = None) -> str:
        """Run ``ctxpack``; return its stdout without the final line feed. Raises: AssertionError if it fails."""
        done = self.run(*arguments, registry=registry, folder=folder)
        assert done.status == 0, done.stderr
        return done.stdout.removesuffix("\n")

    def run(
        self, *arguments: str | Path, registry: str = "", prefix: Sequence[str] = (), folder: Path | None = None
    ) -> Finished:
        """Run ``ctxpack`` to its end. registry, prefix, folder: see start."""
        return self.start(*arguments, registry=registry, prefix=prefix, folder=folder).finish()

    def start(
        self, *arguments: str | Path, registry: str = "", prefix: Sequence[str] = (), folder: Path | None = None
    ) -> Started:
        """Start ``ctxpack``.

        registry: only for this command; prefix: a command that starts it; folder: to work in, by default the work
        folder.
        """
        environment = self.environment | ({"CTXPACK_REGISTRY": registry} if registry else {})
        process = subprocess.Popen(
            [*prefix, PROGRAM, *arguments],
            cwd=folder or self.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        return Started(process)
