"""`ctxpack init` in a git repository: what it writes names and runs the work without a change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from machine import Finished, Machine
from neutral_git import git

FILES = {
    "src/shout/__init__.py": "def shout(text):\n    return text.upper()\n",
    "scripts/tidy.sh": "true\n",
    "tests/test_shout.py": "assert False\n",
    "docs/index.md": "# Shout\n",
    "data/raw/a.txt": "to be\n",
    "data/raw/deep/b.txt": "or not to be\n",
    "requirements.txt": "\n",
    ".gitignore": "/data/processed/\n__pycache__/\n*.log\n",
    "main.py": """\
import sys
from pathlib import Path

sys.path.insert(0, "src")
from shout import shout

raw, made = Path("data/raw"), Path("data/processed")
for path in raw.rglob("*.txt"):
    to = made / path.relative_to(raw)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(shout(path.read_text()))
""",
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose work folder is a repository with FILES."""
    machine = Machine(tmp_path / "machine")
    for name, text in FILES.items():
        path = machine.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(machine.work, "init", "--quiet", "--template=", ".")
    git(machine.work, "add", "--all")
    git(machine.work, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message=all")
    return machine


def contract(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "contract.json").read_text())
    return document


def weak_points(done: Finished) -> list[str]:
    return [point["code"] for point in json.loads(done.stdout)["weak"]]


def test_what_init_wrote_names_and_runs_the_work(machine: Machine) -> None:
    said = machine.run("init")
    assert "placeholder" not in said.stderr
    assert said.stderr.endswith("ctxpack: look whether that is right, then: ctxpack id contract.json\n")
    assert weak_points(machine.run("id", "--json")) == []
    uri = machine.succeed("id", "--quiet")
    assert machine.succeed("run", "--quiet") == uri
    made = machine.work / "data" / "processed"
    assert (made / "deep" / "b.txt").read_text() == "OR NOT TO BE\n"
    assert machine.succeed("id", "--quiet") == uri
    assert machine.succeed("run").startswith("Hit: ")
    assert git(machine.work, "status", "--porcelain") == "?? contract.json\n"


def test_code_is_what_git_tracks_of_sources(machine: Machine) -> None:
    machine.succeed("init")
    assert contract(machine.work)["transforms"][0]["code"] == [
        {"path": "./main.py"},
        {"path": "./scripts", "gitignore": True},
        {"path": "./src", "gitignore": True},
    ]
    uri = machine.succeed("id", "--quiet")
    for name in ("src/shout/debug.log", "tests/test_shout.py", "docs/new.md", "data/processed/old"):
        (machine.work / name).parent.mkdir(exist_ok=True)
        (machine.work / name).write_text("changed")
    assert machine.succeed("id", "--quiet") == uri
    (machine.work / "src" / "shout" / "__init__.py").write_text("def shout(text):\n    return text\n")
    assert machine.succeed("id", "--quiet") != uri


def test_a_clone_has_the_same_name(machine: Machine, tmp_path: Path) -> None:
    machine.succeed("init")
    git(machine.work, "add", "contract.json")
    git(machine.work, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message=contract")
    machine.succeed("run", "--quiet")
    clone = tmp_path / "elsewhere"
    git(machine.work, "clone", "--quiet", "--template=", str(machine.work), str(clone))
    assert machine.succeed("id", "--quiet", folder=clone) == machine.succeed("id", "--quiet")
    assert machine.succeed("run", folder=clone).startswith("Hit: ")


def test_flags_come_before_guesses_and_a_file_is_never_overwritten(machine: Machine) -> None:
    flags = ("--input", "text=data/raw/deep", "--output", "loud=made/out", "--param", "top_k=5", "--param", "model=bge")
    machine.succeed("init", *flags, "--tool", "shout", "--tool-version", "2")
    document = contract(machine.work)
    assert document["inputs"] == [{"name": "text", "path": "data/raw/deep"}]
    assert document["outputs"] == [{"path": "made/out", "name": "loud"}]
    [transform] = document["transforms"]
    assert transform["params"] == {"top_k": 5, "model": "bge"}
    assert (transform["tool"], transform["tool_version"]) == ("shout", "2")
    again = machine.run("init", "--tool", "other")
    assert (again.status, contract(machine.work)) == (2, document)


def test_a_hook_or_monitor_of_the_repository_is_not_run(machine: Machine) -> None:
    trap = machine.work.parent / "ran"
    script = machine.work.parent / "trap.sh"
    script.write_text(f"#!/bin/sh\ntouch {trap}\n")
    script.chmod(0o755)
    git(machine.work, "config", "core.fsmonitor", str(script))
    git(machine.work, "config", "core.hooksPath", str(script.parent))
    machine.succeed("init")
    assert len(contract(machine.work)["transforms"][0]["code"]) == 3
    assert not trap.exists()
