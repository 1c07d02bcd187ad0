"""What a project shows of its work: lock file, code, inputs, command, outputs; each guess with its reason.

Nothing is run but git. Everything is a path relative to the contract file's folder, as a contract file writes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice

from ctxpack_identity.lighttyping import NamedTuple
from ctxpack_pantry.tracked import Tracked, is_beside, is_source, tracked_sources

__all__ = ["LOCK_FILES", "GuessedRoot", "Project", "find_lock_file"]

# The most exact first, each with the suffix of the scripts that it is for.
LOCK_FILES = {
    "uv.lock": ".py",
    "pylock.toml": ".py",
    "poetry.lock": ".py",
    "pdm.lock": ".py",
    "Pipfile.lock": ".py",
    "pixi.lock": "",
    "conda-lock.yml": "",
    "conda-lock.yaml": "",
    "requirements.lock": ".py",
    "requirements.txt": ".py",
    "renv.lock": ".R",
    "Manifest.toml": ".jl",
    "package-lock.json": ".js",
    "npm-shrinkwrap.json": ".js",
    "pnpm-lock.yaml": ".js",
    "yarn.lock": ".js",
    "bun.lock": ".js",
    "deno.lock": ".js",
    "Cargo.lock": ".rs",
    "go.sum": ".go",
    "Gemfile.lock": ".rb",
    "composer.lock": ".php",
    "flake.lock": "",
}

_RUNNERS = {".py": "python", ".sh": "sh", ".R": "Rscript", ".jl": "julia", ".js": "node", ".mjs": "node", ".rb": "ruby"}
_SCRIPTS = ("ingest", "main", "run", "pipeline", "process")  # stems, the likeliest first
_BELOW = ("", "src", "scripts", "bin")  # where they are looked for

# Words of the names of folders.
_RAW = frozenset({"in", "input", "inputs", "raw"})
_IN = _RAW | {"corpora", "corpus", "data", "dataset", "datasets", "documents", "papers", "pdfs"}
_OUT = frozenset({"generated", "out", "output", "outputs", "processed", "result", "results"})
_NEITHER = frozenset({"backup", "cache", "clean", "cleaned", "interim", "lib", "old", "temp", "test", "tests", "tmp"})

_MOST_ROOTS = 8
_ENTRIES = 10_000  # of a folder
_ABOVE = 40  # folders
_HEAD = 64 << 10  # bytes of a script

# Paths in a script: an argument of what opens or makes them, a value, or a word of a shell that has a slash. Only an
# argument in quotes may have blanks: a value with blanks is a sentence.
_find_paths = re.compile(
    r"""(?: \b(?:Path|open|mkdirs?|makedirs|join)\(\s* | \bmkdir\s+(?:-p\s+)? | (?<!-)>\s* ) ["'] (?P<quoted>[\w./\ -]+)
      | (?<![=!<>])=\s*["'] (?: [\w./-]*\ [\w./\ -]* | (?P<value>[\w./-]+) )
      | (?: \bmkdir\s+(?:-p\s+)? | (?<!-)>\s* ) (?P<argument>[\w./-]+)
      | (?<![\w./:-]) (?P<word>(?:\./)?[\w.-]+/[\w./-]*)""",
    re.VERBOSE,
).finditer


class GuessedRoot(NamedTuple):
    """A file or folder of the project. gitignore: whether the .gitignore files should count in it."""

    path: str
    why: str
    gitignore: bool = False


class Project:
    """The project around a contract file. folder: of the contract file.

    inputs, outputs, code: what is known already. What is guessed is none of it. Where one lies in another, it does so
    as the paths are written, not through links: so a pattern can leave it out.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder or "."

    @cached_property
    def _tracked(self) -> Tracked | None:
        return tracked_sources(self._folder)

    def command(self) -> tuple[list[str], str] | None:
        """Return a command that runs a script of the project, and why."""
        for below in _BELOW:
            for stem in _SCRIPTS:
                for suffix, runner in _RUNNERS.items():
                    path = os.path.join(below, stem + suffix)
                    if os.path.isfile(self._at(path)):
                        return [self._runner(path, runner), path], "a script with such a name is here"
        scripts = [name for name in self._names() if self._is_script(name)]
        if len(scripts) == 1:
            [script] = scripts
            return [self._runner(script, _RUNNERS[os.path.splitext(script)[1]]), script], "the only script here"
        return None

    def code(self, inputs: Sequence[str], outputs: Sequence[str]) -> list[GuessedRoot]:
        """Return the files and folders with source code that git tracks, one of the whole project if they are many."""
        tracked = self._tracked
        if tracked is None:
            return []
        found = [GuessedRoot(f"./{name}", "git tracks it") for name in tracked.files if os.path.isfile(self._at(name))]
        for name, count in tracked.folders.items():
            if os.path.isdir(self._at(name)):
                files = "1 source file" if count == 1 else f"{count} source files"
                found.append(GuessedRoot(f"./{name}", f"git tracks {files} there", name not in tracked.ignored))
        others = [*inputs, *outputs]
        found = [root for root in found if root.path.isprintable() and self._is_apart(root.path, others, may_hold=True)]
        if len(found) > _MOST_ROOTS and self._is_apart(".", others, may_hold=True):
            return [GuessedRoot(".", f"git tracks source code at {len(found)} places here", not tracked.ignored)]
        return found

    def inputs(self, code: Sequence[str], outputs: Sequence[str]) -> list[GuessedRoot]:
        """Return folders with data that is read, by their names: data/raw where there is one, else data."""
        found: list[GuessedRoot] = []
        for name in self._names():
            if not _has(name, _IN) or not self._is_data(name):
                continue
            raw = [f"{name}/{child}" for child in self._names(name) if _has(child, _RAW)]
            for path in [path for path in raw if self._is_data(path)] or [name]:
                is_new = self._is_apart(path, [root.path for root in found])
                if is_new and self._is_apart(path, outputs, may_hold=True) and self._is_apart(path, code, may_lie=True):
                    found.append(GuessedRoot(f"./{path}", "a folder with such a name is here"))
        return found

    def output(self, script: str, hashed: Sequence[str]) -> GuessedRoot | None:
        """Return what the script seems to make. script: its path, or ""."""
        for path in self._named_in(script) if script else ():
            if self._may_be_output(path, hashed):
                return GuessedRoot(f"./{path}", f"{script} names it")
        for name in self._names():
            if _has(name, _OUT) and os.path.isdir(self._at(name)) and self._may_be_output(name, hashed):
                return GuessedRoot(f"./{name}", "a folder with such a name is here")
        return None

    def first_free(self, options: Sequence[str], others: Sequence[str]) -> str:
        """Return the first of options that can stand beside others, or the last. None of them is there yet."""
        free = (path for path in options if self._is_apart(path, others, may_lie=True, may_hold=True))
        return next(free, options[-1])

    def are_apart(self, path: str, others: Sequence[str]) -> bool:
        """Return whether path is none of others, holds none and lies in none."""
        return self._is_apart(path, others)

    def _named_in(self, script: str) -> Iterator[str]:
        """Yield paths with a segment that is called like an output, up to this segment, as they come in the script."""
        try:
            with open(self._at(script), "rb") as file:
                text = file.read(_HEAD).decode(errors="replace")
        except OSError:
            return
        for found in _find_paths(text):
            if found.lastgroup is None:
                continue
            path = os.path.normpath(found[found.lastgroup])
            segments = path.split("/")
            if os.path.isabs(path) or ".." in segments:
                continue
            end = next((number for number, segment in enumerate(segments, 1) if _has(segment, _OUT)), 0)
            if end:
                yield "/".join(segments[:end])

    def _may_be_output(self, path: str, hashed: Sequence[str]) -> bool:
        is_code = is_source(path) or path in self._sources()
        return not is_code and self._is_apart(path, hashed, may_lie=True)

    def _is_data(self, path: str) -> bool:
        """Return whether there is a folder with something in it, and no source code that git tracks."""
        if not os.path.isdir(self._at(path)) or path.partition("/")[0] in self._sources():
            return False
        return any(not name.startswith(".") for name in self._names(path))

    def _sources(self) -> Iterable[str]:
        return () if self._tracked is None else self._tracked.folders

    def _is_script(self, name: str) -> bool:
        if is_beside(name) or name.startswith(("test_", "__")):
            return False
        return os.path.splitext(name)[1] in _RUNNERS and os.path.isfile(self._at(name))

    def _runner(self, path: str, runner: str) -> str:
        """Return the program for a script: for one of a shell, the shell that its first line names."""
        if runner != "sh":
            return runner
        try:
            with open(self._at(path), "rb") as file:
                first = file.readline(200)
        except OSError:
            return runner
        return "bash" if first.startswith(b"#!") and b"bash" in first else runner

    def _names(self, below: str = "") -> list[str]:
        """Return the names in a folder of the project, sorted, that a contract file can hold."""
        try:
            with os.scandir(self._at(below)) as entries:
                return sorted(entry.name for entry in islice(entries, _ENTRIES) if entry.name.isprintable())
        except OSError:
            return []

    def _is_apart(self, path: str, others: Iterable[str], *, may_lie: bool = False, may_hold: bool = False) -> bool:
        """Return whether path is none of others, lies in none and holds none. Links are followed.

        may_lie: it may lie in one of them; may_hold: it may hold one; both as the paths are written.
        """
        place = os.path.realpath(self._at(path))
        for other in others:
            there = os.path.realpath(self._at(other))
            if place == there:
                return False
            if place.startswith(os.path.join(there, "")) and not (may_lie and _is_below(path, other)):
                return False
            if there.startswith(os.path.join(place, "")) and not (may_hold and _is_below(other, path)):
                return False
        return True

    def _at(self, path: str) -> str:
        return os.path.join(self._folder, path)


def find_lock_file(folder: str, scripts: Sequence[str]) -> tuple[str, str] | None:
    """Return the path of the lock file beside the contract file, or above it in its git repository, and why.

    scripts: that the command runs; lock files of their language come first.
    """
    languages = {os.path.splitext(script)[1] for script in scripts} & set(LOCK_FILES.values())
    names = sorted(LOCK_FILES, key=lambda name: bool(languages) and LOCK_FILES[name] not in {"", *languages})
    up = "."
    for _ in range(_ABOVE):
        there = [name for name in names if os.path.isfile(os.path.join(folder, up, name))]
        if there:
            place = "here" if up == "." else "in a folder above, of the same git repository"
            others = f"; so {'is' if len(there) == 2 else 'are'} {', '.join(there[1:])}" if there[1:] else ""
            return os.path.join(up, there[0]), f"a lock file {place}{others}"
        if not _is_in_repository(folder, up):
            return None
        up = ".." if up == "." else f"{up}/.."
    return None


def _is_in_repository(folder: str, up: str) -> bool:
    """Return whether the folder is one of a git repository, and not its top."""
    place = os.path.join(folder, up)
    if os.path.lexists(os.path.join(place, ".git")):
        return False
    path = os.path.realpath(place)
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        if os.path.lexists(os.path.join(path, ".git")):
            return True
    return False


def _has(name: str, words: frozenset[str]) -> bool:
    """Return whether one of the words of a name is one of words: "raw_docs" has "raw"; "in-old" has none."""
    own = set(re.split(r"[^a-z0-9]+", name.lower()))
    others = _NEITHER if words is _OUT else _NEITHER | _OUT
    return not name.startswith(".") and bool(own & words) and not own & others


def _is_below(path: str, other: str) -> bool:
    """Return whether path lies below other, as both are written."""
    return os.path.relpath(path, other).split("/")[0] not in (".", "..")
