"""Requests: which requests a small pack makes, and how often it waits for an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.clients import CtxPack
from bench.compare import expect, expect_copy
from bench.measure import Command, execute
from bench.results import Table, TripsRow
from bench.stage import Stage
from bench.trips import Listener, trips
from bench.wire import Meter
from bench.workloads import Workload, measure_folder

__all__ = ["requesting", "small_pack"]

FILES = 5  # together far less than a chunk of data
LINES = 100  # in each

DELAY = 0.05  # seconds; more than threads need to send all that they send at once


def requesting(stage: Stage) -> Iterator[Table]:
    """Yield one table, its steps in order. Each step is done once, because the requests do not vary."""
    place = stage.folder("requests")
    workload = small_pack(place / "outputs")
    table = Table(section="requests", workload=workload.name, files=workload.files, size=workload.size)
    own = CtxPack(stage, place / "ctxpack")
    listener = Listener(DELAY)
    with stage.registry("requests small") as registry, Meter(registry.address, listener.observe) as meter:
        where = f"{meter.address}/ctxpack"

        def measured(step: str, command: Command, run: Path) -> str:
            stage.note(f"{table.title}: {step}")
            listener.take()
            sample, stdout = execute(command, run)
            row = TripsRow(contender=own.name, step=step, trips=trips(listener.take()), seconds=sample.seconds)
            table.trips.append(row)
            return stdout

        own.prepare(workload)
        for step in ("push", "push again"):
            run = _new_folder(place, step)
            measured(step, own.push(workload, where, run), run)
        run = _new_folder(place, "pull")
        stdout = measured("pull", own.pull(workload, where, run), run)
        expect_copy(workload, own.pulled(run, stdout), closely=True)
        run = _new_folder(place, "inspect")
        stdout = measured("inspect", own.inspect(workload, where, run), run)
        expect(where in stdout, where, stdout[:200])
    yield table


def small_pack(folder: Path) -> Workload:
    """Make a folder of a few small files."""
    folder.mkdir()
    for number in range(FILES):
        lines = (f"{number} {line} {line * line}\n" for line in range(LINES))
        (folder / f"{number}.txt").write_text("".join(lines), encoding="ascii")
    return measure_folder("small", folder)


def _new_folder(place: Path, step: str) -> Path:
    run = place / step.replace(" ", "-")
    run.mkdir()
    return run
