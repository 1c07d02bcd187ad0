"""Explain: why many files have another name after one of them changed; from the cache, and from a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.compare import expect, write_contract
from bench.measure import Command, execute
from bench.metering import metered
from bench.results import Table
from bench.reusegoals import CACHED, ELSEWHERE
from bench.stage import Stage
from bench.verdict import OURS

__all__ = ["explaining"]


def explaining(stage: Stage) -> Iterator[Table]:
    workload = stage.workload("W2")
    place = stage.folder("explain")
    raw, made = place / "raw", place / "outputs"
    execute(stage.command(place, "cp", "--recursive", "--link", workload.folder, raw), place)
    made.mkdir()
    (made / "result.txt").write_text("made\n")
    write_contract(place, "explain", raw)
    changed = max(path for path in raw.rglob("*") if path.is_file())

    def call(cache: str, *arguments: str | Path, **variables: str) -> Command:
        return stage.cli(place, place / cache, *arguments, **variables)

    def change(text: str) -> str:
        """Make the file another one, and return the URI."""
        changed.unlink()
        changed.write_text(text)
        return execute(call("own", "id", "--quiet"), place)[1].strip()

    table = Table(section="explain", workload=workload.name, files=workload.files, size=workload.size)
    execute(call("own", "seed", "--quiet"), place)
    first = execute(call("own", "id", "--quiet"), place)[1].strip()
    with metered(stage, table.title) as registry:

        def pushed(uri: str) -> None:
            registry.measure("push", OURS, lambda address, run: call("own", "push", uri, **_where(address)))

        def elsewhere(step: str, cache: str, *arguments: str) -> None:
            stage.note(f"{table.title}: {step}")
            table.wire.append(
                registry.measure(step, OURS, lambda address, run: call(cache, "explain", *arguments, **_where(address)))
            )

        pushed(first)
        second = change("changed\n")
        table.samples[CACHED] = []
        for _ in range(stage.plan.runs + 1):
            sample, output = execute(call("own", "explain"), place)
            expect(changed.name in output, changed.name, output[:300])
            table.samples[CACHED].append(sample)
        elsewhere(f"{ELSEWHERE}, contract file", "other", "contract.json")
        elsewhere(f"{ELSEWHERE}, contract file and URI", "third", "contract.json", first)
        execute(call("own", "seed", "--quiet"), place)
        pushed(second)
        elsewhere(f"{ELSEWHERE}, two URIs", "fourth", first, second)
    yield table


def _where(address: str) -> dict[str, str]:
    return {"CTXPACK_REGISTRY": f"http://{address}/explain"}
