"""Change one thing, see another URI; change it back, see the first.

    python3 tools/correctness_demo.py

Works in a temporary folder, with the ``ctxpack`` on PATH, or with that of the demo if there is none. Exit status 1 if
any check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from agents import ctxpack_commands
from sandbox import private_environment

CONTRACT: dict[str, Any] = {
    "inputs": [{"name": "raw_docs", "path": "./raw_docs"}],
    "command": ["python", "pipeline/ingest.py", "--fast"],
    "variables": {"MODEL": "small"},
    "platform": {"os": "linux"},
    "transforms": [
        {
            "tool": "pypdf",
            "tool_version": "7.1.0",
            "code": {"path": "pipeline"},
            "environment": {"path": "requirements.txt"},
            "params": {"chunk_size": 900},
        }
    ],
    "outputs": [{"path": "./processed_data"}],
}

FILES = {
    "raw_docs/a.txt": b"the first document",
    "raw_docs/more/b.txt": b"the second document",
    "pipeline/ingest.py": b"print('a pipeline')\n",
    "requirements.txt": b"pypdf==7.1.0\n",
    "contract.json": json.dumps(CONTRACT).encode(),
}

# What interpreters, editors, tests and git leave in a folder of code.
DROPPINGS = ("__pycache__/ingest.cpython-312.pyc", ".git/HEAD", ".pytest_cache/v", ".ingest.py.swp", "ingest.py~")


class Workbench:
    """A contract file, its inputs and its code in a folder, to be changed and restored. called_from: by ``ctxpack``."""

    def __init__(self, folder: Path, ctxpack: str) -> None:
        self.folder = self.called_from = folder / "work"
        self.ctxpack = ctxpack
        self.environment = private_environment(folder / "home")
        self.restore()

    def restore(self) -> None:
        """Write every file as it was at the start, and remove every other file."""
        self.called_from = self.folder
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, content in FILES.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)

    def uri(self) -> str:
        """Return the output of ``ctxpack id``. Raises: SystemExit if it fails."""
        command = [self.ctxpack, "id", os.path.relpath(self.folder / "contract.json", self.called_from)]
        done = subprocess.run(command, cwd=self.called_from, env=self.environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"`{shlex.join(command)}` failed with exit status {done.returncode}")
        return done.stdout.strip()

    def uris_around(self, change: Change) -> tuple[str, str]:
        """Return the URI after change, and the URI after restore."""
        change(self)
        changed = self.uri()
        self.restore()
        return changed, self.uri()


Change: TypeAlias = Callable[[Workbench], None]


def replaced(name: str, old: bytes, new: bytes) -> Change:
    """Return a change that replaces old by new in the file called name."""

    def change(bench: Workbench) -> None:
        before = (bench.folder / name).read_bytes()
        assert old in before, f"{name} has no {old!r}"
        (bench.folder / name).write_bytes(before.replace(old, new))

    return change


def renamed(old: str, new: str) -> Change:
    """Return a change that gives the file called old the name new."""

    def change(bench: Workbench) -> None:
        (bench.folder / old).replace(bench.folder / new)

    return change


def reordered(bench: Workbench) -> None:
    """Write the contract file with its members in reverse order and with other white space."""
    backwards = dict(reversed(CONTRACT.items()))
    (bench.folder / "contract.json").write_text(json.dumps(backwards, indent=4), encoding="utf-8")


def littered(bench: Workbench) -> None:
    """Leave in the code what tools drop there, and a folder without files."""
    for name in DROPPINGS:
        path = bench.folder / "pipeline" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"dropped")
    (bench.folder / "pipeline" / "empty").mkdir()


def touched(bench: Workbench) -> None:
    """Give an input another time and make it executable."""
    os.utime(bench.folder / "raw_docs" / "a.txt", (0, 0))
    (bench.folder / "raw_docs" / "a.txt").chmod(0o755)


def called_from_below(bench: Workbench) -> None:
    """Call the program from another folder."""
    bench.called_from = bench.folder / "raw_docs"


CHANGES_THAT_COUNT = {
    "a byte of an input": replaced("raw_docs/a.txt", b"first", b"fIrst"),
    "the name of a file": renamed("raw_docs/a.txt", "raw_docs/c.txt"),
    "the folder of a file": renamed("raw_docs/a.txt", "raw_docs/more/a.txt"),
    "a byte of the code": replaced("pipeline/ingest.py", b"a pipeline", b"A pipeline"),
    "a library it runs on": replaced("requirements.txt", b"7.1.0", b"7.2.0"),
    "the command": replaced("contract.json", b"--fast", b"--exact"),
    "a parameter": replaced("contract.json", b"900", b"901"),
    "a variable": replaced("contract.json", b'"small"', b'"large"'),
    "the platform": replaced("contract.json", b'"linux"', b'"darwin"'),
    "the tool's version": replaced("contract.json", b"7.1.0", b"7.1.1"),
    "the name of the output": replaced("contract.json", b"./processed_data", b"./processed_docs"),
}

CHANGES_THAT_DO_NOT = {
    "order and white space": reordered,
    "time and executable bit": touched,
    "what tools drop": littered,
    "the place of the output": replaced("contract.json", b"./processed_data", b"../elsewhere/processed_data"),
    "where it is called from": called_from_below,
}


def run_checks(bench: Workbench) -> bool:
    """Print a line for each check, and return whether all of them passed."""
    first = bench.uri()
    seen = {first}
    print(f"{'nothing changed yet':26}{first[:32]}…")
    passed = True
    for name, change in (CHANGES_THAT_COUNT | CHANGES_THAT_DO_NOT).items():
        changed, back = bench.uris_around(change)
        right = back == first and (changed == first if name in CHANGES_THAT_DO_NOT else changed not in seen)
        seen.add(changed)
        passed = passed and right
        kind = "the first" if changed == first else "another"
        undone = "the first again" if back == first else "NOT the first"
        print(f"{name:26}{changed[:32]}…  {kind:11}undone: {undone:17}{'ok' if right else 'WRONG'}")
    return passed


def main() -> None:
    argparse.ArgumentParser(
        description="Change one thing, see another URI; change it back, see the first."
    ).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not run_checks(Workbench(Path(folder), str(ctxpack_commands() / "ctxpack"))):
            raise SystemExit("a check failed")
    print("every check passed")


if __name__ == "__main__":
    main()
