"""Place: a cached pack is handed out, as a copy and as the folder of the cache, and checked on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.compare import compare, expect, expect_copy, tidy_few, write_contract
from bench.measure import Command, Contender, Run, execute
from bench.results import Table
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["placing"]

WORKLOADS = ("W2", "W3out")


def placing(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(WORKLOADS):
        seeded = {name: _Seeded(stage, name, program, workload) for name, program in stage.versions.items()}
        copies = [one.copied() for one in seeded.values()]
        yield compare(stage, "place", workload, [*copies, _cp(stage, workload)])
        shown = [one.shown() for one in seeded.values()]
        yield compare(stage, "show", workload, [*shown, _walk(stage, workload)], 2 * stage.plan.runs + 1)


class _Seeded:
    """A version of ctxpack, and a cache of its own that has the pack of a workload."""

    def __init__(self, stage: Stage, name: str, program: Path, workload: Workload) -> None:
        self._stage, self._name, self._program, self._workload = stage, name, program, workload
        self._place = stage.folder(f"place {name} {workload.name}")
        contract = write_contract(self._place, workload.name)
        execute(self._command("seed", "--quiet", f"outputs={workload.folder}", "--contract", contract), self._place)
        _, self._uri = execute(self._command("id", "--quiet", contract), self._place)

    def copied(self) -> Contender:
        def command(run: Run) -> Command:
            return self._command("pull", "--quiet", self._uri.strip(), "--output", run.folder / "copy")

        def check(run: Run) -> None:
            expect_copy(self._workload, run.folder / "copy", closely=run.first)

        return Contender(self._name, command, check=check, tidy=tidy_few(self._workload))

    def shown(self) -> Contender:
        command = self._command("pull", "--quiet", self._uri.strip())
        return Contender(
            self._name,
            lambda run: command,
            check=lambda run: expect(run.stdout.strip().endswith("/artifacts"), "a folder", run.stdout[:200]),
        )

    def _command(self, *arguments: str | Path) -> Command:
        return self._stage.command(self._place, self._program, *arguments, CTXPACK_CACHE=self._place / "cache")


def _cp(stage: Stage, workload: Workload) -> Contender:
    return Contender(
        "cp -r",
        lambda run: stage.command(run.folder, "cp", "-r", workload.folder, run.folder / "copy"),
        check=lambda run: expect_copy(workload, run.folder / "copy", closely=run.first),
        tidy=tidy_few(workload),
    )


def _walk(stage: Stage, workload: Workload) -> Contender:
    """A walk that does nothing but stat(2), in Python."""
    return Contender(
        "one bare walk",
        lambda run: stage.command(stage.scratch, stage.python, "-I", "-S", stage.script("walk.py"), workload.folder),
        check=lambda run: expect(run.stdout.strip() == str(workload.files), workload.files, run.stdout[:200]),
    )
