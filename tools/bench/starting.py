"""Start-up: the cost of a command that has almost nothing to do."""

from __future__ import annotations

from collections.abc import Iterator

from bench.compare import compare, expect, prints, write_contract
from bench.measure import Command, Contender, Run, execute
from bench.results import Table
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["starting"]

IMPORTS = {"oras-py": "oras.client", "model-signing": "model_signing"}


def starting(stage: Stage) -> Iterator[Table]:
    runs = 4 * stage.plan.runs + 1  # short runs vary more, and cost little
    place = stage.folder("start")
    inputs, outputs = place / "inputs", place / "outputs"
    for folder in (inputs, outputs):
        folder.mkdir()
        (folder / "note.txt").write_text("tiny\n")
    contract = write_contract(place, "start", inputs)
    cache = place / "cache"
    registry = {"CTXPACK_REGISTRY": f"oci:{place}/layout"}
    execute(stage.cli(place, cache, "seed", "outputs"), place)
    _, uri = execute(stage.cli(place, cache, "id", contract), place)

    def own(name: str, *arguments: str, expected: str) -> Contender:
        command = stage.cli(place, cache, *arguments, **registry)
        return Contender(
            name, lambda run: command, check=lambda run: expect(expected in run.stdout, expected, run.stdout[:200])
        )

    def peer(name: str, *arguments: str) -> Contender:
        return Contender(
            " ".join((name, *arguments)),
            lambda run: stage.peer(name, place, stage.programs.find(name), *arguments),
            needs=(name,),
        )

    def imports(name: str, module: str) -> Contender:
        def command(run: Run) -> Command:
            return stage.command(place, stage.programs.find(name), "-c", f"import {module}")

        return Contender(f"python -c 'import {module}'", command, needs=(name,))

    def earlier(name: str, *arguments: str) -> Contender:
        command = stage.command(place, before or "", *arguments, CTXPACK_CACHE=f"{cache}-before", **registry)
        return Contender(f"before: {name}", lambda run: command)

    before = stage.plan.before
    if before is not None:
        seed = stage.command(place, before, "seed", "outputs", CTXPACK_CACHE=f"{cache}-before")
        execute(seed, place)
    nothing = stage.command(place, stage.python, "-c", "pass")
    contenders = [
        Contender("python -c pass", lambda run: nothing, check=prints("")),
        own("ctxpack --help", "--help", expected="usage: ctxpack"),
        own("ctxpack id, tiny", "id", "contract.json", expected=uri.strip()),
        own("ctxpack pull, cached", "pull", uri.strip(), expected="artifacts"),
        own("ctxpack run, cached", "run", "--force", expected="Hit"),
        *([earlier("pull, cached", "pull", uri.strip())] if before else []),
        *([earlier("run, cached", "run", "--force")] if before else []),
        peer("git", "--version"),
        peer("skopeo", "--version"),
        peer("oras", "version"),
        peer("dvc", "--version"),
        *(imports(name, module) for name, module in IMPORTS.items()),
    ]
    yield compare(stage, "startup", Workload("tiny", place, 1, 5), contenders, runs)
