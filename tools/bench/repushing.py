"""The second version: what passes over the wire after 1 % has changed, and when nothing has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.carriers import Carrier, CtxPack, carriers
from bench.compare import expect_copy
from bench.measure import Command, NotDone, execute
from bench.programs import Absent
from bench.results import Table, WireRow
from bench.stage import Stage
from bench.wire import Meter, requests_in
from bench.workloads import Workload
from registry2 import RegistryServer

__all__ = ["repushing"]

LOG_SECONDS = 0.2  # the registry may log a request a moment after it was answered

# Bytes on the wire hardly vary, so every step is done once; these peers stand for their like.
PEERS = ("one pass: tar, igzip -1", "skopeo, tar | igzip -1", "oras-py", "oras")


def repushing(stage: Stage) -> Iterator[Table]:
    base = stage.workload("W3out")
    for changed in stage.workloads(("W4c", "W4s")):
        name = changed.name
        table = Table(section="repush", workload=name, files=changed.files, size=changed.size)
        own = CtxPack(stage, stage.folder(f"repush ctxpack {name}"), remember=True)
        ways = [own, *(carrier for carrier in carriers(stage, own) if carrier.name in PEERS)]
        with stage.registry(f"repush {name}") as registry, Meter(registry.address) as meter:
            for carrier in ways:
                stage.note(f"{table.title}: {carrier.name}")
                tour = _Tour(stage, carrier, registry, meter, name)
                try:
                    for program in carrier.needs:
                        stage.programs.find(program)
                    table.wire.extend(tour.steps(base, changed))
                except (Absent, NotDone) as reason:
                    table.absent[carrier.name] = str(reason)
        yield table


class _Tour:
    """One carrier through all steps, everything through the meter: it may remember a registry by its address."""

    def __init__(self, stage: Stage, carrier: Carrier, registry: RegistryServer, meter: Meter, name: str) -> None:
        self._folder = stage.folder(f"repush {name} {carrier.name}".replace("|", ""))
        self._carrier = carrier
        self._log = registry.folder / "registry.log"
        self._meter = meter
        plain = "".join(c if c.isalnum() else "" for c in carrier.name.lower())
        self._where = f"{meter.address}/{plain}"

    def steps(self, base: Workload, changed: Workload) -> Iterator[WireRow]:
        for workload in (base, changed):
            self._carrier.prepare(workload)
        # A client with tags of its own choice overwrites one; the bytes are what counts.
        yield self._push("push, first version", base)
        yield self._pull("pull, first version", base)
        yield self._push("push, 1 % changed", changed)
        yield self._pull("pull, 1 % changed", changed)
        yield self._push("push, unchanged", changed)

    def _push(self, step: str, workload: Workload) -> WireRow:
        run = self._new_run(step)
        return self._measured(step, self._carrier.push(workload, self._where, run), run)[0]

    def _pull(self, step: str, workload: Workload) -> WireRow:
        run = self._new_run(step)
        row, stdout = self._measured(step, self._carrier.pull(workload, self._where, run), run)
        expect_copy(workload, self._carrier.pulled(run, stdout), closely=True)
        return row

    def _measured(self, step: str, command: Command, run: Path) -> tuple[WireRow, str]:
        self._meter.take()
        before = requests_in(self._log)
        sample, stdout = execute(command, run)
        time.sleep(LOG_SECONDS)
        traffic = self._meter.take()
        row = WireRow(
            contender=self._carrier.name,
            step=step,
            up=traffic.up,
            down=traffic.down,
            requests=requests_in(self._log) - before,
            seconds=sample.seconds,
        )
        return row, stdout

    def _new_run(self, step: str) -> Path:
        run = self._folder / "".join(c if c.isalnum() else "-" for c in step)
        run.mkdir()
        return run
