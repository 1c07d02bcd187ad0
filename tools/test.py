"""Run every check, from a fresh clone and with only Python 3.11 or newer.

    python3 tools/test.py             # every step
    python3 tools/test.py lint types  # some steps

Hatch, the environments, the caches and the registry are put into ``.work/`` of the clone, nothing elsewhere. The
commands of the steps are in hatch.toml. Three steps run at the same time; what each of them writes is printed as a
whole, in the order of the steps, and is in ``.work/log/``. Exit status 0 only if every step passed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".work"
VENV = WORK / "venv"
EMPTY_CONFIG = WORK / "hatch" / "config.toml"  # not the one of the developer
BIN = VENV / "bin"

LOGS = WORK / "log"

# All but "programs" are scripts of hatch.toml. They are printed in this order.
STEPS = ("programs", "lint", "types", "isolated", "reuse", "integration", "claims")

# The steps of one lane run one after the other, the lanes at the same time: each takes about as long as the others. The
# tests wait for a disk or use one core; the programs, built at low priority, take what they leave.
LANES = (("lint", "types", "isolated"), ("integration",), ("programs", "claims", "reuse"))

# What a step gets before its script runs, so that one early message names what cannot be had. See tools/goprograms.py.
# Of integration few tests need oras, which is there long before them.
PROGRAMS = {
    "programs": ("oras", "crane", "registry3", "referrersregistry", "cosign"),
    "claims": ("crane", "registry3", "referrersregistry", "cosign"),
}

LOOK_SECONDS = 0.1  # how often the output of a step is looked at

# Variables that would bring in another environment or another configuration of hatch, or compile all modules each time.
FOREIGN = (
    *("HATCH_ENV", "HATCH_ENV_ACTIVE", "HATCH_PROJECT", "VIRTUAL_ENV"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH"),
)


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
    make_environment(environment)
    outcomes = [Outcome("set-up", True, time.monotonic() - begun, [])]
    LOGS.mkdir(exist_ok=True)
    with started(steps, environment) as running:
        for step, outcome in running.items():
            print(f"\n--- {step}", flush=True)
            follow(LOGS / step, outcome)
            outcomes.append(outcome.result())
    return sum_up(outcomes, time.monotonic() - begun)


@contextlib.contextmanager
def started(steps: list[str], environment: dict[str, str]) -> Iterator[dict[str, Future[Outcome]]]:
    """Start the lanes of steps; give the outcome of each step, in the order of steps. No step begins after an error."""
    running: dict[str, Future[Outcome]] = {step: Future() for step in steps}
    stopping = threading.Event()

    def run_lane(lane: list[str]) -> None:
        for step in lane:
            try:
                if not stopping.is_set():
                    running[step].set_result(run_step(step, environment))
            except BaseException as error:
                running[step].set_exception(error)

    for step in steps:
        (LOGS / step).write_bytes(b"")
    with ThreadPoolExecutor(len(LANES)) as lanes:
        for lane in LANES:
            lanes.submit(run_lane, [step for step in lane if step in running])
        try:
            yield running
        except BaseException:
            stopping.set()
            raise


def follow(log: Path, outcome: Future[Outcome]) -> None:
    """Print what is written to log until there is an outcome."""
    with log.open(encoding="utf-8", errors="replace", newline="") as output:
        ended = False
        while not ended:
            with contextlib.suppress(TimeoutError):
                outcome.exception(LOOK_SECONDS)
            ended = outcome.done()
            print(output.read(), end="", flush=True)


def require_python() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (people start this file with an older Python too)
        found = ".".join(map(str, sys.version_info[:3]))
        raise CannotBegin(f"CtxPack needs Python 3.11 or newer; {sys.executable} is {found}")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise CannotBegin(
            f"{sys.executable} cannot make virtual environments; Debian, Ubuntu: sudo apt-get install python3-venv"
        )


def contained_environment() -> dict[str, str]:
    """Return the environment of this process, changed so that hatch, uv and pip keep their files in .work.

    They trust what this machine trusts, so that they reach an index behind a private certificate authority.
    """
    from authorities import trusting  # after require_python, since an older Python may not be able to read it

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
    return trusting(environment, WORK / "authorities.pem")


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


def make_environment(environment: dict[str, str]) -> None:
    """Make the environment that the steps share, or add what it lacks, before two steps try to at the same time."""
    command = [str(BIN / "hatch"), "run", "python", "--version"]
    if subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        raise CannotBegin(f"`{shlex.join(command)}` failed; the reason is above")


def run_step(step: str, environment: dict[str, str]) -> Outcome:
    """Run a step, its output in LOGS."""
    begun = time.monotonic()
    with (LOGS / step).open("w", encoding="utf-8") as output:
        passed = obtain_programs(step, environment, output) and (
            step == "programs" or run_script(step, environment, output)
        )
    return Outcome(step, passed, time.monotonic() - begun, pytest_counts((LOGS / step).read_text("utf-8", "replace")))


def obtain_programs(step: str, environment: dict[str, str], output: TextIO) -> bool:
    """Find or get the programs that step needs, and registry:2 with them; return whether all are there."""
    if step not in PROGRAMS:
        return True
    import goprograms  # after require_python, since an older Python cannot read them
    import registry2

    try:
        print(shlex.join(registry2.obtain()), file=output, flush=True)
        for program in PROGRAMS[step]:
            print(goprograms.obtain(program, environment), file=output, flush=True)
    except (registry2.RegistryUnavailable, goprograms.GoProgramUnavailable) as error:
        print(error, file=output)
        return False
    return True


def run_script(step: str, environment: dict[str, str], output: TextIO) -> bool:
    """Run a script of hatch.toml; return whether it passed."""
    command = [str(BIN / "hatch"), "run", step]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0


def pytest_counts(output: str) -> list[str]:
    """Return the last line of each run of pytest."""
    plain = (re.sub(r"\x1b\[[0-9;]*m", "", line).strip("= \n") for line in output.splitlines())
    return [line for line in plain if re.match(r"(\d+ (passed|failed|error)|no tests ran).* in [\d.]+s", line)]


def sum_up(outcomes: list[Outcome], seconds: float) -> int:
    """Print how each step ended, and the seconds that passed altogether; return the exit status."""
    print("\n--- summary")
    for one in outcomes:
        first, *others = one.counts or [""]
        print(f"{one.step:12} {'ok' if one.passed else 'FAILED':6} {one.seconds:7.1f} s  {first}".rstrip())
        for count in others:
            print(f"{'':31}{count}")
    print(f"{'together':19} {seconds:7.1f} s")
    return 0 if all(one.passed for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
