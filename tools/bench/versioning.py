"""Versions: what 20 versions of workload D cost, and what it costs to pull the last, whose layers lie in many packs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.clients import CtxPack
from bench.compare import compare, expect_copy
from bench.items import Items
from bench.measure import Contender
from bench.metering import metered
from bench.results import Table
from bench.stage import Stage
from bench.workloads import Workload, measure_folder

__all__ = ["versioning"]

VERSIONS = 20


def versioning(stage: Stage, versions: int = VERSIONS) -> Iterator[Table]:
    """Yield one table: each push, then both pulls, first their bytes and then their time.

    One client, which keeps its cache, pushes all versions. Both pulls have an empty cache.
    """
    for first in stage.workloads(("D",)):
        keep = stage.folder(f"versions ctxpack {first.name}")
        own = CtxPack(stage, keep)
        with metered(stage, f"versions {first.name}") as meter:
            own.prepare(first)
            wire = [meter.push("push, first version", own, first, "versions")]
            amounts = {"registry, first version": _blob_bytes(meter.registry.storage)}
            for last in _changed(stage, first, keep / "changed" / "outputs", versions):
                own.prepare(last)
                wire.append(meter.push(f"push, {last.name}", own, last, "versions"))
            amounts["registry, last version"] = _blob_bytes(meter.registry.storage)
            meter.push("push, fresh pack", own, last, "fresh")
            wire.append(meter.pull("pull, fresh pack", own, last, "fresh"))
            wire.append(meter.pull("pull, last version", own, last, "versions"))
            where = meter.registry.address
            pulls = [
                _puller("ctxpack, fresh pack", own, last, f"{where}/fresh"),
                _puller("ctxpack, last version", own, last, f"{where}/versions"),
            ]
            timed = compare(stage, "versions", first, pulls)
        timed.wire.extend(wire)
        timed.amounts.update(amounts)
        yield timed


def _changed(stage: Stage, first: Workload, folder: Path, versions: int) -> Iterator[Workload]:
    """Yield each version after the first. All are in one folder, one after the other."""
    items = Items(stage.plan.scale)
    shutil.copytree(first.folder, folder, copy_function=os.link)
    for version in range(1, versions + 1):
        items.change(folder, version)
        yield measure_folder(f"version {version}", folder)


def _puller(name: str, client: CtxPack, workload: Workload, where: str) -> Contender:
    return Contender(
        name,
        lambda run: client.pull(workload, where, run.folder),
        check=lambda run: expect_copy(workload, client.pulled(run.folder, run.stdout), closely=run.first),
    )


def _blob_bytes(storage: Path) -> int:
    """Return the bytes of all blobs of a registry."""
    return measure_folder("blobs", storage / "docker" / "registry" / "v2" / "blobs").size
