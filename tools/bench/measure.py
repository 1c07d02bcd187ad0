"""Time and peak memory of commands, which alternate: A B C, A B C, … so that a slow minute is slow for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Command", "Contender", "NotDone", "Run", "Sample", "alternate", "execute"]

LAUNCHER = Path(__file__).with_name("launcher.py")
LIMIT_SECONDS = 1800  # for one run


class NotDone(Exception):
    """A contender failed, or did not do the work; the text gives the reason."""


class Command(NamedTuple):
    """The process that is timed, from its start to its end."""

    argv: Sequence[str | Path]
    cwd: Path
    environment: Mapping[str, str]


class Sample(NamedTuple):
    """The cost of one run. cpu: seconds of all its processes; peak: bytes of the largest process.

    together: peak of the bytes of all processes; 0 for a run that was not watched.
    """

    seconds: float
    cpu: float
    peak: int
    together: int = 0


class Run(NamedTuple):
    """One run of a contender. folder: its own, empty before the run, removed after all runs of the section.

    stdout: of the command, "" before it ran.
    """

    number: int
    folder: Path
    stdout: str = ""

    @property
    def first(self) -> bool:
        return self.number == 0


class Contender(NamedTuple):
    """One way to do the work.

    command: called before every run, not timed; it returns the process that is timed.
    needs: the programs that it cannot do without. prepare: called once, before the first run.
    check: raises NotDone unless the run did the work. tidy: called after every run, to remove files quickly.
    """

    name: str
    command: Callable[[Run], Command]
    needs: tuple[str, ...] = ()
    prepare: Callable[[], None] = lambda: None
    check: Callable[[Run], None] = lambda run: None
    tidy: Callable[[Run], None] = lambda run: None


def alternate(
    contenders: Sequence[Contender],
    folder: Path,
    *,
    runs: int,
    patience: float,
    failed: Callable[[str, NotDone], None],
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Sample]]:
    """Run each contender once to warm up, then all of them in turn, and return their samples by name.

    runs: with 0, the warm-up run is the only sample.
    patience: seconds; a contender that has used so many runs no more, and keeps its samples, or only the warm-up run.
    failed: called with the name of a contender that did not do the work, and the reason. Its samples are dropped.
    """
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(runs + 1):
        for contender in contenders:
            spent = sum(sample.seconds for sample in samples.get(contender.name, ()))
            if contender.name not in samples or spent > patience:
                continue
            note(f"{contender.name} {number}/{runs}")
            try:
                if runs:
                    os.sync()  # or this contender would pay for the writes of the one before
                samples[contender.name].append(_run(contender, folder, number))
            except NotDone as reason:
                del samples[contender.name]
                failed(contender.name, reason)
    return {name: _without_warm_up(taken) for name, taken in samples.items() if taken}


def execute(command: Command, folder: Path, *, watch: bool = False) -> tuple[Sample, str]:
    """Run a command; return its cost and its stdout. Raises: NotDone with the end of its stderr.

    watch: measure the memory of all its processes too, which costs a little time.
    """
    stdout, stderr = folder / "stdout.txt", folder / "stderr.txt"
    argv, environment = [str(word) for word in command.argv], dict(command.environment)
    order = {
        "argv": argv,
        "cwd": str(command.cwd),
        "env": environment,
        "stdout": str(stdout),
        "stderr": str(stderr),
        "limit": LIMIT_SECONDS,
        "watch": watch,
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", LAUNCHER],
        input=json.dumps(order),
        env=environment,  # posix_spawnp looks for the program on the PATH of its own process
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotDone(f"{argv[0]}: {done.stderr.strip()[-300:]}")
    answer = json.loads(done.stdout)
    if answer["status"]:
        output = stderr.read_text(errors="replace").strip()[-300:]
        raise NotDone(f"{argv[0]} ended with {answer['status']}: {output}")
    sample = Sample(answer["seconds"], answer["cpu"], answer["peak"], answer["together"])
    return sample, stdout.read_text(errors="replace")


def _without_warm_up(samples: list[Sample]) -> list[Sample]:
    """Drop the first sample, except its value of together; keep it if it is the only one."""
    first, *others = samples
    return [others[0]._replace(together=first.together), *others[1:]] if others else samples


def _run(contender: Contender, folder: Path, number: int) -> Sample:
    within = folder / f"{''.join(c if c.isalnum() else '-' for c in contender.name)}.{number}"
    within.mkdir(parents=True)
    run = Run(number, within)
    command = contender.command(run)
    sample, stdout = execute(command, within, watch=run.first)
    run = run._replace(stdout=stdout)
    contender.check(run)
    contender.tidy(run)
    return sample
