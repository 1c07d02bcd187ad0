"""Kills ``ctxpack`` before one of its steps: the n-th call by which it changes something on disk, or starts a process.

The command runs in a fork of this process, with all modules loaded, since a kill at every step takes hundreds of runs.
The failpoint is an audit hook (PEP 578), so nothing is patched. What another process does, such as the command of
``ctxpack run``, is not counted.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pkgutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from machine import Machine

__all__ = ["Killed", "run_forked"]

_CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.chmod", "subprocess.Popen")
_SHOWN = ("os.rename", "subprocess.Popen")
_WRITING = os.O_WRONLY | os.O_RDWR
_PACKAGES = (
    "ctxpack_identity",
    "ctxpack_bundle",
    "ctxpack_cache",
    "ctxpack_oci",
    "ctxpack_trust",
    "ctxpack_pantry",
    "ctxpack_cli",
)


class Killed(NamedTuple):
    """How a run ended. status: exit status, or minus the signal; stderr: what it said until then."""

    status: int
    stdout: str
    stderr: str


def run_forked(
    machine: Machine, *arguments: str, folder: Path, step: int = 0, environment: Mapping[str, str] = {}
) -> Killed:
    """Run ``ctxpack`` to its end, or kill it before a step; the first is 1, and 0 is none.

    environment: besides the machine's. RUNNER is the process id of ``ctxpack``.
    """
    _load()
    said = [machine.home / f"forked.{name}" for name in ("out", "err")]
    pid = os.fork()
    if pid == 0:
        try:
            _be_ctxpack(machine.environment | dict(environment), folder, said, arguments, step)
        finally:
            os._exit(99)
    _, status = os.waitpid(pid, 0)
    stdout, stderr = (path.read_text(encoding="utf-8") for path in said)
    assert "Traceback" not in stderr, stderr
    return Killed(os.waitstatus_to_exitcode(status), stdout, stderr)


def _load() -> None:
    """Load all modules of ctxpack: loading them in each fork would take most of its time."""
    for package in map(importlib.import_module, _PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".urls" not in module.name and module.name not in sys.modules:
                importlib.import_module(module.name)


def _be_ctxpack(
    environment: Mapping[str, str], folder: Path, said: list[Path], arguments: tuple[str, ...], step: int
) -> None:
    from ctxpack_cli.main import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment, RUNNER=str(os.getpid()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    if step:
        _kill_at(step, os.path.join(folder.resolve(), ""))
    main(arguments)


def _kill_at(step: int, folder: str) -> None:
    """Kill this process before a step. Elsewhere than in folder, only renames show; other changes in a row are one."""
    steps = itertools.count(1)
    was_unseen = False

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal was_unseen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if not writes and event not in _CHANGES:
            return
        path = arguments[0] if isinstance(arguments[0], str) else ""
        is_unseen = event not in _SHOWN and not path.startswith(folder)
        if not (is_unseen and was_unseen) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        was_unseen = is_unseen

    sys.addaudithook(hook)
