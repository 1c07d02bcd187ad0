"""Agents of the demos: each has a home, a cache and a working folder of its own, and all of them one registry."""

from __future__ import annotations

import filecmp
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sandbox import private_environment

__all__ = ["Agent", "Ran", "Stage", "check", "ctxpack_commands", "demo_commands", "files_below", "same_files"]


class Ran(NamedTuple):
    """What a command wrote, and how long it took in seconds."""

    stdout: str
    stderr: str
    seconds: float


class Agent(NamedTuple):
    """An agent with a working folder and a home of its own."""

    name: str
    folder: Path
    environment: dict[str, str]

    def runs(self, *command: str, status: int = 0) -> Ran:
        """Show command, run it, show what it wrote and its time. Raises: SystemExit on another exit status."""
        print(f"\n{self.name} $ {shlex.join(command)}", flush=True)
        program = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        begun = time.perf_counter()
        done = subprocess.run(
            [program, *command[1:]], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        seconds = time.perf_counter() - begun
        print("".join(f"    {line}\n" for line in (done.stdout + done.stderr).splitlines()), end="")
        print(f"    ({seconds:.2f} s{f', exit status {done.returncode}' if done.returncode else ''})", flush=True)
        check(done.returncode == status, f"exit status {status}", f"{done.returncode}")
        return Ran(done.stdout.strip(), done.stderr, seconds)


class Stage(NamedTuple):
    """A folder for the agents of one demo, and the folder of the commands that come first on their PATH."""

    folder: Path
    commands: Path

    def clear(self) -> None:
        """Remove the files of the last run. The folders of cached packs are read-only, so make them writable first."""
        for folder, _, _ in os.walk(self.folder):
            os.chmod(folder, 0o755)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def agent(self, name: str, brings: Iterable[Path]) -> Agent:
        """Return an agent with an empty home and cache, and a working folder with the files in brings."""
        folder = self.folder / name / "work"
        folder.mkdir(parents=True)
        for file in brings:
            shutil.copy(file, folder)
        environment = private_environment(self.folder / name / "home")
        environment["PATH"] = os.pathsep.join((str(self.commands), environment["PATH"]))
        environment["XDG_DATA_HOME"] = str(self.folder / "data")  # where the registry is, unless one is configured
        return Agent(name, folder, environment)


def check(holds: bool, expected: str, got: str) -> None:
    """Raises: SystemExit unless holds."""
    if not holds:
        raise SystemExit(f"\nThe demo stops: expected {expected}, got {got}")


def files_below(folder: Path) -> set[str]:
    """Return the paths of the files in a folder, at any depth, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def same_files(left: Path, right: Path) -> bool:
    """Return whether two folders hold the same names and bytes."""
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (left, right)]
    files = [str(name) for name in names[0] if (left / name).is_file()]
    return names[0] == names[1] and filecmp.cmpfiles(left, right, files, shallow=False)[0] == files


def demo_commands() -> Path:
    """Return the folder of the commands of the demo's environment, which is made unless it is there."""
    script = Path(__file__).resolve().parent / "demo" / "environment.py"
    made = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        raise SystemExit(made.returncode)
    return Path(made.stdout.strip())


def ctxpack_commands() -> Path:
    """Return the folder of the ctxpack on PATH, or else that of the demo's environment."""
    found = shutil.which("ctxpack")
    return Path(found).parent if found else demo_commands()
