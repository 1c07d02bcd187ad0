"""A command that is watched from inside: it notes its steps, and a signal stops or ends it at one of them.

A step is an audit event of Python (open, rename, mkdir, scandir …) and the first path that it names.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from machine import Machine, Started

__all__ = ["Watch"]

# Every Python process imports this module before anything else, if its folder is first on PYTHONPATH.
_MODULE = """
import os, sys

def _watch(environment):
    part, left, number = environment["WATCH_PART"], int(environment["WATCH_AT"]), int(environment["WATCH_SIGNAL"])
    log = os.open(environment["WATCH_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    process = os.getpid()

    def hook(event, arguments):
        nonlocal left
        if not arguments or not isinstance(arguments[0], (str, bytes)) or os.getpid() != process:
            return
        if event != "open" and not event.startswith(("os.", "shutil.")):
            return
        step = f"{event} {os.fsdecode(arguments[0])}"
        if part not in step:
            return
        os.write(log, os.fsencode(step) + b"\\n")
        left -= 1
        if left == 0:
            os.kill(process, number)

    sys.addaudithook(hook)

if "WATCH_LOG" in os.environ:
    _watch(os.environ)
"""


class Watch:
    """Watches commands of a machine. folder: made for it."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._machine, self._log = machine, folder / "steps"
        self._folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_MODULE, encoding="utf-8")

    def steps(self) -> list[str]:
        """Return the steps of the last command, without the folder of the machine."""
        text = self._log.read_text(encoding="utf-8", errors="surrogateescape") if self._log.exists() else ""
        return [line.replace(f"{self._machine.work.parent}/", "") for line in text.splitlines()]

    def start(
        self, *arguments: str | Path, part: str = "", at: int = 0, number: signal.Signals = signal.SIGSTOP
    ) -> Started:
        """Start ``ctxpack``, which gets the signal before the step with this number, from 1 on; 0 for none.

        part: only steps that contain it count, and are noted.
        """
        self._log.unlink(missing_ok=True)
        before = dict(self._machine.environment)
        self._machine.environment |= {
            "PYTHONPATH": os.fspath(self._folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WATCH_LOG": os.fspath(self._log),
            "WATCH_PART": part,
            "WATCH_AT": str(at),
            "WATCH_SIGNAL": str(int(number)),
        }
        try:
            return self._machine.start(*arguments)
        finally:
            self._machine.environment = before

    def stopped(self, *arguments: str | Path, part: str = "", at: int = 1) -> tuple[Started, bool]:
        """Start ``ctxpack`` and wait until it stopped at a step; the second value says if it came there."""
        started = self.start(*arguments, part=part, at=at)
        # Left waitable: whoever started the process asks for its end.
        found = os.waitid(os.P_PID, started.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        return started, found.si_code == os.CLD_STOPPED
