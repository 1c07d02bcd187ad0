"""Memo: a function whose result is remembered is called in a new process, beside joblib.Memory."""

from __future__ import annotations

from collections.abc import Iterator

from bench.compare import compare, expect, prints
from bench.measure import Command, Contender, execute
from bench.requesting import small_pack
from bench.results import Table
from bench.reusegoals import HIT, NOTHING
from bench.stage import Stage

__all__ = ["memoizing"]


def memoizing(stage: Stage) -> Iterator[Table]:
    runs = 4 * stage.plan.runs + 1  # short runs vary more, and cost little
    place = stage.folder("memo")
    inputs = small_pack(place / "inputs")
    cache = place / "cache"
    hit = stage.command(place, stage.python, stage.script("memo_hit.py"), "inputs", CTXPACK_CACHE=cache)

    def joblib() -> Command:
        python, script = stage.programs.find("joblib"), stage.script("joblib_hit.py")
        return stage.command(place, python, script, place / "joblib", "inputs")

    def once(command: Command) -> None:
        execute(command, place)

    yield compare(
        stage,
        "memo",
        inputs,
        [
            Contender(NOTHING, lambda run: stage.command(place, stage.python, "-c", "pass"), check=prints("")),
            Contender(
                HIT,
                lambda run: hit,
                prepare=lambda: once(hit),
                check=lambda run: expect(str(cache) in run.stdout, "a folder in the cache", run.stdout[:200]),
            ),
            Contender(
                "joblib.Memory hit",
                lambda run: joblib(),
                needs=("joblib",),
                prepare=lambda: once(joblib()),
                check=lambda run: expect(run.stdout.startswith("{"), "results", run.stdout[:200]),
            ),
        ],
        runs,
    )
