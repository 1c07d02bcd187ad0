"""The rule of a root whose ``.gitignore`` files count. SPEC.md, section 6.1."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import Excludes, Verdict, compile_patterns
from ctxpack_identity.hashing.filehash import open_regular, require_unchanged, unreadable
from ctxpack_identity.hashing.scan import not_found_or_unreadable
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["MAX_GITIGNORE_BYTES", "gitignored"]

MAX_GITIGNORE_BYTES = 1 << 20  # of one file; people write a few KiB

_BOM = b"\xef\xbb\xbf"


def gitignored(root: str, base: str, *, before: Sequence[str], after: Sequence[str]) -> Excludes:
    """Return the rule of the ``.gitignore`` files from base down to root, and of those below root.

    root: a folder on disk. base: the contract file's folder. before, after: patterns that come before and after those
    of the files, so that after decides. Nothing is read before the rule is asked for the first time.
    The rule may be asked in any order; in that of a walk it reads each file once, and keeps those on the current path.
    It answers for a path below a folder that is left out, too. It raises InvalidInput for a file that is too large or
    changes while it is read, LocalFailure for one that cannot be read.
    """
    return _GitIgnore(root, base, before, after).leaves_out


class _Level(NamedTuple):
    """One folder on the way to the path asked about. path: relative to the root, with a final ``/``; "" for the root.

    patterns: of its file, if it has one.
    """

    path: str
    left_out: bool
    patterns: Verdict | None


class _GitIgnore:
    def __init__(self, root: str, base: str, before: Sequence[str], after: Sequence[str]) -> None:
        self._root, self._base = root, base
        self._before, self._after = compile_patterns(before), compile_patterns(after)
        self._above: list[tuple[str, Verdict]] = []
        self._levels: list[_Level] = []

    def leaves_out(self, path: str, is_folder: bool) -> bool:
        self._go_to(path[: path.rfind("/") + 1])
        return self._levels[-1].left_out or self._matches(path, is_folder)

    def _go_to(self, folder: str) -> None:
        """Make levels those of folder and the folders above it, up to the root."""
        levels = self._levels
        if not levels:
            self._above = _patterns_above(self._root, self._base)
            levels.append(_Level("", False, _patterns_in(self._root)))
        while not folder.startswith(levels[-1].path):
            levels.pop()
        while (start := len(levels[-1].path)) < len(folder):
            path = folder[: folder.index("/", start) + 1]
            left_out = levels[-1].left_out or self._matches(path[:-1], True)
            patterns = None if left_out else _patterns_in(os.path.join(self._root, path))
            levels.append(_Level(path, left_out, patterns))

    def _matches(self, path: str, is_folder: bool) -> bool:
        """Whether the last pattern that matches path leaves it out. Levels are those of the folder that it lies in."""
        verdict = self._after(path, is_folder)
        if verdict is not None:
            return verdict
        if path.endswith(".git") and path.rpartition("/")[2] == ".git":  # whatever the files say, as in git
            return True
        for level in reversed(self._levels):
            if level.patterns is not None:
                verdict = level.patterns(path[len(level.path) :], is_folder)
                if verdict is not None:
                    return verdict
        for prefix, patterns in reversed(self._above):
            verdict = patterns(prefix + path, is_folder)
            if verdict is not None:
                return verdict
        return bool(self._before(path, is_folder))


def _patterns_above(root: str, base: str) -> list[tuple[str, Verdict]]:
    """Return the patterns of base and of each folder between it and root, each with the path from there to root."""
    root, base = os.path.realpath(root), os.path.join(os.path.realpath(base), "")
    if root == base or not root.startswith(base):
        return []
    names = root[len(base) :].split("/")
    found = []
    for depth in range(len(names)):
        patterns = _patterns_in(os.path.join(base, *names[:depth]))
        if patterns is not None:
            found.append(("".join(f"{name}/" for name in names[depth:]), patterns))
    return found


def _patterns_in(folder: str) -> Verdict | None:
    """Return the patterns of a folder's ``.gitignore``, None when it has none. Like git, do not follow a link there."""
    location = os.path.join(folder, ".gitignore")
    try:
        status = os.lstat(location)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise not_found_or_unreadable(location, error) from error
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_size > MAX_GITIGNORE_BYTES:
        raise InvalidInput(
            "too large for a file of patterns",
            where=location,
            expected=f"at most {MAX_GITIGNORE_BYTES} bytes",
            got=str(status.st_size),
            fix='shorten it, or write the patterns as "exclude" in the contract instead of "gitignore"',
            code="E_TOO_LARGE",
        )
    with open(open_regular(location), "rb") as file:
        try:
            data = file.read(status.st_size + 1)
        except OSError as error:
            raise unreadable(location, error) from error
        require_unchanged(file.fileno(), location, status.st_size, status.st_mtime_ns)
    return compile_patterns(_lines(data))


def _lines(data: bytes) -> list[str]:
    """Return the lines of a file of patterns. Bytes that are not UTF-8 are read as those of file names are."""
    text = data.removeprefix(_BOM).decode("utf-8", "surrogateescape")
    return [line.removesuffix("\r") for line in text.split("\n")]
