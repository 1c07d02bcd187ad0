"""Results as SVG pictures, made without a library. Their white background makes them readable on a dark page too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from bench.axis import LogAxis
from bench.figures import figures
from bench.goals import PEAK
from bench.results import Results, Table
from bench.table import describe
from bench.verdict import OURS

__all__ = ["growth_plot", "ratio_plot"]

WIDTH = 760
ROW = 20  # px, of a contender
NAMES = 210  # px, to the left of the axis
FIGURES = 120  # px, to the right of the axis
RANGE = (0.1, 50.0)  # times ours; what lies beyond is drawn at the end, with its figure beside it
COLOURS = ("#1b6ca8", "#b8442f", "#3f7a2f", "#7a56a3")
INK, GREY, PALE = "#222", "#8b95a1", "#e3e7ec"

PANEL = (270, 230)  # px, width and height
MARGIN = (80, 90)  # px, to the left of and below a panel
MIB = 1 << 20


def ratio_plot(results: Results) -> str:
    """Return a dot for each contender, its time / the time of CtxPack on a logarithmic axis, in a group for each table.

    A line joins each dot with 1: it goes left for the contenders that are faster, and right for the slower ones.
    """
    tables = [table for table in results.tables if OURS in table.samples and table.section != "growth"]
    seconds = [{name: figures(samples).seconds for name, samples in table.samples.items()} for table in tables]
    ratios = [one / each[OURS] for each in seconds for one in each.values()]
    axis = LogAxis.around([min(max(ratio, RANGE[0]), RANGE[1]) for ratio in (0.5, 2, *ratios)], NAMES, WIDTH - FIGURES)
    shapes, y = [], 84
    for table, each in zip(tables, seconds, strict=True):
        shapes.append(_text(12, y + 14, describe(table), weight="bold"))
        y += 2 * ROW
        for name, one in each.items():
            shapes += _dot(axis, y, name, one / each[OURS], one)
            y += ROW
    scale = [
        _text(12, 22, "Time of each contender / time of CtxPack, on a logarithmic axis", size=14),
        _text(axis.at(1), 44, "← faster than CtxPack   |   slower than CtxPack →", anchor="middle"),
        *_across(axis, 52, y - 4),
    ]
    return _svg(y + 24, [*scale, *shapes])


def growth_plot(results: Results) -> str:
    """Return four panels: time and peak memory, by files and by bytes. All axes are logarithmic."""
    tables = [table for table in results.tables if table.section == "growth"]
    by_files = [(float(table.files), table) for table in tables if table.files > 1]
    by_bytes = [(table.size / (1 << 30), table) for table in tables if table.files == 1]
    shapes, y = [_text(12, 22, "Time and peak memory of CtxPack as work grows, on logarithmic axes", size=14)], 60
    for unit, points in (("files of 4 KiB each", by_files), ("size of one file, GiB", by_bytes)):
        if points:
            shapes += _panel(y, 0, unit, points, memory=False)
            shapes += _panel(y, 1, unit, points, memory=True)
            y += PANEL[1] + MARGIN[1]
    return _svg(y, shapes)


def _dot(axis: LogAxis, y: float, name: str, ratio: float, seconds: float) -> Iterator[str]:
    colour = COLOURS[0] if name == OURS else GREY
    x, one, middle = axis.at(ratio), axis.at(1), y - 4
    yield _text(NAMES - 14, y, name, anchor="end")
    yield f'<line x1="{one:.1f}" y1="{middle}" x2="{x:.1f}" y2="{middle}" stroke="{colour}" stroke-width="3"/>'
    yield f'<circle cx="{x:.1f}" cy="{middle}" r="5" fill="{colour}"/>'
    yield _text(WIDTH - FIGURES + 14, y, f"{ratio:.2f} x, {seconds:.3g} s")


def _across(axis: LogAxis, top: float, bottom: float) -> Iterator[str]:
    """Yield a horizontal axis, labelled above and below what is between them."""
    for tick in axis.ticks(12):
        x = axis.at(tick)
        yield _line(x, top + 18, x, bottom, INK if tick == 1 else PALE)
        yield _text(x, top + 14, f"{tick:g} x", anchor="middle")
        yield _text(x, bottom + 18, f"{tick:g} x", anchor="middle")


def _panel(top: int, column: int, unit: str, points: Sequence[tuple[float, Table]], *, memory: bool) -> Iterator[str]:
    width, height = PANEL
    left = MARGIN[0] + column * WIDTH // 2
    values = {
        step: [(x, _value(table, step, memory=memory)) for x, table in points if step in table.samples]
        for step in points[0][1].samples
    }
    flat = [value for line in values.values() for _, value in line]
    across = LogAxis.around((x for x, _ in points), left, left + width)
    up = LogAxis.around([*flat, 2 * PEAK / MIB] if memory else flat, top + height, top)
    title, y_unit = ("Peak memory", "MiB") if memory else ("Time", "s")
    yield _text(left, top - 12, f"{title}, {y_unit}", weight="bold")
    for x in across.ticks(6):
        yield _line(across.at(x), top, across.at(x), top + height, PALE)
        yield _text(across.at(x), top + height + 16, f"{x:,g}" if x < 1e6 else f"{x:g}", anchor="middle")
    for value in up.ticks(9):
        yield _line(left, up.at(value), left + width, up.at(value), PALE)
        yield _text(left - 6, up.at(value) + 4, f"{value:g} {y_unit}", anchor="end")
    yield f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="{GREY}"/>'
    yield _text(left + width / 2, top + height + 34, unit, anchor="middle")
    if memory:
        yield _line(left, up.at(PEAK / MIB), left + width, up.at(PEAK / MIB), INK, 'stroke-dasharray="4 4"')
        yield _text(left + width - 6, up.at(PEAK / MIB) - 6, f"goal: {PEAK // MIB} MiB", anchor="end")
    for number, (step, line) in enumerate(values.items()):
        colour = COLOURS[number % len(COLOURS)]
        yield from _curve(step, [(across.at(x), up.at(value)) for x, value in line], colour)
        yield _text(left + number * 64, top + height + 54, f"● {step}", colour=colour)


def _curve(name: str, points: Sequence[tuple[float, float]], colour: str) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    title = f"<title>{escape(name)}</title>"
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2">{title}</polyline>'
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)


def _value(table: Table, step: str, *, memory: bool) -> float:
    each = figures(table.samples[step])
    return max(each.peak, each.together) / MIB if memory else each.seconds


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, style: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {style}/>'


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "normal",
    colour: str = INK,
) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _svg(height: int, shapes: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    paper = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([f'{head} font-family="sans-serif">', paper, *shapes, "</svg>"]) + "\n"
