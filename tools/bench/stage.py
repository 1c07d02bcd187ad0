"""What every section needs: the programs, the workloads, a registry, and a scratch folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.measure import Command
from bench.programs import Programs
from bench.workloads import Workload, make
from registry2 import RegistryServer
from sandbox import private_environment

__all__ = ["Plan", "Stage", "remove_tree"]

SCRIPTS = Path(__file__).with_name("contenders")


class Plan(NamedTuple):
    """How much to measure. scale: of the workloads; patience: seconds for all runs of one contender in one table.

    only: names of workloads; empty for all. before: an earlier version of the command ctxpack, to measure beside.
    items: of workload M; 0 for as many as the scale says.
    """

    scale: float
    runs: int
    patience: float
    ten_gib: bool = False
    only: tuple[str, ...] = ()
    before: Path | None = None
    items: int = 0


class Stage:
    """scratch: an empty folder. ctxpack: the command. note: called with the current step."""

    def __init__(
        self,
        plan: Plan,
        scratch: Path,
        kept: Path,
        ctxpack: Path,
        programs: Programs,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.plan = plan
        self.scratch = scratch
        self.ctxpack = ctxpack
        self.programs = programs
        self.note = note
        self.kept = kept
        self.environment = private_environment(scratch / "home") | {"PATH": programs.path}

    def workloads(self, names: Collection[str]) -> Iterator[Workload]:
        """Yield the workloads that plan.only selects."""
        return (self.workload(name) for name in names if name in (self.plan.only or names))

    def workload(self, name: str) -> Workload:
        self.note(f"making {name}")
        return make(name, self.kept / "workloads", self.plan.scale)

    def folder(self, name: str) -> Path:
        """Return a new folder, which is removed after the last section. For minutes after many files were deleted, ext4
        creates files much more slowly, and the next contender would pay for that."""
        folder = self.scratch / name.replace(" ", "-")
        folder.mkdir(parents=True)
        return folder

    @contextlib.contextmanager
    def registry(self, name: str) -> Iterator[RegistryServer]:
        """Yield a new, empty registry:2."""
        with RegistryServer(self.folder(f"registry {name}").resolve()) as registry:
            yield registry

    @property
    def versions(self) -> dict[str, Path]:
        """The command to measure, and the earlier one, if it is measured beside it."""
        return {"ctxpack": self.ctxpack} | ({"before": self.plan.before} if self.plan.before else {})

    @property
    def python(self) -> Path:
        """The interpreter that runs CtxPack; the bounds in Python run on the same."""
        return self.ctxpack.with_name("python")

    def command(self, cwd: Path, *argv: str | Path, **variables: str | Path) -> Command:
        return Command(argv, cwd, self.environment | {name: str(value) for name, value in variables.items()})

    def peer(self, name: str, cwd: Path, *argv: str | Path, **variables: str | Path) -> Command:
        """Return a command that calls a peer. Raises: Absent."""
        self.programs.find(name)
        return self.command(cwd, *argv, LD_LIBRARY_PATH=self.programs.libraries, **variables)

    def script(self, name: str) -> Path:
        return SCRIPTS / name

    def cli(self, cwd: Path, cache: Path, *arguments: str | Path, **variables: str | Path) -> Command:
        """Return a ctxpack command that uses cache."""
        return self.command(cwd, self.ctxpack, *arguments, CTXPACK_CACHE=cache, **variables)


def remove_tree(folder: Path) -> None:
    """Remove a folder even if it holds the read-only folders of a pack."""
    for parent, _, _ in os.walk(folder):
        os.chmod(parent, 0o755)
    for parent, folders, files in os.walk(folder, topdown=False):
        for file in files:
            os.unlink(os.path.join(parent, file))
        for inner in folders:
            within = os.path.join(parent, inner)
            os.unlink(within) if os.path.islink(within) else os.rmdir(within)
    os.rmdir(folder)
