"""Make the demo's own virtual environment, and print the folder its commands are in.

    python3 tools/demo/environment.py

Needs Python 3.11 or newer and a package index, nothing else. The environment holds the CtxPack of this clone, editable,
and what the demo's pipeline needs. It is kept in ``.work/demo/venv`` and made anew when one of these changed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
VENV = CLONE / ".work" / "demo" / "venv"
COMMANDS = VENV / "bin"
STAMP = VENV / "made-from"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CONSTRAINTS = CLONE / "constraints.txt"

# Installed beside the packages, so that pip need not make six build environments one after the other.
BUILD_TOOLS = ("hatchling", "editables")


def packages() -> list[Path]:
    """Return the folder of every CtxPack package in this clone."""
    return sorted(project.parent for project in CLONE.glob("packages/*/pyproject.toml"))


def recipe() -> str:
    """Return a name for everything the environment is made from; scripts in it hold the path of the clone."""
    sources = [Path(__file__), REQUIREMENTS, CONSTRAINTS, *(package / "pyproject.toml" for package in packages())]
    made_from = [sys.version, sys.base_prefix, str(CLONE), *(path.read_text(encoding="utf-8") for path in sources)]
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()


def make() -> None:
    """Make the environment, in place of one that is there. Raises: CalledProcessError."""
    run(sys.executable, "-m", "venv", "--clear", str(VENV))
    pip = (str(COMMANDS / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
    install = (*pip, "install", "--constraint", str(CONSTRAINTS))
    run(*install, "--requirement", str(REQUIREMENTS), *BUILD_TOOLS)
    editables = [part for package in packages() for part in ("--editable", str(package))]
    run(*install, "--no-build-isolation", *editables)  # all at once: each finds its siblings here, not on the index


def run(*command: str) -> None:
    """Run command with its output on stderr, since stdout is for the answer. Raises: CalledProcessError."""
    cache = os.environ.get("PIP_CACHE_DIR", str(CLONE / ".work" / "cache" / "pip"))
    subprocess.run(command, check=True, stdout=sys.stderr, env={**os.environ, "PIP_CACHE_DIR": cache})


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - the one script that an older Python may be asked to run
        raise SystemExit(f"expected Python 3.11 or newer, got {sys.version.split()[0]}")
    if not STAMP.exists() or STAMP.read_text(encoding="utf-8") != recipe():
        print(f"Installing into {VENV} (once)", file=sys.stderr)
        try:
            make()
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"`{shlex.join(error.cmd)}` failed; it says why above") from None
        STAMP.write_text(recipe(), encoding="utf-8")
    print(COMMANDS)


if __name__ == "__main__":
    main()
