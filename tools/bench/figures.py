"""From samples to figures: medians, ranges and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench.measure import Sample

__all__ = ["Figures", "cpu_beyond", "figures", "pairwise", "ratio"]


class Figures(NamedTuple):
    """The samples of a contender in numbers. Seconds: median, least, most; cpu: median.

    peak, together: bytes, the most of any run; of the largest process, and of all processes.
    """

    runs: int
    seconds: float
    least: float
    most: float
    cpu: float
    peak: int
    together: int


def figures(samples: Sequence[Sample]) -> Figures:
    """Return the numbers of one or more samples."""
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
    """Return median of ours / median of theirs; below 1, ours is faster."""
    return figures(ours).seconds / figures(theirs).seconds


def pairwise(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """Return the median of ours / theirs of each round. Unlike ratio(), it does not see a drift of the machine.

    Rounds without a sample of one of the two do not count.
    """
    return median(one.seconds / other.seconds for one, other in zip(ours, theirs, strict=False))


def cpu_beyond(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """Return the median of the seconds of CPU that ours took more than theirs in each round; see pairwise()."""
    return median(one.cpu - other.cpu for one, other in zip(ours, theirs, strict=False))
