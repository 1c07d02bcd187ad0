"""Metering: steps of clients against a new registry, with the bytes, requests and blobs of each.

Bytes on the wire hardly vary, so every step is done once. The seconds are not those of a comparison: a meter is between
the client and the registry, and the memory is watched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.clients import Client
from bench.compare import expect, expect_copy
from bench.measure import Command, execute
from bench.results import WireRow
from bench.stage import Stage
from bench.wire import UP, Meter, blobs_in, requests_in
from bench.workloads import Workload
from registry2 import RegistryServer

__all__ = ["Metered", "metered"]

LOG_SECONDS = 0.2  # the registry may log a request a moment after its answer


@contextlib.contextmanager
def metered(stage: Stage, title: str) -> Iterator[Metered]:
    """Start a new registry. title: of the steps, new."""
    with stage.registry(title) as registry, Meter(registry.address) as meter:
        yield Metered(stage, title, registry, meter)


class Metered:
    """All steps use the address of the meter, as a client may remember a registry by it."""

    def __init__(self, stage: Stage, title: str, registry: RegistryServer, meter: Meter) -> None:
        self.registry = registry
        self._note, self._title = stage.note, title
        self._folder = stage.folder(f"{title} steps")
        self._log = registry.folder / "registry.log"
        self._meter = meter
        self._steps = 0

    def push(self, step: str, client: Client, workload: Workload, repository: str) -> WireRow:
        run = self._new_run(step)
        return self._measured(
            step, client.name, client.push(workload, f"{self._meter.address}/{repository}", run), run
        )[0]

    def pull(self, step: str, client: Client, workload: Workload, repository: str) -> WireRow:
        """Pull, and check what was pulled."""
        run = self._new_run(step)
        command = client.pull(workload, f"{self._meter.address}/{repository}", run)
        row, stdout = self._measured(step, client.name, command, run)
        expect_copy(workload, client.pulled(run, stdout), closely=True)
        return row

    def measure(self, step: str, name: str, command: Callable[[str, Path], Command]) -> WireRow:
        """Run a command of a contender. command: called with the address and a new folder for the files of this run."""
        run = self._new_run(step)
        return self._measured(step, name, command(self._meter.address, run), run)[0]

    def cut_push(self, step: str, client: Client, workload: Workload, repository: str, most: int) -> WireRow:
        """Kill a push when it has sent so many bytes. A meter of its own sees them before the registry."""
        counting, sent = threading.Lock(), 0

        def observe(connection: int, direction: int, block: bytes) -> None:
            nonlocal sent
            if direction == UP:
                with counting:
                    sent += len(block)
                if sent >= most:
                    process.kill()

        begun, before = time.monotonic(), self._logged()
        with Meter(self.registry.address, observe) as meter:
            argv, cwd, environment = client.push(workload, f"{meter.address}/{repository}", self._new_run(step))
            nothing = subprocess.DEVNULL
            process = subprocess.Popen(argv, cwd=cwd, env=environment, stdout=nothing, stderr=nothing)
            expect(process.wait() < 0, "a push that was killed", "one that ended")
            return self._row(step, client.name, before, time.monotonic() - begun, meter)

    def _measured(self, step: str, name: str, command: Command, run: Path) -> tuple[WireRow, str]:
        self._meter.take()
        before = self._logged()
        sample, stdout = execute(command, run, watch=True)
        row = self._row(step, name, before, sample.seconds, self._meter)
        return dataclasses.replace(row, peak=max(sample.peak, sample.together)), stdout

    def _row(self, step: str, name: str, before: tuple[int, int], seconds: float, meter: Meter) -> WireRow:
        time.sleep(LOG_SECONDS)
        traffic = meter.take()
        requests, blobs = (now - then for now, then in zip(self._logged(), before, strict=True))
        return WireRow(
            contender=name,
            step=step,
            up=traffic.up,
            down=traffic.down,
            requests=requests,
            blobs=blobs,
            seconds=seconds,
        )

    def _logged(self) -> tuple[int, int]:
        return requests_in(self._log), blobs_in(self._log)

    def _new_run(self, step: str) -> Path:
        self._note(f"{self._title}: {step}")
        self._steps += 1
        run = self._folder / str(self._steps)
        run.mkdir()
        return run
