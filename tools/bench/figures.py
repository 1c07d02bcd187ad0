"""From samples to figures: medians, ranges and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench.measure import Sample

__all__ = ["Figures", "figures", "pairwise", "ratio"]


class Figures(NamedTuple):
    """What the samples of a contender come to. Seconds: median, least, most; cpu: median.

    peak, together: most of any run, in bytes; of the largest process, and of all processes.
    """

    runs: int
    seconds: float
    least: float
    most: float
    cpu: float
    peak: int
    together: int


def figures(samples: Sequence[Sample]) -> Figures:
    """samples: at least one."""
    seconds = [sample.seconds for sample in samples]
    return Figures(
        runs=len(samples),
        seconds=median(seconds),
        least=min(seconds),
        most=max(seconds),
        cpu=median(sample.cpu for sample in samples),
        peak=max(sample.peak for sample in samples),
        together=max(sample.together for sample in samples),
    )


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """Median of ours / median of theirs: below 1 when we are faster."""
    return figures(ours).seconds / figures(theirs).seconds


def pairwise(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """Median of ours / theirs within each round: unlike ratio(), untouched by a drift of the machine.

    Rounds that one of the two sat out do not count.
    """
    return median(one.seconds / other.seconds for one, other in zip(ours, theirs, strict=False))
