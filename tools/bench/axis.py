"""A logarithmic axis: where a value lies, and which round values are labelled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["LogAxis"]

STEPS = (1, 2, 5)  # times a power of ten


class LogAxis(NamedTuple):
    """From value low at pixel start to value high at pixel end."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float) -> LogAxis:
        """Return the axis from one round value to another that has room for all values."""
        all_values = list(values)
        low = max((tick for tick in _rounds(STEPS) if tick <= min(all_values)), default=min(all_values))
        high = min((tick for tick in _rounds(STEPS) if tick >= max(all_values) and tick > low), default=max(all_values))
        return cls(low, high, start, end)

    def at(self, value: float) -> float:
        """Return the pixel of a value; one beyond an end lies at the end."""
        inside = min(max(value, self.low), self.high)
        return self.start + (self.end - self.start) * math.log(inside / self.low) / math.log(self.high / self.low)

    def ticks(self, most: int) -> list[float]:
        """Return the round values on the axis: 1, 2, 5, 10, …, or only 1, 10, … where the others were too many."""
        found = [tick for tick in _rounds(STEPS) if self.low <= tick <= self.high]
        return found if len(found) <= most else [tick for tick in _rounds((1,)) if tick in found]


def _rounds(steps: Iterable[int]) -> Iterable[float]:
    return [float(f"{step}e{power}") for power in range(-6, 13) for step in steps]
