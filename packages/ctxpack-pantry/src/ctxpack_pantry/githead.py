"""Git's HEAD: whether files are in it just as they are, so that deleting them loses nothing.

Whoever wrote a repository's configuration must not get a program run here. So only `git rev-parse`, `git ls-tree` and
`git cat-file --batch-check` are used, which neither convert contents nor look at the index; nothing is fetched; and
what git would say about the files on disk is found out here instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import stat
import subprocess
from collections.abc import Iterable, Iterator

from ctxpack_identity.lighttyping import NamedTuple
from ctxpack_identity.secrets import child_environment

__all__ = ["Git", "is_in_head"]

_PATIENCE = 30.0  # seconds that git may be silent
_BLOCK = 1 << 20  # bytes
_LONGEST = 1 << 16  # bytes of a record: twice what a path may have

_SETTINGS = {
    "GIT_ALLOW_PROTOCOL": "none",  # no protocol has that name; for versions of git that fetch lazily all the same
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_OPTIONS = ("--no-pager", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")


class _Entry(NamedTuple):
    """A line of ls-tree. path: relative to the top of the work tree."""

    mode: bytes
    id: bytes
    path: bytes


def is_in_head(path: str) -> bool:
    """Return whether every file at or below path is tracked and equal to git's HEAD: content, kind, executable bit.

    path: a file, a folder, or a link, which is not followed. Folders without files count as nothing; what is in HEAD
    only does not matter. False whenever it is not certain: there is no git, no repository, no commit, a repository that
    git refuses to read; a submodule, a file that git converts on checkout (line ends, LFS), one that changes meanwhile,
    an object that is not on this disk, an error. Nothing that the repository configures is run.
    """
    try:
        return _is_in_head(os.fsencode(path))
    except (OSError, ValueError, subprocess.SubprocessError):
        return False


def _is_in_head(path: bytes) -> bool:
    path = os.path.abspath(path)
    is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    folder = path if is_folder else os.path.dirname(path)
    shown = subprocess.run(
        _command(folder, "rev-parse", "--show-toplevel"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        timeout=_PATIENCE,
        check=True,
    )
    above = os.path.join(os.path.realpath(shown.stdout.removesuffix(b"\n")), b"")
    if not shown.stdout or not path.startswith(above):
        return False
    relative = path.removeprefix(above)
    with (
        contextlib.closing(Git(folder, "ls-tree", "-r", "-z", "--full-tree", "HEAD", "--", relative)) as tree,
        contextlib.closing(Git(folder, "cat-file", "--batch-check")) as objects,
    ):
        entries = _entries(tree)
        present = _Present(objects)
        for found in _files(path, is_folder):
            wanted = found.removeprefix(above)
            entry = next((entry for entry in entries if entry.path >= wanted), None)
            if entry is None or entry.path != wanted or not _same(found, entry, present):
                return False
        for _ in entries:
            pass
        return tree.has_succeeded()


def _command(folder: bytes, *arguments: str | bytes) -> list[str | bytes]:
    return ["git", "-C", folder, *_OPTIONS, *arguments]


def _environment() -> dict[str, str]:
    """Return our environment without secrets, and without what tells git where to look and what to run."""
    return {name: value for name, value in child_environment().items() if not name.startswith("GIT_")} | _SETTINGS


class Git:
    """A git process in a folder, with arguments that run nothing that the repository configures.

    Raises: OSError when there is no git.
    """

    def __init__(self, folder: bytes, *arguments: str | bytes) -> None:
        self._process = subprocess.Popen(
            _command(folder, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            bufsize=0,  # what is asked arrives before the answer is awaited
        )

    def ask(self, line: bytes) -> None:
        """Write a line, which fits into a pipe. Raises: BrokenPipeError when git has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")

    def records(self, end: bytes) -> Iterator[bytes]:
        """Yield what git prints, each without its end. Raises: TimeoutError when it is silent; ValueError."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        rest = b""
        while True:
            if not ready.poll(_PATIENCE * 1000):
                raise TimeoutError("git is silent")
            block = os.read(fd, 1 << 16)
            *complete, rest = (rest + block).split(end)
            yield from complete
            if len(rest) > _LONGEST or (rest and not block):
                raise ValueError("git printed an incomplete record")
            if not block:
                return

    def has_succeeded(self) -> bool:
        """Return whether git ended with status 0, once it has closed its output. Raises: subprocess.TimeoutExpired."""
        return self._process.wait(_PATIENCE) == 0

    def close(self) -> None:
        """Kill git if it still runs."""
        with self._process:
            self._process.kill()


def _entries(tree: Git) -> Iterator[_Entry]:
    """Yield what ls-tree prints, in the order of bytes. Raises: ValueError for a submodule and for an odd line."""
    for record in tree.records(b"\0"):
        about, _, path = record.partition(b"\t")
        mode, kind, name = about.split(b" ")
        if kind != b"blob":
            raise ValueError("a submodule")
        yield _Entry(mode, name, path)


def _files(top: bytes, is_folder: bool) -> Iterator[bytes]:
    """Yield the path of top, or of everything below it but folders, in git's order: a folder as if its name ended in /.

    Memory: the names in the folders on the current path.
    """
    pending = [os.path.join(top, b"") if is_folder else top]
    while pending:
        path = pending.pop()
        if not path.endswith(b"/"):
            yield path
            continue
        with os.scandir(path) as children:
            names = [child.path + b"/" if child.is_dir(follow_symlinks=False) else child.path for child in children]
        pending += sorted(names, reverse=True)


class _Present:
    """Whether a blob is on this disk, as `git cat-file --batch-check` answers."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._answers = git.records(b"\n")

    def holds(self, name: bytes, size: int) -> bool:
        """Return whether it has the blob with this id and size (bytes). Raises: OSError, ValueError."""
        self._git.ask(name)
        return next(self._answers, b"") == b"%b blob %d" % (name, size)


def _same(path: bytes, entry: _Entry, present: _Present) -> bool:
    """Return whether HEAD has the file or link at path as it is. Raises: OSError, ValueError."""
    if os.path.islink(path):
        text = os.readlink(path)
        return entry.mode == b"120000" and _is_blob(entry.id, [text], len(text)) and present.holds(entry.id, len(text))
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        mode = b"100755" if status.st_mode & stat.S_IXUSR else b"100644"
        if not stat.S_ISREG(status.st_mode) or entry.mode != mode:
            return False
        blocks = iter(lambda: os.read(fd, _BLOCK), b"")
        return _is_blob(entry.id, blocks, status.st_size) and present.holds(entry.id, status.st_size)
    finally:
        os.close(fd)


def _is_blob(name: bytes, blocks: Iterable[bytes], size: int) -> bool:
    """Return whether the blob of that id has this content, of size bytes (gitformat-pack, "Object types")."""
    algorithm = "sha1" if len(name) == 40 else "sha256"
    digest = hashlib.new(algorithm, b"blob %d\0" % size, usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest().encode() == name
