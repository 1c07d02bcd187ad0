"""@memo in scripts, modules and packages, in several processes, and on two machines that share a registry."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from machine import LIMIT, Finished, Machine, without_first_contact
from neutral_git import git
from plain_target import KINDS, open_target

PIPELINE = """
import sys
from pathlib import Path
from ctxpack_pantry import memo


@memo(push="push" in sys.argv, environment="uv.lock")
def parse(docs: Path, out: Path, *, dpi: int = 300) -> None:
    print("ran", file=sys.stderr)
    out.mkdir()
    for path in sorted(docs.iterdir()):
        (out / path.name).write_text(path.read_text().upper() + str(dpi))


if __name__ == "__main__":
    print(parse(Path("raw"), dpi=600.0))
    print(parse.uri(Path("raw"), dpi=600))
"""

WAITING = """
from pathlib import Path
from ctxpack_pantry import memo


@memo(environment="uv.lock")
def wait(out: Path) -> None:
    print("begun", flush=True)
    open("gate").read()
    out.write_text("done")


if __name__ == "__main__":
    print(wait().read_text())
"""


def write_project(folder: Path, module: str = "pipeline.py", text: str = PIPELINE) -> None:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    (folder / "raw/a.txt").write_text("alpha")
    (folder / module).parent.mkdir(exist_ok=True)
    (folder / module).write_text(text)
    (folder / module).with_name("uv.lock").write_text("lock")


def start(machine: Machine, *arguments: str, folder: Path | None = None) -> subprocess.Popen[str]:
    """Start Python on a machine."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder or machine.work,
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def python(machine: Machine, *arguments: str, folder: Path | None = None) -> Finished:
    """Run Python on a machine, which must succeed."""
    process = start(machine, *arguments, folder=folder)
    stdout, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, stderr
    return Finished(0, stdout, stderr, 0.0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine", f"oci:{tmp_path / 'registry'}")


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_machine_computes_and_pushes_is_a_hit_on_another(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    target = open_target(kind, request)
    maker, other = (Machine(tmp_path / name, target.location, target.environment) for name in ("maker", "other"))
    for machine in (maker, other):
        write_project(machine.work)
    made = python(maker, "pipeline.py", "push")
    assert made.stderr.count("ran") == 1
    found = python(other, "pipeline.py")
    assert without_first_contact(found.stderr) == ""
    path, uri = found.stdout.split()
    assert Path(path, "a.txt").read_text() == "ALPHA600"
    assert uri == made.stdout.split()[1]
    assert other.succeed("pull", uri) == path


def test_a_script_is_called_as_when_it_is_imported_and_a_package_keeps_its_name(machine: Machine) -> None:
    write_project(machine.work)
    shown = "import {0} as m; print(m.parse.uri(m.Path('raw'), dpi=600))"
    script = python(machine, "pipeline.py").stdout.split()[1]
    assert script == python(machine, "-c", shown.format("pipeline")).stdout.strip()
    assert script == python(machine, "-m", "pipeline").stdout.split()[1]
    write_project(machine.work, "pkg/pipeline.py")
    package = python(machine, "-m", "pkg.pipeline").stdout.split()[1]
    assert package == python(machine, "-c", shown.format("pkg.pipeline")).stdout.strip()
    assert package != script
    commands = [
        json.loads(machine.succeed("inspect", uri, "--json"))["contract"]["command"] for uri in (script, package)
    ]
    assert commands == [["python", "pipeline:parse"], ["python", "pkg.pipeline:parse"]]


def test_the_command_line_has_the_same_name_for_the_equivalent_contract_file(machine: Machine) -> None:
    write_project(machine.work)
    document = {
        "inputs": [{"name": "docs", "path": "raw"}],
        "command": ["python", "pipeline:parse"],
        "transforms": [
            {
                "tool": "pipeline.parse",
                "tool_version": "1",
                "code": [{"path": "pipeline.py"}],
                "environment": {"path": "uv.lock"},
                "params": {"dpi": 600},
            }
        ],
        "outputs": [{"path": "out"}],
    }
    (machine.work / "contract.json").write_text(json.dumps(document))
    uri = python(machine, "pipeline.py").stdout.split()[1]
    assert machine.succeed("id") == uri
    machine.succeed("run")  # a hit, since no command is called so
    assert (machine.work / "out/a.txt").read_text() == "ALPHA600"


def test_a_clone_at_another_path_has_the_same_uri(machine: Machine) -> None:
    project = machine.work / "project"
    write_project(project)
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "all")
    clone = machine.work / "deep" / "clone"
    git(machine.work, "clone", "-q", str(project), str(clone))
    uris = {python(machine, "pipeline.py", folder=folder).stdout.split()[1] for folder in (project, clone)}
    shutil.rmtree(project)
    again = python(machine, "pipeline.py", folder=clone)
    assert {again.stdout.split()[1]} == uris
    assert again.stderr == ""


def test_of_two_processes_one_computes_and_the_other_waits(machine: Machine) -> None:
    write_project(machine.work, text=WAITING)
    os.mkfifo(machine.work / "gate")
    first = start(machine, "pipeline.py")
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    second = start(machine, "pipeline.py")
    assert second.stderr is not None
    assert second.stderr.readline() == "ctxpack: another call of pipeline:wait makes this; waiting\n"
    (machine.work / "gate").write_text("")
    assert [process.communicate(timeout=LIMIT)[0] for process in (first, second)] == ["done\n", "done\n"]


def test_a_killed_process_leaves_nothing_behind(machine: Machine) -> None:
    write_project(machine.work, text=WAITING)
    os.mkfifo(machine.work / "gate")
    process = start(machine, "pipeline.py")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT)
    assert machine.succeed("ls") == ""
    again = start(machine, "pipeline.py")
    assert again.stdout is not None
    assert again.stdout.readline() == "begun\n"
    (machine.work / "gate").write_text("")
    assert again.communicate(timeout=LIMIT)[0] == "done\n"
    assert list((machine.cache / "v1/staging").iterdir()) == []


