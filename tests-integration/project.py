"""A project with a contract file that has no weak points, on a machine of its own, to be changed and named again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine import Finished, Machine

__all__ = ["Project"]

# The command notes each of its runs in the file `ran`, which nothing hashes.
FILES = {
    "in/a.txt": "one\n",
    "src/make.sh": "echo run >> ran; mkdir -p out; cat in/a.txt > out/r\n",
    "lock.txt": "numpy==2.0.0\n",
}

TRANSFORM: dict[str, Any] = {
    "tool": "t",
    "tool_version": "1",
    "code": {"path": "src"},
    "environment": {"path": "lock.txt"},
    "params": {},
}

CONTRACT: dict[str, Any] = {
    "inputs": [{"name": "docs", "path": "in"}],
    "command": ["sh", "src/make.sh"],
    "transforms": [TRANSFORM],
    "outputs": [{"path": "out"}],
}


class Project:
    """folder: of the contract file, by default the machine's work folder."""

    def __init__(self, machine: Machine, folder: Path | None = None) -> None:
        self.machine = machine
        self.folder = folder or machine.work
        self.write(FILES)
        self.declare()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files, by their paths in the project. A path that ends in "/" makes an empty folder."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def remove(self, name: str) -> None:
        """Remove a file or folder."""
        path = self.folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def declare(self, **members: Any) -> None:
        """Write the contract file: members, and those of CONTRACT. A member that is None is left out.

        Members of a transform, of which there is one, are put there.
        """
        names = (*TRANSFORM, "code_hash", "environment_hash")
        transform = TRANSFORM | {name: members.pop(name) for name in names if name in members}
        document = CONTRACT | {"transforms": [_written(transform)]} | members
        (self.folder / "contract.json").write_text(json.dumps(_written(document)), encoding="utf-8")

    def call(self, *arguments: str | Path) -> Finished:
        """Run ``ctxpack`` in the folder of the contract file, to its end."""
        return self.machine.run(*arguments, folder=self.folder)

    def succeed(self, *arguments: str | Path) -> str:
        """Run ``ctxpack`` like call; return its stdout. Raises: AssertionError if it fails."""
        return self.machine.succeed(*arguments, folder=self.folder)

    def uri(self, *command: str) -> str:
        """Return the URI. command: given beside the contract file."""
        return self.succeed("id", *(("--", *command) if command else ()))

    def runs(self) -> int:
        """Return how often the command of CONTRACT ran."""
        ran = self.folder / "ran"
        return ran.read_text().count("run") if ran.exists() else 0

    def refuses(self, *arguments: str | Path) -> str:
        """Run ``ctxpack``, which must refuse it as a fault of the contract; return its message."""
        done = self.call(*arguments)
        assert (done.status, done.stdout) == (2, ""), done.stderr
        assert "ctxpack: error: " in done.stderr
        return done.stderr

    def weak_points(self, *command: str) -> list[tuple[str, str]]:
        """Return code and text of each weak point, and check that they are said on stderr, in the same words."""
        done = self.call("id", "--json", *(("--", *command) if command else ()))
        assert done.status == 0, done.stderr
        points = [(point["code"], point["what"]) for point in json.loads(done.stdout)["weak"]]
        assert done.stderr == "".join(f"ctxpack: weak point: {what}\n" for _, what in points)
        return points


def _written(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
