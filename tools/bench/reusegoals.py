"""The goals of `map`, `explain` and `@memo`, and whether the results meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.figures import figures
from bench.results import Table
from bench.verdict import OURS, Verdict

__all__ = ["BARE", "CACHED", "ELSEWHERE", "FIRST_PUSH", "HIT", "NOTHING", "PUSH", "judge_reuse"]

# Names of contenders and steps.
BARE = "bare loop"
CACHED = "ctxpack, cached"
NOTHING, HIT = "python -c pass", "ctxpack, @memo hit"
FIRST_PUSH, PUSH = "push, all items", "push, 1 % changed"
ELSEWHERE = "explain, from a registry"

OVERHEAD = 0.005  # seconds for each computed item
CHANGED = (1.5, 2.0)  # times the seconds of the bare loop, and seconds more
PUSHED = 0.05  # of the bytes of the first push
EXPLAINED, FETCHED, REQUESTS = 1.0, 2.0, 5  # seconds from the cache; seconds and requests from a registry
REMEMBERED = 0.060  # seconds beyond an interpreter that does nothing


def judge_reuse(table: Table) -> Iterator[Verdict]:
    """Yield a verdict for each goal of a table that was measured."""
    judge = _TABLES.get(table.title)
    if judge is not None:
        yield from judge(table)


def _judge_overhead(table: Table) -> Iterator[Verdict]:
    if seconds := _two(table, OURS, BARE):
        each = (seconds[0] - seconds[1]) / table.files
        got = f"{each * 1000:.2f} ms"
        yield Verdict(
            table.title, "time of an item beyond the bare loop", f"<= {OVERHEAD * 1000:g} ms", got, each <= OVERHEAD
        )


def _judge_changed(table: Table) -> Iterator[Verdict]:
    if seconds := _two(table, OURS, BARE):
        times, more = CHANGED
        most = times * seconds[1] + more
        wanted = f"<= {times:g} x the bare loop + {more:g} s = {most:.2f} s"
        yield Verdict(table.title, "time after 1 % changed", wanted, f"{seconds[0]:.2f} s", seconds[0] <= most)


def _judge_wire(table: Table) -> Iterator[Verdict]:
    rows = {row.step: row for row in table.wire}
    if FIRST_PUSH in rows:
        for step in (step for step in rows if step.startswith(PUSH)):
            share = rows[step].up / rows[FIRST_PUSH].up
            yield Verdict(table.title, f"bytes of a {step}", f"<= {PUSHED:.0%} of all", f"{share:.1%}", share <= PUSHED)


def _judge_explain(table: Table) -> Iterator[Verdict]:
    if CACHED in table.samples:
        seconds = figures(table.samples[CACHED]).seconds
        yield Verdict(table.title, CACHED, f"<= {EXPLAINED:g} s", f"{seconds:.2f} s", seconds <= EXPLAINED)
    for row in (row for row in table.wire if row.step.startswith(ELSEWHERE)):
        wanted, got = f"<= {FETCHED:g} s, <= {REQUESTS} requests", f"{row.seconds:.2f} s, {row.requests} requests"
        yield Verdict(table.title, row.step, wanted, got, row.seconds <= FETCHED and row.requests <= REQUESTS)


def _judge_memo(table: Table) -> Iterator[Verdict]:
    if seconds := _two(table, HIT, NOTHING):
        more = seconds[0] - seconds[1]
        wanted, got = f"<= {REMEMBERED * 1000:g} ms", f"{more * 1000:.0f} ms"
        yield Verdict(table.title, f"{HIT}, beyond {NOTHING}", wanted, got, more <= REMEMBERED)


def _two(table: Table, ours: str, other: str) -> tuple[float, float] | None:
    """Return the seconds of two contenders, if both were measured."""
    if ours not in table.samples or other not in table.samples:
        return None
    return figures(table.samples[ours]).seconds, figures(table.samples[other]).seconds


_TABLES: dict[str, Callable[[Table], Iterator[Verdict]]] = {
    "map full": _judge_overhead,
    "map one job": _judge_overhead,
    "map 1 % changed": _judge_changed,
    "map registry": _judge_wire,
    "explain W2": _judge_explain,
    "memo small": _judge_memo,
}
