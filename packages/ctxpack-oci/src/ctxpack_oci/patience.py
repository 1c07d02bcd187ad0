"""Time limits and attempts: timeouts, deadlines, and when to try again."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

from ctxpack_identity.errors import Unavailable

__all__ = ["Deadline", "Patience", "Transient", "persist", "seconds_after"]

T = TypeVar("T")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Time limits, in seconds, and the clocks: arguments, so that tests need not wait.

    total: for one call with all its attempts, plus one second for each slowest_rate bytes that it moves.
    """

    connect: float = 15.0
    read: float = 60.0  # a registry may hash a whole blob before it answers a PUT
    total: float = 300.0
    slowest_rate: int = 32 * 1024  # bytes per second
    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def deadline(self, size: int) -> Deadline:
        """Return the deadline of a call that begins now and moves up to size bytes."""
        return Deadline(self.clock, self.total + size / self.slowest_rate)


class Deadline:
    """A moment on a monotonic clock."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds until the deadline; zero or less when it has passed."""
        return self._end - self._clock()


class Transient(Exception):
    """One attempt failed; the next may succeed. Never leaves this package: `persist` turns it into Unavailable.

    after: seconds that the server asked to wait, if it did.
    """

    def __init__(self, what: str, *, where: str, fix: str = "", after: float | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.after = after


def persist(attempt: Callable[[Deadline], T], *, size: int, patience: Patience) -> T:
    """Return what attempt returns. While it raises Transient, try again, with growing, jittered waits.

    Raises: Unavailable, when the attempts or the time are used up.
    """
    deadline = patience.deadline(size)
    for number in range(1, patience.attempts + 1):
        try:
            return attempt(deadline)
        except Transient as failure:
            wait = _wait(number, failure.after, patience)
            if number == patience.attempts or deadline.left() <= wait:
                tries = "1 attempt" if number == 1 else f"{number} attempts"
                fix = failure.fix or "try again later; if it stays, ask the operator"
                raise Unavailable(f"{failure.what} ({tries})", where=failure.where, fix=fix) from failure
            patience.sleep(wait)
    raise AssertionError("Patience.attempts must be at least 1")


def seconds_after(header: str, *, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3), or None when it is malformed.

    header: whole seconds or an HTTP date. now: seconds since the epoch.
    """
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return None


def _wait(number: int, after: float | None, patience: Patience) -> float:
    own = patience.first_wait * 2.0 ** (number - 1) * (0.5 + patience.jitter() / 2)
    return min(patience.longest_wait, max(own, after or 0.0))
