"""What git tracks below a folder: which of its files and folders are source code."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from subprocess import SubprocessError

from ctxpack_identity.lighttyping import NamedTuple
from ctxpack_pantry.githead import Git

__all__ = ["Tracked", "is_beside", "is_source", "tracked_sources"]

# By the suffix of a file.
is_source = re.compile(
    r".*\.(?:R|bash|c|cc|cpp|cs|cu|cuh|ex|exs|go|h|hpp|hs|java|jl|js|jsx|kt|lua|m|mjs|ml|nf|php|pl|proto|py|pyi|pyx|r|rb|rs|"
    r"scala|sh|smk|sql|swift|ts|tsx)",
    re.DOTALL,
).fullmatch

# Folders that the work does not need, and files that only build, test or describe the project.
is_beside = re.compile(
    r"\..*|bench|benchmarks?|docs?|examples?|node_modules|spec|testdata|tests?|third_party|vendor|"
    r"(?:conftest|noxfile|setup|tasks|versioneer)\.py",
    re.DOTALL,
).fullmatch


class Tracked(NamedTuple):
    """files: source files in the folder itself; folders: those with source files, and how many there are.

    ignored: of them those in which a .gitignore leaves out a file that git tracks all the same.
    """

    files: tuple[str, ...]
    folders: dict[str, int]
    ignored: frozenset[str]


def tracked_sources(folder: str) -> Tracked | None:
    """Return what git tracks of source code at and below folder. None where nothing is known: no git, no repository,
    one that git refuses to read. Nothing that the repository configures is run, and nothing is fetched.

    Memory: the names in the folder.
    """
    try:
        files, folders = set[str](), dict[str, int]()
        for mode, path in _listed(folder, "--stage"):
            top, _, below = path.partition("/")
            if not stat.S_ISREG(mode) or not is_source(path) or any(map(is_beside, path.split("/"))):
                continue
            if below:
                folders[top] = folders.get(top, 0) + 1
            else:
                files.add(top)
        ignored = _listed(folder, "--stage", "--ignored", "--exclude-per-directory=.gitignore")
        tops = frozenset(path.partition("/")[0] for _, path in ignored)
    except (OSError, ValueError, SubprocessError):
        return None
    return Tracked(tuple(sorted(files)), dict(sorted(folders.items())), tops)


def _listed(folder: str, *options: str) -> Iterator[tuple[int, str]]:
    """Yield mode and path, relative to folder, of what git tracks. Raises: OSError, ValueError when git fails."""
    with contextlib.closing(Git(os.fsencode(folder), "ls-files", "-z", "--cached", *options)) as git:
        for record in git.records(b"\0"):
            about, _, path = record.partition(b"\t")
            yield int(about.split(b" ")[0], 8), os.fsdecode(path)
        if not git.has_succeeded():
            raise ValueError("git failed")
