"""Packs of the cache as lines: one for each, which fits a terminal."""

from __future__ import annotations

from datetime import datetime

from ctxpack_cli.terminal import human_files, human_size
from ctxpack_pantry import StoredPack, printable

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["fitted", "human_age", "long_line", "pack_lines", "short_digest"]

_DIGITS = 12  # of a URI; enough for a reference to a cached pack
_AGE, _SIZE = 6, 8  # columns: "59 min", "12.3 MiB"
_GAP = "  "
_LEAST_TEXT = 8  # columns below which the labels go, and then the tools
_LONGEST = 400  # characters of the tools, and of the labels, in a long line
_DAMAGED = "damaged; ctxpack rm removes it"


def pack_lines(packs: Sequence[StoredPack], *, width: int, now: float, by: str = "used") -> Iterator[str]:
    """Yield a line for each pack, of at most width columns: short digest, age, size, tools, labels.

    now: seconds since the epoch. by: what they are sorted by; by "created", the age is the time since they were made.
    """
    left = width - _DIGITS - _AGE - _SIZE - 3 * len(_GAP)  # for tools and labels
    texts = [(", ".join(pack.tools), _labels(pack)) for pack in packs]
    longest = max((_cells(fitted(tools, left)) for tools, _ in texts), default=0)
    labelled = any(labels for _, labels in texts)
    tools_width = min(longest, max(_LEAST_TEXT, (left - len(_GAP)) // 2) if labelled else left)
    for pack, (tools, labels) in zip(packs, texts, strict=True):
        age = human_age(now - (_made(pack, now) if by == "created" else pack.used))
        line = f"{short_digest(pack.uri)}{_GAP}{age:>{_AGE}}{_GAP}"
        if pack.manifest is None:
            yield fitted(f"{line}{_DAMAGED}", width)
            continue
        line = f"{line}{human_size(pack.manifest.outputs.size):>{_SIZE}}"
        shown = fitted(tools, tools_width)
        padded = f"{_GAP}{shown}{' ' * (tools_width - _cells(shown))}{_GAP}"
        yield fitted(f"{line}{padded}{fitted(labels, left - tools_width - len(_GAP))}".rstrip(" "), width)


def long_line(pack: StoredPack) -> str:
    """Return all that ls knows of a pack as one line: URI, size, files, when it was made, tools, labels."""
    if pack.manifest is None:
        return f"{pack.uri}{_GAP}{_DAMAGED}"
    outputs = pack.manifest.outputs
    texts = pack.created, ", ".join(pack.tools), _labels(pack)
    shown = [fitted(text, _LONGEST) for text in texts]
    return _GAP.join(
        [pack.uri, f"{human_size(outputs.size):>{_SIZE}}", f"{human_files(outputs.files):>12}", *filter(None, shown)]
    )


def short_digest(uri: str) -> str:
    """Return the first digits of a URI, which stand for it where the pack is cached.

    >>> short_digest("ctx://sha256:0123456789abcdef…")
    '0123456789ab'
    """
    return uri.rpartition(":")[2][:_DIGITS]


def human_age(seconds: float) -> str:
    """Return how long ago something was, as people say it: at most six characters.

    >>> human_age(3), human_age(3599), human_age(90_000), human_age(86_400 * 800)
    ('now', '59 min', '1 d', '2 y')
    """
    for least, unit, name in ((365.25 * 86_400 * 2, 365.25 * 86_400, "y"), (86_400, 86_400, "d"), (3600, 3600, "h")):
        if seconds >= least:
            return f"{min(int(seconds / unit), 9999)} {name}"
    return f"{int(seconds / 60)} min" if seconds >= 60 else "now"


def fitted(text: str, width: int) -> str:
    """Return text, printable, cut so that it takes at most width columns.

    >>> fitted("corpus\\x1b[2J", 10), fitted("図書館", 5)
    ('corpus\\\\u0…', '図書…')
    """
    shown = printable(text[: width + 1])
    if _cells(shown) <= width and len(text) <= width:
        return shown
    cells, end = 0, 0
    for c in shown:
        cells += _cells(c)
        if cells > width - 1:
            break
        end += 1
    return f"{shown[:end]}…" if width > 0 else ""


def _cells(text: str) -> int:
    """Return how many columns of a terminal text takes, at most. Marks that combine count as one."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width  # a megabyte, which few lists need

    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def _labels(pack: StoredPack) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(pack.labels.items()))


def _made(pack: StoredPack, now: float) -> float:
    """Return when its maker says that a pack was made; now if that is no time."""
    try:
        return datetime.fromisoformat(pack.created).timestamp()
    except (ValueError, OverflowError):
        return now
