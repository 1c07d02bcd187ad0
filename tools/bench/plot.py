"""Results as SVG pictures, made without a library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from bench.figures import figures
from bench.goals import OURS
from bench.results import Results, Table
from bench.table import describe

__all__ = ["growth_plot", "ratio_plot"]

WIDTH = 760
NAMES = 230  # px, to the left of the bars
BAR = 16
LONGEST = 12.0  # times ours; longer bars are cut, and have an … after their figure
COLOURS = ("#1b6ca8", "#c0504d", "#4f8a3d", "#8d6bb0")
GREY = "#b4bcc6"

PANEL = 250  # px, height of a growth panel without its margins


def ratio_plot(results: Results) -> str:
    """Return a bar for each contender, its time / the time of CtxPack, in a group for each table."""
    tables = [table for table in results.tables if OURS in table.samples and table.section != "growth"]
    shapes, y = [], 34
    shapes.append(_text(12, 20, "Time of each contender, CtxPack = 1 (shorter is better)", size=14))
    for table in tables:
        y += 22
        shapes.append(_text(12, y - 6, describe(table), weight="bold"))
        ours = figures(table.samples[OURS]).seconds
        for name, samples in table.samples.items():
            shapes += _bar(name, figures(samples).seconds / ours, figures(samples).seconds, y)
            y += BAR + 4
    one = NAMES + _length(1)
    shapes.append(f'<line x1="{one:.1f}" y1="30" x2="{one:.1f}" y2="{y}" stroke="#444" stroke-dasharray="3 3"/>')
    return _svg(y + 12, shapes)


def growth_plot(results: Results) -> str:
    """Return four panels: time and peak memory, by files and by bytes. All axes but that of memory are logarithmic."""
    tables = [table for table in results.tables if table.section == "growth"]
    by_files = [(float(table.files), table) for table in tables if table.files > 1]
    by_bytes = [(table.size / (1 << 30), table) for table in tables if table.files == 1]
    shapes, y = [_text(12, 20, "CtxPack as work grows", size=14)], 40
    for unit, points in (("files of 4 KiB", by_files), ("GiB in one file", by_bytes)):
        if points:
            shapes += _panel(y, 0, f"seconds by {unit}", points, memory=False)
            shapes += _panel(y, 1, f"peak MiB by {unit}", points, memory=True)
            y += PANEL + 60
    return _svg(y, shapes)


def _bar(name: str, ratio: float, seconds: float, y: int) -> Iterator[str]:
    length = _length(min(ratio, LONGEST))
    colour = COLOURS[0] if name == OURS else GREY
    yield _text(NAMES - 8, y + 12, name, anchor="end")
    yield f'<rect x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
    cut = " …" if ratio > LONGEST else ""
    yield _text(NAMES + max(length, _length(1)) + 6, y + 12, f"{ratio:.2f}{cut}  ({seconds:.3g} s)")


def _length(ratio: float) -> float:
    return ratio / LONGEST * (WIDTH - NAMES - 130)


def _panel(top: int, column: int, title: str, points: Sequence[tuple[float, Table]], *, memory: bool) -> Iterator[str]:
    left, width = 60 + column * WIDTH // 2, WIDTH // 2 - 90
    values = {
        step: [(x, _value(table, step, memory=memory)) for x, table in points if step in table.samples]
        for step in points[0][1].samples
    }
    flat = [value for line in values.values() for _, value in line]
    low_x, high_x = math.log10(points[0][0]), math.log10(points[-1][0])
    low_y, high_y = (0.0, max(flat) * 1.5 + 1) if memory else (math.log10(min(flat) / 1.5), math.log10(max(flat) * 8))

    def place(x: float, value: float) -> tuple[float, float]:
        across = (math.log10(x) - low_x) / ((high_x - low_x) or 1)
        up = ((value if memory else math.log10(value)) - low_y) / (high_y - low_y)
        return left + across * width, top + 20 + (1 - up) * PANEL

    yield _text(left, top + 8, title, weight="bold")
    yield f'<rect x="{left}" y="{top + 20}" width="{width}" height="{PANEL}" fill="none" stroke="{GREY}"/>'
    for x, _ in points:
        at, _ = place(x, flat[0])
        yield _text(at, top + PANEL + 35, f"{x:,.4g}", anchor="middle")
    for value in (min(flat), max(flat)):
        _, at = place(points[0][0], value)
        yield _text(left - 6, at + 4, f"{value:.3g}", anchor="end")
    for number, (step, line) in enumerate(values.items()):
        yield from _line(step, [place(*point) for point in line], COLOURS[number % len(COLOURS)])
        yield _text(left + 8, top + 36 + number * 15, step, colour=COLOURS[number % len(COLOURS)])


def _line(name: str, points: Sequence[tuple[float, float]], colour: str) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    title = f"<title>{escape(name)}</title>"
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2">{title}</polyline>'
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)


def _value(table: Table, step: str, *, memory: bool) -> float:
    each = figures(table.samples[step])
    return max(each.peak, each.together) / (1 << 20) if memory else each.seconds


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "normal",
    colour: str = "#222",
) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _svg(height: int, shapes: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', *shapes, "</svg>"]) + "\n"
