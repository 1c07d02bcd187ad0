"""Start-up: the cost of a command that has almost nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from bench.claimgoals import SIGNED_HIT
from bench.compare import compare, expect, prints, write_contract
from bench.measure import Command, Contender, Run, execute
from bench.results import Table
from bench.signers import SignedPack
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["starting"]

IMPORTS = {"oras-py": "oras.client", "model-signing": "model_signing"}


def starting(stage: Stage) -> Iterator[Table]:
    runs = 4 * stage.plan.runs + 1  # short runs vary more, and cost little
    versions = stage.versions
    place = stage.folder("start")
    inputs, outputs = place / "inputs", place / "outputs"
    for folder in (inputs, outputs):
        folder.mkdir()
        (folder / "note.txt").write_text("tiny\n")
    contract = write_contract(place, "start", inputs)
    layout = f"oci:{place}/layout"

    def call(version: str, *arguments: str | Path) -> Command:
        cache = place / f"cache of {version}"
        return stage.command(place, versions[version], *arguments, CTXPACK_CACHE=cache, CTXPACK_REGISTRY=layout)

    def own(version: str, name: str, *arguments: str, expected: str) -> Contender:
        return Contender(
            f"{version} {name}",
            lambda run: call(version, *arguments),
            check=lambda run: expect(expected in run.stdout, expected, run.stdout[:200]),
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

    def hits(version: str) -> list[Contender]:
        execute(call(version, "seed", "outputs"), place)
        _, found = execute(call(version, "id", contract), place)
        uri = found.strip()
        return [
            own(version, "--help", "--help", expected="usage: ctxpack"),
            own(version, "id, tiny", "id", "contract.json", expected=uri),
            own(version, "pull, cached", "pull", uri, expected="artifacts"),
            own(version, "run, cached", "run", "--force", expected="Hit"),
        ]

    nothing = stage.command(place, stage.python, "-c", "pass")
    contenders = [
        Contender("python -c pass", lambda run: nothing, check=prints("")),
        *chain.from_iterable(map(hits, versions)),
        _signed_hit(stage, Workload("tiny", outputs, 1, 5), inputs),
        peer("git", "--version"),
        peer("skopeo", "--version"),
        peer("oras", "version"),
        peer("dvc", "--version"),
        *(imports(name, module) for name, module in IMPORTS.items()),
    ]
    yield compare(stage, "startup", Workload("tiny", place, 1, 5), contenders, runs)


def _signed_hit(stage: Stage, workload: Workload, inputs: Path) -> Contender:
    """A hit of a pack that somebody else has signed, where the policy wants that; the decision is remembered."""
    place = stage.folder("start signed")
    layout = f"oci:{place}/layout"
    hits: list[Command] = []

    def prepare() -> None:
        pack = SignedPack(stage, place, workload, 1, inputs)
        execute(pack.push(layout, place, pack.keys[0]), place)
        policy, machine = pack.policy(1), place / "another machine"
        execute(pack.pull(layout, machine, place, policy), place)
        hits.append(pack.hit(layout, machine, policy))

    return Contender(
        SIGNED_HIT,
        lambda run: hits[0],
        prepare=prepare,
        check=lambda run: expect("Hit" in run.stdout, "Hit", run.stdout[:200]),
    )
