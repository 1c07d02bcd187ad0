"""Make the virtual environment of the demo, and print the folder of its commands.

    python3 tools/demo/environment.py

Needs only Python 3.11 or newer and a package index. The environment has the CtxPack of this clone, editable, and the
requirements of the pipeline. It is kept in ``.work/demo/venv`` and made again when one of these has changed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CLONE / "tools"))

from authorities import trusting  # noqa: E402

WORK = CLONE / ".work"
VENV = WORK / "demo" / "venv"
COMMANDS = VENV / "bin"
STAMP = VENV / "made-from"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CONSTRAINTS = CLONE / "constraints.txt"

# Installed too, so that pip need not make six build environments one after the other.
BUILD_TOOLS = ("hatchling", "editables")


def packages() -> list[Path]:
    """Return the folder of every CtxPack package in this clone."""
    return sorted(project.parent for project in CLONE.glob("packages/*/pyproject.toml"))


def sources_digest() -> str:
    """Return a digest of all that the environment is made from, with the path of the clone, which its scripts hold."""
    sources = [Path(__file__), REQUIREMENTS, CONSTRAINTS, *(package / "pyproject.toml" for package in packages())]
    made_from = [sys.version, sys.base_prefix, str(CLONE), *(path.read_text(encoding="utf-8") for path in sources)]
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()


def make() -> None:
    """Make the environment, and remove an older one. Raises: CalledProcessError."""
    run(sys.executable, "-m", "venv", "--clear", str(VENV))
    pip = (str(COMMANDS / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
    install = (*pip, "install", "--constraint", str(CONSTRAINTS))
    run(*install, "--requirement", str(REQUIREMENTS), *BUILD_TOOLS)
    # In one command, so that each package finds its siblings here, not on the index.
    editables = [part for package in packages() for part in ("--editable", str(package))]
    run(*install, "--no-build-isolation", *editables)


def run(*command: str) -> None:
    """Run command with its output on stderr: stdout is for the result. Raises: CalledProcessError."""
    subprocess.run(command, check=True, stdout=sys.stderr, env=contained_environment())


def contained_environment() -> dict[str, str]:
    """Return the environment of this process, changed so that pip caches in .work and trusts what this machine does."""
    environment = {"PIP_CACHE_DIR": str(WORK / "cache" / "pip"), **os.environ}
    return trusting(environment, WORK / "authorities.pem")


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (people start the demo with an older Python too)
        raise SystemExit(f"expected Python 3.11 or newer, got {sys.version.split()[0]}")
    if not STAMP.exists() or STAMP.read_text(encoding="utf-8") != sources_digest():
        print(f"Installing into {VENV} (once)", file=sys.stderr)
        try:
            make()
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"`{shlex.join(error.cmd)}` failed; the reason is above") from None
        STAMP.write_text(sources_digest(), encoding="utf-8")
    print(COMMANDS)


if __name__ == "__main__":
    main()
