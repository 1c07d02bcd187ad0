"""The main job of CtxPack on real documents: one agent computes and shares, another one pulls instead of computing.

    python3 tools/demo.py

Agent A turns some eighty PDF files into a searchable index, seeds and pushes it. To run the contract is a hit from then
on: the command is not run again. Agent B has none of the documents, only the URI: it pulls the index, answers questions
from it and looks up what made it. Then one parameter changes, and so does the URI. Every step is checked; the demo
stops with exit status 1 at the first check that fails.

Both agents are on this machine, each with a home, a cache and a working folder of its own. They share only the data
folder of the user, where CtxPack keeps its registry unless another one is configured. Everything is in ``.work/demo``,
and each run starts from nothing. The scripts that the agents run are in ``tools/demo``.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from sandbox import private_environment

SCRIPTS = Path(__file__).resolve().parent / "demo"
STAGE = SCRIPTS.parents[1] / ".work" / "demo" / "stage"
WHAT_A_HAS = ("contract.json", "documents.py", "ingest.py", "requirements.txt")
WHAT_B_HAS = ("query.py",)

MISS = 3  # the exit status of `ctxpack pull` when there is no such pack

# A question, and the documents. One of them must be the best hit.
QUESTIONS = {
    "How do I set a breakpoint and step through a program?": {"debugger.pdf"},
    "Which names are keywords and cannot be used as identifiers?": {"identifiers.pdf"},
    "How are imaginary numbers written?": {"imaginary.pdf", "numbers.pdf"},
}


class Ran(NamedTuple):
    """What a command wrote, and how long it took in seconds."""

    stdout: str
    stderr: str
    seconds: float


class Agent(NamedTuple):
    """An agent with a working folder and a home of its own."""

    name: str
    folder: Path
    environment: dict[str, str]

    def runs(self, *command: str, status: int = 0) -> Ran:
        """Show command, run it, show its output and its time. Raises: SystemExit on another exit status."""
        print(f"\n{self.name} $ {shlex.join(command)}", flush=True)
        program = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        begun = time.perf_counter()
        done = subprocess.run(
            [program, *command[1:]], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        seconds = time.perf_counter() - begun
        output = done.stdout if done.returncode == 0 else done.stdout + done.stderr
        print("".join(f"    {line}\n" for line in output.splitlines()), end="")
        print(f"    ({seconds:.2f} s{f', exit status {done.returncode}' if done.returncode else ''})", flush=True)
        check(done.returncode == status, f"exit status {status}", f"{done.returncode}")
        return Ran(done.stdout.strip(), done.stderr, seconds)


def check(holds: bool, expected: str, got: str) -> None:
    """Raises: SystemExit unless holds."""
    if not holds:
        raise SystemExit(f"\nThe demo stops: expected {expected}, got {got}")


def agent(name: str, brings: tuple[str, ...], commands: Path) -> Agent:
    """Return an agent with an empty home and cache, and a working folder with the scripts in brings."""
    folder = STAGE / name / "work"
    folder.mkdir(parents=True)
    for script in brings:
        shutil.copy(SCRIPTS / script, folder)
    environment = private_environment(STAGE / name / "home")
    environment["PATH"] = os.pathsep.join((str(commands), environment["PATH"]))
    environment["XDG_DATA_HOME"] = str(STAGE / "data")
    return Agent(name, folder, environment)


def clear_stage() -> None:
    """Remove the files of the last run. The folders of cached packs are read-only, so make them writable first."""
    for folder, _, _ in os.walk(STAGE):
        os.chmod(folder, 0o755)
    if STAGE.exists():
        shutil.rmtree(STAGE)


def share(a: Agent) -> tuple[str, dict[str, float]]:
    """Let a compute, seed and push, and not compute again; return the URI and the seconds of each step."""
    print("\n== Agent A has documents, a pipeline and a contract; it computes and shares")
    a.runs("python", "documents.py", "raw_docs")
    uri = a.runs("ctxpack", "id", "contract.json").stdout
    ingest = a.runs("python", "ingest.py")
    seed = a.runs("ctxpack", "seed")
    check(seed.stdout == f"Seeded: {uri}", f"Seeded: {uri}", seed.stdout)
    push = a.runs("ctxpack", "push", uri)
    print("\n== The next time, the command of the contract need not run: its result is there")
    made = written(a.folder / "processed_data")
    run = a.runs("ctxpack", "run")
    check(run.stdout == f"Hit: {uri}", f"Hit: {uri}", run.stdout)
    check(written(a.folder / "processed_data") == made, "the files as they were", "files written again")
    said = seed.stderr + run.stderr
    check("weak point" not in said, "a contract without weak points", said)
    return uri, {"ingest": ingest.seconds, "seed": seed.seconds, "push": push.seconds, "run": run.seconds}


def written(folder: Path) -> dict[str, int]:
    """Return when each file in folder was written, in nanoseconds."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def reuse(b: Agent, uri: str, original: Path) -> float:
    """Let b pull uri, answer from it and inspect it; return the seconds of the pull."""
    print("\n== Agent B has the URI and none of the documents; it pulls and answers")
    pull = b.runs("ctxpack", "pull", uri, "--output", "processed_data")
    pulled = b.folder / pull.stdout
    check(same_files(original, pulled), f"the files of {original}", f"others in {pulled}")
    for question, documents in QUESTIONS.items():
        best = b.runs("python", "query.py", "processed_data", question).stdout.splitlines()[0]
        check(any(f" {document} " in best for document in documents), f"a hit in {sorted(documents)}", best)
    inspect = b.runs("ctxpack", "inspect", uri)
    check("weak points" not in inspect.stdout, "no weak points", inspect.stdout)
    return pull.seconds


