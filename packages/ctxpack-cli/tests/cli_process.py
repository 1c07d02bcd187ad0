"""The command line as users meet it: a process with a status, a stdout and a stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

# Children inherit ignored signals, and the test runner may ignore these (a background job, nohup).
START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); from ctxpack_cli.main import main; main()"
)


class Finished(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout, which must be the only thing there."""
        return json.loads(self.out)


class Cli:
    """Runs ``ctxpack`` in folder, in exactly this environment."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def __call__(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Finished:
        """Run it to its end. It may never show a traceback."""
        done = self.python("-m", "ctxpack_cli", *arguments, env=env)
        assert "Traceback" not in done.err, done.err
        return done

    def python(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Finished:
        """Run this Python with arguments to its end."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own, as a shell does."""
        return self.start_python("-c", START, *arguments, env=env)

    def start_python(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


COMMAND = ["sh", "ingest.sh"]


def make_project(folder: Path) -> None:
    """Write raw_docs/, ingest.sh, tools.lock, processed_data/ (what the script makes) and contract.json."""
    (folder / "raw_docs").mkdir()
    (folder / "raw_docs" / "a.txt").write_text("alpha")
    (folder / "ingest.sh").write_text("mkdir -p processed_data && tr a-z A-Z <raw_docs/a.txt >processed_data/a.txt\n")
    (folder / "tools.lock").write_text("coreutils 9.1\n")
    (folder / "processed_data").mkdir()
    (folder / "processed_data" / "a.txt").write_text("ALPHA")
    write_contract(folder)


def write_contract(folder: Path, *, params: object = (), **members: object) -> None:
    """Write contract.json, which has no weak point. members: instead of its own; None leaves one out."""
    document: dict[str, object] = {
        "inputs": [{"name": "raw_docs", "path": "./raw_docs"}],
        "command": COMMAND,
        "transforms": [
            {
                "tool": "tr",
                "tool_version": "9.1",
                "code": {"path": "./ingest.sh"},
                "environment": {"path": "./tools.lock"},
                "params": params or {},
            }
        ],
        "outputs": [{"path": "./processed_data"}],
    }
    document |= members
    written = {name: value for name, value in document.items() if value is not None}
    (folder / "contract.json").write_text(json.dumps(written))
