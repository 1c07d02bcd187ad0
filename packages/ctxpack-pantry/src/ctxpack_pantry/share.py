"""A share of a stage's progress: at most its size is reported, and at its end all of it."""

from __future__ import annotations

import threading

from ctxpack_identity import Progress

__all__ = ["Share"]


class Share:
    """size: bytes of this share, perhaps an estimate. total: of all shares, by default this is the only one."""

    def __init__(self, progress: Progress, size: int, total: int | None = None) -> None:
        self._progress, self._left, self._total = progress, size, size if total is None else total
        self._lock = threading.Lock()

    def report(self, stage: str, advanced: int, total: int | None = None) -> None:
        """Report bytes, whatever total their maker knows. A Progress."""
        with self._lock:
            advanced = min(advanced, self._left)
            self._left -= advanced
        self._progress(stage, advanced, self._total)

    def finish(self, stage: str) -> None:
        """Report what is left: there was less to do, or it need not be done."""
        if self._left:
            self.report(stage, self._left)