def same_files(left: Path, right: Path) -> bool:
    """Return whether two folders hold the same names and bytes."""
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (left, right)]
    files = [str(name) for name in names[0] if (left / name).is_file()]
    return names[0] == names[1] and filecmp.cmpfiles(left, right, files, shallow=False)[0] == files


def change(a: Agent, b: Agent, uri: str) -> None:
    """Let a change one parameter and change it back: another URI, which has no pack, then the first URI."""
    print("\n== Agent A changes chunk_size in contract.json from 500 to 900: another contract, another URI")
    contract = a.folder / "contract.json"
    first = contract.read_text(encoding="utf-8")
    contract.write_text(first.replace('"chunk_size": 500', '"chunk_size": 900'), encoding="utf-8")
    other = a.runs("ctxpack", "id", "contract.json").stdout
    check(other != uri, "another URI", other)
    b.runs("ctxpack", "pull", other, status=MISS)
    print("\n== and back to 500")
    contract.write_text(first, encoding="utf-8")
    again = a.runs("ctxpack", "id", "contract.json").stdout
    check(again == uri, uri, again)


def main() -> None:
    argparse.ArgumentParser(description="Show the main job of CtxPack on real documents.").parse_args()
    begun = time.perf_counter()
    made = subprocess.run([sys.executable, SCRIPTS / "environment.py"], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        raise SystemExit(made.returncode)
    installed = time.perf_counter() - begun
    commands = Path(made.stdout.strip())
    clear_stage()
    a, b = agent("A", WHAT_A_HAS, commands), agent("B", WHAT_B_HAS, commands)
    uri, seconds = share(a)
    seconds["pull"] = reuse(b, uri, a.folder / "processed_data")
    change(a, b, uri)
    print("\n== Every check passed")
    for step, took in seconds.items():
        print(f"    {step:8}{took:6.2f} s")
    print(f"    ratio   {seconds['ingest'] / seconds['pull']:6.1f}   compute / pull")
    print(f"    total   {time.perf_counter() - begun:6.2f} s, of which {installed:.2f} s to install")


if __name__ == "__main__":
    main()
