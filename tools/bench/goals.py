"""The goals of CtxPack for time and memory, as data, and whether the results meet them.

`bytegoals`, `reusegoals` and `claimgoals` have the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from bench.bytegoals import judge_bytes
from bench.claimgoals import judge_claims
from bench.figures import figures
from bench.measure import Sample
from bench.results import Results, Table
from bench.reusegoals import judge_reuse
from bench.verdict import OURS, Verdict

__all__ = ["Verdict", "judge"]

PEAK = 100 << 20  # bytes

ONE_PASS = "one pass: tar, igzip -1"


class Goal(NamedTuple):
    """On each of the tables, the time of each of ours is at most so many times that of the fastest of others."""

    tables: tuple[str, ...]
    at_most: float
    others: tuple[str, ...]
    ours: tuple[str, ...] = (OURS,)


GOALS = (
    Goal(("hash W1",), 1.1, ("sha256, 1 thread",)),
    Goal(("hash W3in",), 1.1, ("sha256, 2 threads",)),
    Goal(("hash W2",), 1.0, ("nix-hash",)),
    Goal(("hash W2",), 1 / 5, ("naive rglob + sha256",)),
    Goal(("hash W2",), 1 / 5, ("model-signing",)),
    Goal(("rehash W1", "rehash W2", "rehash W3in"), 1.5, ("walk with lstat",)),
    Goal(("rehash W1", "rehash W2", "rehash W3in"), 1 / 8, ("dvc status",)),
    Goal(("seed W3out",), 1.2, ("cp -r, then sha256",)),
    Goal(("push W1", "push W2", "push W3out"), 0.95, (ONE_PASS,)),
    Goal(("push W2", "push W3out", "push W1"), 1 / 6, ("oras-py",)),
    Goal(("pull W1",), 1.05, (ONE_PASS,)),
    Goal(("pull W2",), 1.2, (ONE_PASS,)),
    Goal(("pull W3out",), 0.8, (ONE_PASS,)),
    Goal(("pull W2", "pull W3out", "pull W1"), 1 / 2.5, ("oras-py",)),
    Goal(("versions D",), 1.3, ("ctxpack, fresh pack",), ("ctxpack, last version",)),
    Goal(("map unchanged",), 2.0, ("ctxpack id",)),
    Goal(("startup tiny",), 3.0, ("python -c pass",), ("ctxpack --help", "ctxpack id, tiny", "ctxpack pull, cached")),
)

LINEAR = 1.3  # times the cost of a file or byte at a tenth of the amount
FLAT = 1.15  # times the peak memory at a tenth of the amount


def judge(results: Results) -> list[Verdict]:
    """Return a verdict for each goal whose table is among the results."""
    tables = {table.title: table for table in results.tables}
    verdicts = [
        _judge_time(tables[title], goal, ours)
        for goal in GOALS
        for title in goal.tables
        if title in tables
        for ours in goal.ours
    ]
    for table in results.tables:
        verdicts += judge_bytes(table)
        verdicts += judge_reuse(table)
        verdicts += _judge_memory(table)
    return [*verdicts, *judge_claims(tables), *_judge_growth(results.tables)]


def _judge_time(table: Table, goal: Goal, ours: str) -> Verdict:
    name = ours if ours != OURS else "time"
    present = {other: figures(table.samples[other]).seconds for other in goal.others if other in table.samples}
    best = min(present, key=lambda other: present[other], default="")
    against = best if best else " or ".join(goal.others)
    wanted = f"<= {goal.at_most:.2f} x" if goal.at_most > 0.5 else f">= {1 / goal.at_most:g} x faster"
    if not best or ours not in table.samples:
        return Verdict(table.title, f"{name} against {against}", wanted, "not measured", None)
    ratio = figures(table.samples[ours]).seconds / present[best]
    got = f"{ratio:.2f} x" if goal.at_most > 0.5 else f"{1 / ratio:.1f} x faster"
    return Verdict(table.title, f"{name} against {against}", wanted, got, ratio <= goal.at_most)


def _judge_memory(table: Table) -> Iterator[Verdict]:
    for name, samples in table.samples.items():
        if table.section == "growth" or name.startswith(OURS):
            what = "peak memory" if name == OURS else f"peak memory of {name}"
            peak = _memory(samples)
            yield _peak(table, what, peak)
    if steps := [row.peak for row in table.wire if row.contender == OURS and row.peak]:
        yield _peak(table, "peak memory of any step", max(steps))


def _peak(table: Table, what: str, peak: int) -> Verdict:
    return Verdict(table.title, what, f"<= {PEAK >> 20} MiB", f"{peak / (1 << 20):.0f} MiB", peak <= PEAK)


def _judge_growth(tables: Iterable[Table]) -> Iterator[Verdict]:
    grown = [table for table in tables if table.section == "growth"]
    for small, large in pairwise(table for table in grown if table.files > 1):
        yield from _judge_step_up(small, large, "file", large.files / small.files)
    for small, large in pairwise(table for table in grown if table.files == 1):
        yield from _judge_step_up(small, large, "byte", large.size / small.size)


def _judge_step_up(small: Table, large: Table, unit: str, amount: float) -> Iterator[Verdict]:
    title = f"{small.title} -> {large.workload}"
    for step in filter(large.samples.__contains__, small.samples):
        before, after = small.samples[step], large.samples[step]
        cost = figures(after).seconds / figures(before).seconds / amount
        yield Verdict(title, f"{step}: cost of a {unit}", f"<= {LINEAR} x", f"{cost:.2f} x", cost <= LINEAR)
        if unit == "byte":
            memory = _memory(after) / _memory(before)
            yield Verdict(title, f"{step}: peak memory", f"<= {FLAT} x", f"{memory:.2f} x", memory <= FLAT)


def _memory(samples: Sequence[Sample]) -> int:
    """Return the peak in bytes, of the largest process or of all processes, whichever was more."""
    each = figures(samples)
    return max(each.peak, each.together)
