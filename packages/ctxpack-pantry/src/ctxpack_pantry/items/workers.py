"""Workers: threads that each run one command after the other, in a program that outlives no map (`runner`)."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

from ctxpack_identity.secrets import child_environment
from ctxpack_pantry.items import runner as program

__all__ = ["LOST", "Refused", "Worker"]

LOST = 128 + signal.SIGKILL  # the status of a command whose runner was killed


class Refused(Exception):
    """A command that cannot be started. The text is the reason."""


class Worker:
    """Runs commands in a folder, one at a time. Close it: that ends the command that runs.

    folder: where commands run. Their standard input is empty, their standard output goes to standard error.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._orders = self._reports = -1
        self._lock = threading.Lock()  # of writing orders
        self._closed = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, command: Sequence[str], environment: Mapping[bytes, bytes], variables: Mapping[str, str]) -> int:
        """Run a command to its end; return its exit status, 128 + n when signal n ended it.

        environment: of the command, with variables added. Raises: Refused when it cannot be started.
        """
        try:
            words = [os.fsencode(word) for word in command]
            more = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
        except ValueError as error:
            raise Refused(str(error)) from error
        with self._lock:
            if self._closed:
                return LOST
            self._begin()
            try:
                program.send(self._orders, (words, {**environment, **more}))
            except BrokenPipeError:
                self._end()
                return LOST
        report = program.receive(self._reports)
        if report is None:
            with self._lock:
                self._end()
            return LOST
        kind, told = report
        if kind == "refused":
            raise Refused(told)
        return 128 - told if told < 0 else int(told)

    def stop(self, *, kill: bool) -> None:
        """Tell the command that runs, if one does, to end, or kill it; start no other one."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                order = program.KILL if kill else program.TERMINATE
                try:
                    os.write(self._orders, order.to_bytes(4, "little"))
                except BrokenPipeError:
                    return

    def close(self) -> None:
        """End the runner, and with it the command that runs."""
        with self._lock:
            self._closed = True
            self._end()

    def _begin(self) -> None:
        """Start the runner unless it runs."""
        if self._process is not None:
            return
        orders, self._orders = _pipe()
        self._reports, reports = _pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", program.__file__, str(orders), str(reports)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                cwd=self._folder or None,
                env=child_environment(),
                pass_fds=(orders, reports),
                process_group=0,  # a SIGKILL to the group of the map must not reach the one that ends the command
            )
        finally:
            os.close(orders)
            os.close(reports)
            if self._process is None:
                self._close_pipes()

    def _end(self) -> None:
        if self._process is None:
            return
        self._close_pipes()
        self._process.wait()
        self._process = None

    def _close_pipes(self) -> None:
        os.close(self._orders)
        os.close(self._reports)


def _pipe() -> tuple[int, int]:
    """Return both ends of a pipe; none is a standard stream, which Popen replaces."""
    ends = os.pipe()
    try:
        reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
        return reader, writer
    finally:
        for end in ends:
            os.close(end)
