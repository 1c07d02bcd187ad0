"""Seed: the cost of copying outputs into the cache and of hashing every byte of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.compare import compare, expect, expect_copy, tidy_few, write_contract
from bench.measure import Contender, Run, execute
from bench.results import Table
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["seeding"]

COPY_AND_HASH = 'cp --recursive "$1" "$2" && find "$2" -type f -print0 | xargs -0 openssl dgst -sha256 -r'


def seeding(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(("W3out", "W1", "W2")):
        yield compare(stage, "seed", workload, [_ctxpack(stage, workload), _copy_and_hash(stage, workload)])


def _ctxpack(stage: Stage, workload: Workload) -> Contender:
    contract = write_contract(stage.folder(f"seed ctxpack {workload.name}"), workload.name)

    def check(run: Run) -> None:
        outputs = json.loads(run.stdout)["outputs"]
        expect((outputs["files"], outputs["size"]) == workload[2:], workload[2:], outputs)
        if run.first:
            show = stage.cli(run.folder, run.folder / "cache", "pull", json.loads(run.stdout)["uri"], "--quiet")
            _, folder = execute(show, run.folder)
            expect_copy(workload, run.folder / folder.strip(), closely=True)

    return Contender(
        "ctxpack",
        lambda run: stage.cli(
            run.folder, run.folder / "cache", "seed", "--json", f"outputs={workload.folder}", "--contract", contract
        ),
        check=check,
        tidy=tidy_few(workload),
    )


def _copy_and_hash(stage: Stage, workload: Workload) -> Contender:
    def check(run: Run) -> None:
        expect(run.stdout.count("\n") == workload.files, f"{workload.files} digests", run.stdout.count("\n"))
        expect_copy(workload, run.folder / "copy", closely=run.first)

    return Contender(
        "cp -r, then sha256",
        lambda run: stage.command(
            run.folder, "bash", "-c", COPY_AND_HASH, "bash", workload.folder, run.folder / "copy"
        ),
        needs=("openssl",),
        check=check,
        tidy=tidy_few(workload),
    )