POOL = """
import multiprocessing
import pickle
import sys

import cloudpickle  # as Dask and Ray send what a script defines
from pipeline import Path, memo

@memo(environment="uv.lock")
def square(out: Path, *, n: int) -> None:
    out.write_text(str(n * n))

def call(n: int) -> str:
    return str(square.uri(n=n)) + square(n=n).read_text()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(call, [1, 2]) == [call(1), call(2)]
    again = cloudpickle.loads(cloudpickle.dumps(square))
    assert again is not square
    assert again.uri(n=3) == square.uri(n=3)
    assert again(n=3).read_text() == "9"
    assert pickle.loads(pickle.dumps(square)) is square
"""


def test_the_workers_of_a_pool_have_the_names_of_the_script(machine: Machine) -> None:
    write_project(machine.work)
    (machine.work / "pool.py").write_text(POOL)
    python(machine, "pool.py")


def test_compute_makes_what_run_places(machine: Machine) -> None:
    write_project(machine.work)
    (machine.work / "make.py").write_text("def make(out):\n    out.mkdir()\n    (out / 'r').write_text('made')\n")
    document = {
        "inputs": [{"name": "docs", "path": "raw"}],
        "transforms": [
            {"tool": "t", "tool_version": "1", "code": {"path": "make.py"}, "environment": {"path": "uv.lock"}}
        ],
        "outputs": [{"path": "out"}],
    }
    (machine.work / "contract.json").write_text(json.dumps(document))
    text = (
        "import make; from ctxpack_pantry import *; print(Pantry(load_settings()).compute('contract.json', make.make))"
    )
    assert "hit=False" in python(machine, "-c", text).stdout
    shutil.rmtree(machine.work / "out")
    assert "hit=True" in python(machine, "-c", text).stdout
    shutil.rmtree(machine.work / "out")
    machine.succeed("run", "--", "python", "make:make")
    assert (machine.work / "out/r").read_text() == "made"
