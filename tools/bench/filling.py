"""Fill: the time that a registry takes for the same bytes in many or few blobs. No push of chunks can be faster."""

from __future__ import annotations

from collections.abc import Iterator

from bench.compare import compare, expect
from bench.measure import Contender, Run
from bench.results import Table
from bench.stage import Stage
from bench.workloads import Workload
from registry2 import RegistryServer

__all__ = ["filling"]

TOTAL = 320 << 20  # bytes
SIZES = (1, 2, 4, 8)  # MiB a blob
THREADS = 6  # as many as CtxPack begins with


def filling(stage: Stage) -> Iterator[Table]:
    total = max(8 << 20, round(TOTAL * stage.plan.scale) >> 23 << 23)
    with stage.registry("filling") as registry:
        contenders = [_blobs(stage, registry, total, size) for size in SIZES]
        yield compare(stage, "fill", Workload("registry", registry.storage, 0, total), contenders)


def _blobs(stage: Stage, registry: RegistryServer, total: int, size: int) -> Contender:
    count = (total >> 20) // size

    def check(run: Run) -> None:
        expect(run.stdout.strip() == str(count), count, run.stdout.strip()[:200])

    script, repository = stage.script("put_blobs.py"), f"of-{size}"
    return Contender(
        f"blobs of {size} MiB",
        lambda run: stage.command(
            run.folder, stage.python, script, registry.address, repository, str(count), str(size << 20), str(THREADS)
        ),
        check=check,
    )
