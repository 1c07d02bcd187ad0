"""The goals of CtxPack for bytes, blobs and requests, and whether the results meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench.results import Table, WireRow
from bench.verdict import OURS, Verdict

__all__ = ["judge_bytes"]

CHANGED = {"W4c": 0.016, "W4s": 0.42, "D-1": 0.05}  # of the bytes of the first version, both ways
BLOBS = 80  # of a pack of W3out
UNCHANGED = 4  # requests
AGED_PULL = 1.3  # times the bytes of a pull of a fresh pack
GROWTH = 2.4  # times the chunks that changed: what a registry has more after all versions
LARGEST_PUSH = 0.12  # of the first
AFTER_CUT = 0.55  # of a whole push
SQUEEZED = {"W3out": 1.02, "D": 1.04}  # times the bytes of one gzip stream

Rows = Mapping[str, WireRow]
"""The steps of CtxPack, in order, by name."""


def judge_bytes(table: Table) -> Iterator[Verdict]:
    """Yield a verdict for each goal of the section of a table."""
    if table.section not in _SECTIONS:
        return
    if OURS in table.absent:
        yield Verdict(table.title, "all goals for bytes and requests", "met", "not measured", None)
        return
    yield from _SECTIONS[table.section](table, {row.step: row for row in table.wire if row.contender == OURS})


def _judge_repush(table: Table, rows: Rows) -> Iterator[Verdict]:
    for action in ("push", "pull"):
        share = _both_ways(rows[f"{action}, 1 % changed"]) / _both_ways(rows[f"{action}, first version"])
        yield _share(table, f"bytes of a {action} after 1 % changed", CHANGED[table.workload], share)
    if table.workload == "W4c":
        blobs = rows["push, first version"].blobs
        yield Verdict(table.title, "blobs of a push of W3out", f"<= {BLOBS}", str(blobs), blobs <= BLOBS)
    for step, row in rows.items():
        if step.startswith("push, unchanged"):
            wanted, got = f"no blob, <= {UNCHANGED} requests", f"{row.blobs} blobs, {row.requests} requests"
            yield Verdict(table.title, step, wanted, got, not row.blobs and row.requests <= UNCHANGED)


def _judge_versions(table: Table, rows: Rows) -> Iterator[Verdict]:
    first, *later = [row.up for step, row in rows.items() if step.startswith("push")]
    aged = _both_ways(rows["pull, last version"]) / _both_ways(rows["pull, fresh pack"])
    yield _times(table, "bytes of a pull against a fresh pack", AGED_PULL, aged)
    changes = later[0] * len(later)  # the first change is sent alone: nothing is dead yet that must be sent again
    more = table.amounts["registry, last version"] - table.amounts["registry, first version"]
    yield _times(table, "growth of the registry against the changes", GROWTH, more / changes)
    yield _share(table, "bytes of the largest push after the first", LARGEST_PUSH, max(later) / first)


def _judge_cut(table: Table, rows: Rows) -> Iterator[Verdict]:
    share = rows["push, again"].up / rows["push, whole"].up
    yield _share(table, "bytes of a push after one cut at half", AFTER_CUT, share)


def _judge_squeeze(table: Table, rows: Rows) -> Iterator[Verdict]:
    (_, ours), (stream, theirs) = table.amounts.items()
    yield _times(table, f"bytes against {stream}", SQUEEZED[table.workload], ours / theirs)


def _both_ways(row: WireRow) -> int:
    return row.up + row.down


def _share(table: Table, goal: str, at_most: float, share: float) -> Verdict:
    return Verdict(table.title, goal, f"<= {at_most * 100:g} %", f"{share * 100:.1f} %", share <= at_most)


def _times(table: Table, goal: str, at_most: float, times: float) -> Verdict:
    return Verdict(table.title, goal, f"<= {at_most:.2f} x", f"{times:.2f} x", times <= at_most)


_SECTIONS: dict[str, Callable[[Table, Rows], Iterator[Verdict]]] = {
    "repush": _judge_repush,
    "versions": _judge_versions,
    "cut": _judge_cut,
    "squeeze": _judge_squeeze,
}
