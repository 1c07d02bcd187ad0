"""Somebody at a terminal: ``ctxpack`` asks there, and this types."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time

from machine import PROGRAM, Machine

__all__ = ["Typist"]

PATIENCE = 60.0  # seconds; a prompt comes within one


class Typist:
    """``ctxpack`` with a terminal of its own, at which a test types. Its stdin is empty.

    background: in a group of its own, which the terminal does not listen to. watched: its stderr is the terminal.
    """

    def __init__(self, machine: Machine, *arguments: str, background: bool = False, watched: bool = False) -> None:
        self._terminal, slave = os.openpty()
        # A process in the background: its group is not that of the session's leader.
        script = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
        leader = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))"
        command = [str(PROGRAM), *arguments]
        if background:
            command = [sys.executable, "-c", leader, sys.executable, "-c", script, *command]
        self.process = subprocess.Popen(
            command,
            cwd=machine.work,
            env=machine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave if watched else subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
        )
        self._slave = slave
        self.shown = b""

    def expect(self, prompt: bytes) -> None:
        """Wait until the terminal shows a prompt that was not there before."""
        begin, until = len(self.shown), time.monotonic() + PATIENCE
        while prompt not in self.shown[begin:]:
            assert select.select([self._terminal], [], [], max(0.0, until - time.monotonic()))[0], self.shown
            self.shown += os.read(self._terminal, 4096)

    def type(self, text: str | bytes) -> None:
        os.write(self._terminal, os.fsencode(text))

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def finish(self) -> tuple[int, bytes, bytes]:
        """Return the exit status, stdout, and stderr unless the terminal is that."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        while select.select([self._terminal], [], [], 0)[0]:
            self.shown += os.read(self._terminal, 4096)
        return self.process.returncode, stdout, stderr or b""

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
        os.close(self._terminal)
        os.close(self._slave)
