"""Growth: time and memory by number of files and of bytes."""

from __future__ import annotations

from collections.abc import Iterator

from bench.clients import CtxPack
from bench.compare import compare, expect_copy, tidy_few, write_contract
from bench.measure import Command, Contender, Run
from bench.repository import expect_pushed
from bench.results import Table
from bench.stage import Stage, remove_tree
from bench.workloads import Workload, make_files
from registry2 import RegistryServer

__all__ = ["growing"]

FILES = (1_000, 10_000, 100_000)
FILE_SIZE = 4096  # bytes
SIZES = (0.1, 1.0, 10.0)  # GiB, in one file
GIB = 1 << 30
RUNS = 3  # at most: the slope counts, and there are many steps


def growing(stage: Stage) -> Iterator[Table]:
    """Yield a table for each amount, whose contenders are the steps of CtxPack."""
    for workload in _workloads(stage):
        with stage.registry(f"growth {workload.name}") as registry:
            yield compare(stage, "growth", workload, _steps(stage, workload, registry), min(stage.plan.runs, RUNS))
        remove_tree(registry.storage)


def _workloads(stage: Stage) -> Iterator[Workload]:
    root = stage.kept / "workloads" / "growth"
    for files in FILES:
        count = max(10, round(files * stage.plan.scale))
        yield make_files(root / f"{count} files", count, FILE_SIZE)
    for gib in SIZES:
        if gib < 10 or stage.plan.ten_gib:
            size = round(gib * GIB * stage.plan.scale)
            yield make_files(root / f"{size >> 20} MiB", 1, size)


def _steps(stage: Stage, workload: Workload, registry: RegistryServer) -> list[Contender]:
    place = stage.folder(f"growth ctxpack {workload.name}")
    contract = write_contract(place, workload.name, workload.folder)
    ctxpack = CtxPack(stage, place / "packs")

    def push(run: Run) -> Command:
        return ctxpack.push(workload, f"{registry.address}/growth-{run.number}", run.folder)

    def pull(run: Run) -> Command:
        return ctxpack.pull(workload, f"{registry.address}/growth-0", run.folder)

    def seed(run: Run) -> Command:
        return stage.cli(
            run.folder, run.folder / "cache", "seed", f"outputs={workload.folder}", "--contract", contract, "--quiet"
        )

    return [
        Contender("id", lambda run: stage.cli(run.folder, run.folder / "cache", "id", contract)),
        Contender("seed", seed, tidy=tidy_few(workload)),
        Contender(
            "push",
            push,
            prepare=lambda: ctxpack.prepare(workload),
            check=lambda run: expect_pushed(registry, f"growth-{run.number}", workload, closely=False),
        ),
        Contender(
            "pull",
            pull,
            check=lambda run: expect_copy(workload, ctxpack.pulled(run.folder, run.stdout), closely=False),
            tidy=tidy_few(workload),
        ),
    ]
