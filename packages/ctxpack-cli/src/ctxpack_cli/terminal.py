"""What people see: results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from _thread import allocate_lock  # threading.Lock, without importing threading for every command
from itertools import chain

from ctxpack_cli.exitcode import exit_code
from ctxpack_pantry import CtxPackError, error_as_json, printable

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol, TextIO

    class Result(Protocol):
        """What a verb of the pantry returns."""

        def as_json(self) -> dict[str, Any]: ...

    class LongResult(Protocol):
        """A result with many elements. head_as_json: its document without `entries`, which sorts before the others."""

        def head_as_json(self) -> dict[str, Any]: ...

        def elements(self) -> Iterable[dict[str, Any]]: ...


__all__ = ["Terminal", "columns", "human_files", "human_size", "json_text"]

_FIRST = 1.0  # seconds before anything is shown: short work needs no progress
_REDRAW = 0.1  # seconds between two drawings on a terminal
_LINE = 10.0  # seconds between two lines in a log
_BLOCK = 64 << 10  # bytes of a long result that are written at once
_NARROWEST, _USUAL = 20, 80  # columns

_VERBS = {
    "hash": "hashing",
    "seed": "seeding",
    "push": "pushing",
    "pull": "pulling",
    "place": "placing",
    "check": "checking",
    "compare": "comparing",
    "copy": "copying",
    "export": "exporting",
    "map": "mapping",
}
_OF_ITEMS = ("map",)  # stages that count items, not bytes


class Terminal:
    """Results, hints, errors and progress of one command.

    errors: stderr. live: whether a line there can be redrawn. quiet: errors only. as_json: one document each for the
    result and for an error. clock: seconds.
    """

    def __init__(
        self,
        errors: TextIO,
        *,
        live: bool,
        quiet: bool,
        as_json: bool,
        color: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.as_json = as_json
        self._errors, self._live, self._quiet, self._color, self._clock = errors, live, quiet, color, clock
        self._lock = allocate_lock()
        self._stage = ""
        self._done, self._total = 0, 0
        self._started = self._shown = clock()
        self._drawn = False
        self._closed = self._unread = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Terminal:
        """Return the terminal that arguments and environment ask for (no-color.org)."""
        live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        color = live and not os.environ.get("NO_COLOR")
        return cls(sys.stderr, live=live, quiet=arguments.quiet, as_json=arguments.json, color=color)

    @property
    def can_ask(self) -> bool:
        """Whether a person sees what is said, and may be asked something."""
        return self._live and not (self._quiet or self.as_json)

    def show(self, result: Result, *lines: str, bare: str = "") -> None:
        """Print the result of a command: lines, or with --json the result's document.

        bare: instead of lines with --quiet, for `$(…)`.
        """
        if self.as_json:
            lines = (json_text(result.as_json(), indent=2),)
        elif self._quiet and bare:
            lines = (bare,)
        for line in lines:
            self.say(line)

    def show_many(self, result: LongResult, lines: Iterable[str]) -> None:
        """Print the result of a command, as show does, but of a million elements, which are not held in memory."""
        if not self.as_json:
            self._write_all(f"{line}\n" for line in lines)
            return
        elements = (f"{',' if number else ''}\n    {json_text(one)}" for number, one in enumerate(result.elements()))
        rest = json_text(result.head_as_json(), indent=2).removeprefix("{")
        self._write_all(chain(['{\n  "entries": ['], elements, [f"\n  ],{rest}\n"]))

    def _write_all(self, texts: Iterable[str]) -> None:
        """Write texts, many at a time. What fails early has written nothing."""
        block, size = list[bytes](), 0
        for text in texts:
            block.append(os.fsencode(text))
            size += len(block[-1])
            if size > _BLOCK:
                self.write(b"".join(block))
                block, size = [], 0
        if block:
            self.write(b"".join(block))

    def say(self, line: str) -> None:
        """Print a line of the result."""
        self.write(os.fsencode(line + "\n"))  # a path may not be valid text: print its bytes

    def write(self, data: bytes) -> None:
        """Write bytes of the result to stdout. If its reader has left, nobody wants the rest, which is no failure."""
        with self._lock:
            self._erase()
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()  # before the hints, also where both streams end up in one file
        except (BrokenPipeError, ConnectionResetError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # also what is still in the buffer

    def hint(self, message: str) -> None:
        """Print a line that people need and programs do not."""
        with self._lock:
            if not self._quiet and not self._closed:
                self._erase()
                self._write(f"ctxpack: {printable(message)}\n")

    def fail(self, error: CtxPackError) -> None:
        """Print an error: what, where, expected, got, what to do."""
        with self._lock:
            self._erase()
            if self.as_json:
                document = error_as_json(error) | {"exit": exit_code(error)}
                self._write(json_text(document) + "\n")
            else:
                label = "\033[1;31merror:\033[0m" if self._color else "error:"
                self._write(f"ctxpack: {label} {_text_of(error)}\n")

    def progress(self, stage: str, advanced: int, total: int | None) -> None:
        """Count bytes, and show the count from time to time. A ctxpack_pantry.Progress."""
        with self._lock:
            now = self._clock()
            is_over = advanced > 0 and 0 < self._total <= self._done  # as when `run` hashes a second time
            if stage != self._stage or is_over:
                self._stage, self._done, self._started, self._shown = stage, 0, now, now
            self._done += advanced
            self._total = total or 0
            due = _REDRAW if self._live else _LINE
            if not self._quiet and not self._closed and now - self._started >= _FIRST and now - self._shown >= due:
                self._shown = now
                self._draw(now - self._started)

    def close(self) -> None:
        """Erase the progress line, and draw no other: threads of an interrupted command may still report."""
        self._closed = True
        with self._lock:
            self._erase()

    def _draw(self, seconds: float) -> None:
        rate = self._done / seconds
        of_items = self._stage in _OF_ITEMS
        amount = _items if of_items else human_size
        done = f"{self._done:,}" if of_items and self._total else amount(self._done)
        total = f" of {amount(self._total)}" if self._total else ""
        parts = [f"{_VERBS.get(self._stage, self._stage)} {done}{total}"]
        parts.append(f"{amount(rate)}/s")
        if self._total > self._done and rate:
            parts.append(f"{_duration((self._total - self._done) / rate)} left")
        line = ", ".join(parts)
        if self._live:
            self._drawn = True  # first: an interruption may come at any moment
            self._write(f"\r\033[K{line}")
        else:
            self._write(f"ctxpack: {line}\n")

    def _erase(self) -> None:
        if self._drawn:
            self._write("\r\033[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        if self._unread:
            return
        try:
            self._errors.write(text)
            self._errors.flush()
        except (OSError, ValueError):  # the work goes on without stderr
            self._unread = True


def json_text(value: object, *, indent: int | None = None, sort_keys: bool = True) -> str:
    """Return value as JSON in which characters that do not print are escaped, so that none can control a terminal.

    >>> json_text({"name": "größe\\x9b\\u202e"})
    '{"name": "größe\\\\u009b\\\\u202e"}'
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)
    # They are all inside strings. A line feed is not: there it is escaped already.
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def columns() -> int:
    """Return the width of the terminal that shows results: of COLUMNS, or of stdout; 80 when that is no terminal."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isascii() and wanted.isdigit() and int(wanted[:6]) > 0:
        return max(_NARROWEST, int(wanted[:6]))
    try:
        return max(_NARROWEST, os.get_terminal_size(sys.stdout.fileno()).columns or _USUAL)
    except (OSError, ValueError, AttributeError):
        return _USUAL


def human_files(count: int) -> str:
    """Return a number of files as people read it.

    >>> human_files(1), human_files(2)
    ('1 file', '2 files')
    """
    return f"{count} file{'' if count == 1 else 's'}"


def human_size(count: float) -> str:
    """Return bytes as people read them: powers of 1024, three digits.

    >>> human_size(0), human_size(1536), human_size(5 * 1024**3)
    ('0 B', '1.50 KiB', '5.00 GiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    index = 0
    while count >= 1000 and index < len(units) - 1:
        count, index = count / 1024, index + 1
    if index == 0:
        return f"{count:.0f} B"
    return f"{count:.{2 if count < 10 else 1 if count < 100 else 0}f} {units[index]}"


def _items(count: float) -> str:
    return f"{count:,.1f} items" if count < 10 and count != int(count) else f"{count:,.0f} item{'s' * (count != 1)}"


def _escaped(line: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds) + 1, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _text_of(error: CtxPackError) -> str:
    """Return what an error says; several faults of a contract have a line each."""
    faults = getattr(error, "faults", ())
    if len(faults) < 2:
        return str(error)
    more: int = getattr(error, "more", 0)
    lines = [f"{error.where}: {len(faults) + more} faults", *(f"  {fault}" for fault in faults)]
    return "\n".join(map(printable, [*lines, f"  and {more} more"] if more else lines))
