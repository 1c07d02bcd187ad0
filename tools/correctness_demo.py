"""Change one thing, see another URI; change it back, see the first.

    python3 tools/correctness_demo.py

Works in a temporary folder, with the ``ctxpack`` on PATH, or with that of the demo if there is none. Exit status 1 if
any check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox import private_environment

CONTRACT: dict[str, Any] = {
    "inputs": [{"name": "raw_docs", "path": "./raw_docs"}],
    "transforms": [
        {"tool": "pypdf", "tool_version": "7.1.0", "code": {"path": "ingest.py"}, "params": {"chunk_size": 900}}
    ],
    "outputs": [{"path": "./processed_data"}],
}

FILES = {
    "raw_docs/a.txt": b"the first document",
    "raw_docs/more/b.txt": b"the second document",
    "ingest.py": b"print('a pipeline')\n",
    "contract.json": json.dumps(CONTRACT).encode(),
}


def replaced(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """Return a change that replaces old by new in the file called name."""

    def change(folder: Path) -> None:
        before = (folder / name).read_bytes()
        assert old in before, f"{name} has no {old!r}"
        (folder / name).write_bytes(before.replace(old, new))

    return change


def renamed(old: str, new: str) -> Callable[[Path], None]:
    """Return a change that gives the file called old the name new."""

    def change(folder: Path) -> None:
        (folder / old).replace(folder / new)

    return change


def reordered(folder: Path) -> None:
    """Write the contract file with its members in reverse order and with other white space."""
    backwards = dict(reversed(CONTRACT.items()))
    (folder / "contract.json").write_text(json.dumps(backwards, indent=4), encoding="utf-8")


def touched(folder: Path) -> None:
    """Give an input another time and make it executable."""
    os.utime(folder / "raw_docs" / "a.txt", (0, 0))
    (folder / "raw_docs" / "a.txt").chmod(0o755)


CHANGES_THAT_COUNT = {
    "a byte of an input": replaced("raw_docs/a.txt", b"first", b"fIrst"),
    "the name of a file": renamed("raw_docs/a.txt", "raw_docs/c.txt"),
    "the folder of a file": renamed("raw_docs/a.txt", "raw_docs/more/a.txt"),
    "a byte of the code": replaced("ingest.py", b"a pipeline", b"A pipeline"),
    "a parameter": replaced("contract.json", b"900", b"901"),
    "the tool's version": replaced("contract.json", b"7.1.0", b"7.1.1"),
}

CHANGES_THAT_DO_NOT = {
    "order and white space": reordered,
    "time and executable bit": touched,
}


class Workbench:
    """A contract file, its inputs and its code in a folder, to be changed and restored."""

    def __init__(self, folder: Path, ctxpack: str) -> None:
        self.folder = folder / "work"
        self.ctxpack = ctxpack
        self.environment = private_environment(folder / "home")
        self.restore()

    def restore(self) -> None:
        """Write every file as it was at the start, and remove every other file."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, content in FILES.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)

    def uri(self) -> str:
        """Return the output of ``ctxpack id``. Raises: SystemExit if it fails."""
        command = [self.ctxpack, "id", "contract.json"]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"`ctxpack id contract.json` failed with exit status {done.returncode}")
        return done.stdout.strip()

    def uris_around(self, change: Callable[[Path], None]) -> tuple[str, str]:
        """Return the URI after change, and the URI after restore."""
        change(self.folder)
        changed = self.uri()
        self.restore()
        return changed, self.uri()


def ctxpack_command() -> str:
    """Return the ctxpack on PATH, or else that of the environment of the demo, which is made unless it is there."""
    found = shutil.which("ctxpack")
    if found:
        return found
    script = Path(__file__).resolve().parent / "demo" / "environment.py"
    made = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        raise SystemExit(made.returncode)
    return str(Path(made.stdout.strip()) / "ctxpack")


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
        if not run_checks(Workbench(Path(folder), ctxpack_command())):
            raise SystemExit("a check failed")
    print("every check passed")


if __name__ == "__main__":
    main()
