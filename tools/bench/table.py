"""Results as text for a terminal, or as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from bench.figures import figures, pairwise, ratio
from bench.results import Results, Table, WireRow
from bench.verdict import OURS, Verdict

__all__ = ["describe", "markdown", "render", "text"]

MB = 1_000_000
MIB = 1 << 20

LEGEND = (
    "Medians of alternating runs of whole processes. x ours: ratio of the medians; above 1, slower than CtxPack.",
    "pairwise: median of the ratios of each round. peak MiB: largest process; all MiB: all processes together,",
    "sampled in the warm-up run. Small scales mostly measure start-up. round trips: the longest chain of requests",
    "that waited for each other, with delayed answers as of a distant registry; requests at once are one trip.",
)

Row = Sequence[str]
Layout = Callable[[str, Sequence[Row]], Iterator[str]]
"""Turns a title and rows into lines. The first row is the head."""

TIMES = ("contender", "median s", "min – max", "x ours", "pairwise", "MB/s", "CPU s", "peak MiB", "all MiB", "n")
WIRE = ("contender", "step", "MB up", "MB down", "of first", "requests", "blobs", "peak MiB", "s")
AMOUNTS = ("what", "MB", "x first")
CALLS = ("what", "calls", "refused", "µs each")
TRIPS = ("contender", "step", "requests", "round trips", "s", "requests of each round trip")


def render(results: Results, verdicts: Sequence[Verdict], layout: Layout) -> str:
    """Return all results: machine, programs, tables and goals."""
    lines = [*LEGEND]
    lines += list(layout("Machine", [("", ""), *results.machine.items()]))
    lines += layout("Programs", [("", ""), *results.programs.items()])
    for table in results.tables:
        title = describe(table)
        if table.samples or not (table.wire or table.trips or table.amounts or table.calls):
            lines += layout(title, [TIMES, *_times(table)])
        if table.wire:
            lines += layout(title, [WIRE, *_wire(table)])
        if table.amounts:
            lines += layout(title, [AMOUNTS, *_amounts(table)])
        if table.calls:
            lines += layout(title, [CALLS, *_calls(table)])
        if table.trips:
            lines += layout(title, [TRIPS, *_trips(table)])
    if verdicts:
        lines += layout("Goals", [("table", "goal", "expected", "got", ""), *map(_verdict, verdicts)])
    return "\n".join(lines) + "\n"


def describe(table: Table) -> str:
    """Return the title of a table: "hash W1: 1 file, 1,073.7 MB"."""
    return f"{table.title}: {table.files:,} file{'s' * (table.files != 1)}, {table.size / MB:,.1f} MB"


def text(title: str, rows: Sequence[Row]) -> Iterator[str]:
    """Columns for a terminal: words aligned left, figures aligned right."""
    yield f"\n{title}"
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column == 0 or not _is_figure(row, column) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        if any(row):
            yield "  " + "  ".join(cells).rstrip()


def markdown(title: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"\n### {title}\n"
    head, *others = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in others:
        cells = (*row, *("" for _ in range(len(head) - len(row))))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _times(table: Table) -> Iterator[Row]:
    ours = table.samples.get(OURS) or next(iter(table.samples.values()), [])
    for name, samples in table.samples.items():
        each = figures(samples)
        yield (
            name,
            f"{each.seconds:.3f}",
            f"{each.least:.3f} – {each.most:.3f}",
            f"{ratio(samples, ours):.2f}",
            f"{pairwise(samples, ours):.2f}",
            f"{table.size / MB / each.seconds:,.0f}",
            f"{each.cpu:.3f}",
            f"{each.peak / MIB:.0f}",
            f"{each.together / MIB:.0f}",
            str(each.runs),
        )
    yield from ((name, f"absent: {why}") for name, why in table.absent.items())


def _wire(table: Table) -> Iterator[Row]:
    first: dict[tuple[str, str], WireRow] = {}
    for row in table.wire:
        whole = first.setdefault((row.contender, row.step[:4]), row)  # the first push, or the first pull
        share = (row.up + row.down) / (whole.up + whole.down)
        yield (
            row.contender,
            row.step,
            f"{row.up / MB:.3f}",
            f"{row.down / MB:.3f}",
            f"{share:.1%}",
            str(row.requests),
            str(row.blobs),
            f"{row.peak / MIB:.0f}",
            f"{row.seconds:.3f}",
        )
    yield from ((name, f"absent: {why}") for name, why in table.absent.items())


def _amounts(table: Table) -> Iterator[Row]:
    first = next(iter(table.amounts.values()))
    yield from ((what, f"{size / MB:,.3f}", f"{size / first:.3f}") for what, size in table.amounts.items())


def _calls(table: Table) -> Iterator[Row]:
    for row in table.calls:
        yield row.what, f"{row.calls:,}", f"{row.refused:,}", f"{row.seconds / row.calls * 1_000_000:.1f}"


def _trips(table: Table) -> Iterator[Row]:
    for row in table.trips:
        yield (
            row.contender,
            row.step,
            str(sum(map(len, row.trips))),
            str(len(row.trips)),
            f"{row.seconds:.3f}",
            "; ".join(_counted(kinds) for kinds in row.trips),
        )
    yield from ((name, f"absent: {why}") for name, why in table.absent.items())


def _counted(kinds: Sequence[str]) -> str:
    """Return the kinds of the requests of one trip: "2 x POST upload, HEAD blob"."""
    return ", ".join(f"{times} x {kind}" if times > 1 else kind for kind, times in Counter(kinds).items())


def _verdict(verdict: Verdict) -> Row:
    met = {True: "met", False: "MISSED", None: "?"}[verdict.met]
    return verdict.table, verdict.goal, verdict.expected, verdict.got, met


def _is_figure(row: Row, column: int) -> bool:
    words = {len(TIMES): (0,), len(CALLS): (0,), len(WIRE): (0, 1), len(TRIPS): (0, 1, 5)}
    return column not in words.get(len(row), (column,))
