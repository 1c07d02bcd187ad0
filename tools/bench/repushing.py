"""Repush: the bytes on the wire after 1 % has changed, and after nothing has changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.clients import Client, CtxPack, clients
from bench.compare import expect_copy
from bench.measure import Command, NotDone, execute
from bench.programs import Absent
from bench.results import Table, WireRow
from bench.stage import Stage
from bench.wire import Meter, requests_in
from bench.workloads import Workload
from registry2 import RegistryServer

__all__ = ["repushing"]

LOG_SECONDS = 0.2  # the registry may log a request a moment after its answer

# Bytes on the wire hardly vary, so every step is done once. Each of these peers stands for others like it.
PEERS = ("one pass: tar, igzip -1", "skopeo, tar | igzip -1", "oras-py", "oras")


def repushing(stage: Stage) -> Iterator[Table]:
    base = stage.workload("W3out")
    for changed in stage.workloads(("W4c", "W4s")):
        name = changed.name
        table = Table(section="repush", workload=name, files=changed.files, size=changed.size)
        own = CtxPack(stage, stage.folder(f"repush ctxpack {name}"), remember=True)
        ways = [own, *(client for client in clients(stage, own) if client.name in PEERS)]
        with stage.registry(f"repush {name}") as registry, Meter(registry.address) as meter:
            for client in ways:
                stage.note(f"{table.title}: {client.name}")
                steps = _Steps(stage, client, registry, meter, name)
                try:
                    for program in client.needs:
                        stage.programs.find(program)
                    table.wire.extend(steps.rows(base, changed))
                except (Absent, NotDone) as reason:
                    table.absent[client.name] = str(reason)
        yield table


class _Steps:
    """All steps of one client. It uses the address of the meter in every step, as it may remember a registry by it."""

    def __init__(self, stage: Stage, client: Client, registry: RegistryServer, meter: Meter, name: str) -> None:
        self._folder = stage.folder(f"repush {name} {client.name}".replace("|", ""))
        self._client = client
        self._log = registry.folder / "registry.log"
        self._meter = meter
        plain = "".join(c if c.isalnum() else "" for c in client.name.lower())
        self._where = f"{meter.address}/{plain}"

    def rows(self, base: Workload, changed: Workload) -> Iterator[WireRow]:
        for workload in (base, changed):
            self._client.prepare(workload)
        # A client with one tag for all overwrites the tag; the bytes are the same.
        yield self._push("push, first version", base)
        yield self._pull("pull, first version", base)
        yield self._push("push, 1 % changed", changed)
        yield self._pull("pull, 1 % changed", changed)
        yield self._push("push, unchanged", changed)

    def _push(self, step: str, workload: Workload) -> WireRow:
        run = self._new_run(step)
        return self._measured(step, self._client.push(workload, self._where, run), run)[0]

    def _pull(self, step: str, workload: Workload) -> WireRow:
        run = self._new_run(step)
        row, stdout = self._measured(step, self._client.pull(workload, self._where, run), run)
        expect_copy(workload, self._client.pulled(run, stdout), closely=True)
        return row

    def _measured(self, step: str, command: Command, run: Path) -> tuple[WireRow, str]:
        self._meter.take()
        before = requests_in(self._log)
        sample, stdout = execute(command, run)
        time.sleep(LOG_SECONDS)
        traffic = self._meter.take()
        row = WireRow(
            contender=self._client.name,
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
