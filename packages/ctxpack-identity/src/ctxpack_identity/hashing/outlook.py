"""How many bytes a stage will have done at its end: counted beside the work, in short turns, by the thread that works.

Short work is never counted. A second thread could count while this one works, but no process with two threads may fork
(see `children`), and an index of known digests is for one thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ctxpack_identity.errors import CtxPackError
from ctxpack_identity.lighttyping import TypeAlias
from ctxpack_identity.progress import Progress

__all__ = ["Outlook", "Part"]

AFTER = 1.0  # seconds of work before anything is counted: what is done by then needs no total
TURN = 0.02  # seconds of counting, and at least as many of work before the next turn; workers have tasks for longer

Part: TypeAlias = "Callable[[], Iterator[int]]"
"""Returns the bytes of each item of a part of the work that has not begun when it is called, in the order of the work.

It may raise a CtxPackError while it is read; the work itself will meet the same error.
"""


class Outlook:
    """Reports the bytes of one stage, and their total as soon as it is known. It is the end once all parts are left.

    parts: in the order in which they are entered; None for one that cannot be counted before it has begun.
    total: bytes, None while unknown; if it was given, nothing is counted. clock: seconds.
    One thread works, and calls everything but report.
    """

    def __init__(
        self,
        stage: str,
        progress: Progress,
        parts: Iterable[Part | None] = (None,),
        *,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self._stage, self._progress, self._clock = stage, progress, clock
        self._parts = deque(parts)
        self._rest: Part | None = None
        self._begun = self._counted = 0
        self._since: float | None = None  # when the first byte was begun
        self._next = 0.0  # when the next turn may begin
        self._counting: Iterator[int] | None = None
        self._failed = False
        self._said: int | None = None

    def enter(self, rest: Part | None) -> None:
        """Note that the next part begins. rest: its items that have not begun; None where they cannot be counted."""
        self._parts.popleft()
        self._rest = rest

    def begin(self, size: int) -> None:
        """Note that the next item of this part begins, of which size bytes will be reported."""
        if self._counting is not None:
            self._count(0)  # stays ahead of the work: of what is done, the index may know the digests already
        self._begun += size
        if self._since is None and size:
            self._since = self._clock()
        if self.total is not None and self.total < self._begun:
            self.total = self._begun

    def leave(self) -> None:
        """Note that all items of this part have begun."""
        self._rest = _nothing
        if not self._parts:
            self.total, self._counting = self._begun, None

    def report(self, count: int) -> None:
        """Report that so many more bytes are done. Called from any thread."""
        self._said = self.total
        self._progress(self._stage, count, self._said)

    def finish(self) -> None:
        """Make sure that the last report has the right total; all is reported now. Before the end, do nothing."""
        if not self._parts and self._begun and self._said != self.total:
            self.report(0)

    def pause(self) -> float | None:
        """Return how many seconds are left until it is time to count, at least 0; None when there is nothing to count.

        Who has to wait for work should wait so long, and count then.
        """
        if self.total is not None or self._failed or self._since is None or self._rest is None or None in self._parts:
            return None
        return max(0.0, self._since + AFTER - self._clock())

    def count(self) -> None:
        """Count for one turn. To be called when pause returned 0, or that time has passed."""
        self._count(TURN)

    def tick(self) -> None:
        """Count for one turn if it is time. Who has work to do calls this often."""
        if self.total is None and self.pause() == 0 and self._clock() >= self._next:
            self._count(TURN)
            self._next = self._clock() + TURN

    def _count(self, seconds: float) -> None:
        """Count what is still to begin: one item at least."""
        if self._counting is None:
            self._counting, self._counted = self._ahead(), self._begun
        until = self._clock() + seconds
        try:
            for size in self._counting:
                self._counted += size
                if self._clock() >= until:
                    return
        except CtxPackError:
            self._counting, self._failed = None, True
            return
        self._counting, self.total = None, max(self._counted, self._begun)

    def _ahead(self) -> Iterator[int]:
        for part in (self._rest, *self._parts):
            assert part is not None
            yield from part()


def _nothing() -> Iterator[int]:
    return iter(())
