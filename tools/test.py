"""Run every check, from a fresh clone and with only Python 3.11 or newer.

    python3 tools/test.py             # every step
    python3 tools/test.py lint types  # some steps

Hatch, the environments, the caches and the registry are put into ``.work/`` of the clone, nothing elsewhere. The
commands of the steps are in hatch.toml. Exit status 0 only if every step passed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".work"
VENV = WORK / "venv"
EMPTY_CONFIG = WORK / "hatch" / "config.toml"  # not the one of the developer
BIN = VENV / "bin"

# "programs" is a function here, the others are scripts of hatch.toml.
STEPS = ("programs", "lint", "types", "isolated", "integration")

# Variables that would bring in another environment or another configuration of hatch.
FOREIGN = ("HATCH_ENV", "HATCH_ENV_ACTIVE", "HATCH_PROJECT", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


class Outcome(NamedTuple):
    """The result of one step. counts: the last lines of its pytest runs."""

    step: str
    passed: bool
    seconds: float
    counts: list[str]


class CannotBegin(Exception):
    """This machine lacks something that every step needs; the text says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every check of CtxPack, or the steps named.")
    parser.add_argument("steps", nargs="*", metavar="step", help=f"one of: {', '.join(STEPS)} (default: all)")
    asked = parser.parse_args().steps
    unknown = sorted(set(asked) - set(STEPS))
    if unknown:
        parser.error(f"no such step: {', '.join(unknown)}; there are: {', '.join(STEPS)}")
    try:
        return run_steps([step for step in STEPS if step in (asked or STEPS)])
    except CannotBegin as error:
        print(f"tools/test.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run_steps(steps: list[str]) -> int:
    """Set up, run every step even after one has failed, and print a summary; return the exit status."""
    begun = time.monotonic()
    require_python()
    environment = contained_environment()
    install_hatch(environment)
    outcomes = [Outcome("set-up", True, time.monotonic() - begun, [])]
    for step in steps:
        print(f"\n--- {step}", flush=True)
        begun = time.monotonic()
        passed, counts = obtain_programs() if step == "programs" else run_script(step, environment)
        outcomes.append(Outcome(step, passed, time.monotonic() - begun, counts))
    return sum_up(outcomes)


def require_python() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (people start this file with an older Python too)
        found = ".".join(map(str, sys.version_info[:3]))
        raise CannotBegin(f"CtxPack needs Python 3.11 or newer; {sys.executable} is {found}")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise CannotBegin(
            f"{sys.executable} cannot make virtual environments; Debian, Ubuntu: sudo apt-get install python3-venv"
        )


def contained_environment() -> dict[str, str]:
    """Return the environment of this process, changed so that hatch, uv and pip keep their files in .work."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    cache = WORK / "cache"
    environment["PATH"] = os.pathsep.join([str(BIN), environment.get("PATH", os.defpath)])
    environment["HATCH_CONFIG"] = str(EMPTY_CONFIG)
    environment["HATCH_DATA_DIR"] = str(WORK / "hatch" / "data")
    environment["HATCH_CACHE_DIR"] = str(cache / "hatch")
    environment.setdefault("PIP_CACHE_DIR", str(cache / "pip"))
    environment.setdefault("UV_CACHE_DIR", str(cache / "uv"))
    environment["PYTHONUNBUFFERED"] = "1"
    if sys.stdout.isatty() and "NO_COLOR" not in environment:
        environment["FORCE_COLOR"] = "1"  # the tools see a pipe, not the terminal
    return environment


def install_hatch(environment: dict[str, str]) -> None:
    """Make .work/venv with the hatch that constraints.txt pins, unless it is there already."""
    wanted = [pin for pin in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if pin.startswith("hatch==")]
    made_from = f"{sys.version}\n{sys.executable}\n{VENV}\n{wanted[0]}\n"
    EMPTY_CONFIG.parent.mkdir(parents=True, exist_ok=True)
    EMPTY_CONFIG.touch()
    stamp = VENV / "made-from"
    if stamp.exists() and stamp.read_text("utf-8") == made_from:
        return
    print(f"--- set-up: {wanted[0]} into {VENV}", flush=True)
    pip = [str(BIN / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [*pip, "--constraint", str(ROOT / "constraints.txt"), "hatch", "uv"],
    ):
        if subprocess.run(command, env=environment, check=False).returncode:
            raise CannotBegin(f"`{shlex.join(command)}` failed; the reason is above")
    stamp.write_text(made_from, "utf-8")


def obtain_programs() -> tuple[bool, list[str]]:
    """Find or get registry:2 and oras before the tests that need them, so that one early message names an absence."""
    import oras  # after require_python, since an older Python cannot read them
    import registry2

    try:
        print(shlex.join(registry2.obtain()))
        print(oras.obtain())
    except (registry2.RegistryUnavailable, oras.OrasUnavailable) as error:
        print(error)
        return False, []
    return True, []


def run_script(step: str, environment: dict[str, str]) -> tuple[bool, list[str]]:
    """Run a script of hatch.toml; return whether it passed, and the last lines of pytest."""
    counts = []
    command = [str(BIN / "hatch"), "run", step]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            plain = re.sub(r"\x1b\[[0-9;]*m", "", line).strip("= \n")
            if re.match(r"(\d+ (passed|failed|error)|no tests ran).* in [\d.]+s", plain):
                counts.append(plain)
    return process.returncode == 0, counts


def sum_up(outcomes: list[Outcome]) -> int:
    print("\n--- summary")
    for one in outcomes:
        first, *others = one.counts or [""]
        print(f"{one.step:12} {'ok' if one.passed else 'FAILED':6} {one.seconds:7.1f} s  {first}".rstrip())
        for count in others:
            print(f"{'':31}{count}")
    return 0 if all(one.passed for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
