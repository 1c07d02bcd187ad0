"""Cut: what a push sends again after it was killed halfway."""

from __future__ import annotations

from collections.abc import Iterator

from bench.clients import CtxPack
from bench.metering import metered
from bench.results import Table
from bench.stage import Stage

__all__ = ["cutting"]


def cutting(stage: Stage) -> Iterator[Table]:
    """Yield one table: a push that ends, for comparison, one that is killed at half of its bytes, and the next."""
    for workload in stage.workloads(("W1",)):
        own = CtxPack(stage, stage.folder("cut ctxpack"))
        own.prepare(workload)
        table = Table(section="cut", workload=workload.name, files=workload.files, size=workload.size)
        with metered(stage, "cut whole") as meter:
            whole = meter.push("push, whole", own, workload, "packs")
        with metered(stage, "cut") as meter:
            killed = meter.cut_push("push, killed at half", own, workload, "packs", whole.up // 2)
            again = meter.push("push, again", own, workload, "packs")
        table.wire.extend((whole, killed, again))
        yield table
