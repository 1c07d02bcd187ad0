"""`Pantry.map` on Dask's cluster of two worker processes: items are made there, and come back into one pack."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from machine import Machine
from mapproject import MapProject
from test_dask import WORKERS, started

from ctxpack_pantry import Pantry, load_settings

FILES = {f"{number % 3}/{number}.txt": f"text {number}" for number in range(20)}

FUNCTIONS = """
import os


def parse(item, out):
    print(os.getpid(), item, file=open(os.environ["MAP_RAN"], "a"))
    out.mkdir()
    (out / "text").write_text(item.read_text().upper())
    (out / "tool").write_text(item.name)
    (out / "tool").chmod(0o755)
    (out / "empty").mkdir()


def look(item, out):
    names = sorted(str(one.relative_to(item)) for one in item.rglob("*"))
    out.write_text(" ".join(names) if item.is_dir() else item.read_text())


def link(item, out):
    out.mkdir()
    (out / "text").write_text(item.name)
    (out / "link").symlink_to("text")


def fail(item, out):
    if item.name == "4.txt":
        raise ValueError("no fours")
    if item.name == "5.txt":
        out.symlink_to("nowhere")
    elif item.name != "6.txt":
        out.write_text("x")
"""


class Elsewhere:
    """An executor whose workers see neither the items nor the folder of the map."""

    def __init__(self, executor: Executor) -> None:
        self._executor, self.sent = executor, 0

    def submit(self, task: Callable[..., Any], function: Any, what: Any) -> Future[Any]:
        self.sent += what.content is not None
        nowhere = {name: f"/nowhere{getattr(what, name)}" for name in ("item", "out", "marker")}
        return self._executor.submit(task, function, what._replace(**nowhere))


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A module of functions that the workers can import, too."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "dask_functions.py").write_text(FUNCTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("MAP_RAN", str(folder / "ran"))
        import dask_functions  # type: ignore[import-not-found]

        yield dask_functions
        del sys.modules["dask_functions"]


@pytest.fixture(scope="module")
def client(functions: Any) -> Iterator[Client]:
    with started() as (_, client):
        yield client


@pytest.fixture(params=["seen", "unseen"])
def executor(request: pytest.FixtureRequest, client: Client) -> Any:
    """Workers that see the folders of this machine, or see none of them."""
    executor = client.get_executor()
    return executor if request.param == "seen" else Elsewhere(executor)


@pytest.fixture
def project(tmp_path: Path, functions: Any, monkeypatch: pytest.MonkeyPatch) -> MapProject:
    project = MapProject(Machine(tmp_path / "machine"), FILES, command=None, each={"output": "{path}"})
    for name, value in project.machine.environment.items():
        if name.startswith("XDG_") or name in ("HOME", "TMPDIR"):
            monkeypatch.setenv(name, value)
    return project


@pytest.fixture
def pantry(project: MapProject) -> Iterator[Pantry]:
    registry = f"oci:{project.folder.parent / 'registry'}"
    with Pantry(load_settings(cache=str(project.machine.cache), registry=registry)) as pantry:
        yield pantry


@pytest.mark.parametrize("by", ["path", "content"])
def test_items_are_made_on_the_workers(
    project: MapProject, pantry: Pantry, functions: Any, executor: Any, by: str
) -> None:
    ran = Path(functions.__file__).parent / "ran"
    ran.unlink(missing_ok=True)
    project.go_over({"by": by, "output": "{path}"}, command=None)
    contract = str(project.folder / "contract.json")
    mapped = pantry.map(contract, functions.parse, executor=executor)
    assert (mapped.status, mapped.made) == (0, 20), mapped.failed
    made = ran.read_text().splitlines()
    assert len(made) == 20
    pids = {line.split()[0] for line in made}
    assert len(pids) <= WORKERS
    assert str(os.getpid()) not in pids
    outputs = project.outputs()
    for name, text in FILES.items():
        assert outputs[f"{name}/text"] == text.upper().encode()
        assert outputs[f"{name}/tool"] == (name.rpartition("/")[2] if by == "path" else "item.txt").encode()
        assert outputs[f"{name}/empty/"] is None
        assert os.access(project.folder / "out" / name / "tool", os.X_OK)
    assert not os.access(project.folder / "out/0/0.txt/text", os.X_OK)
    if isinstance(executor, Elsewhere):
        assert executor.sent == 20
    project.write({"in/new.txt": "new"})
    again = pantry.map(contract, functions.parse, executor=executor)
    assert (again.cached, again.made) == (20, 1)


def test_only_what_was_hashed_travels(
    project: MapProject, pantry: Pantry, functions: Any, executor: Any, tmp_path: Path
) -> None:
    project.write({"in/0/skipped.tmp": "x", "in/top.txt": "top", "in/none/x.tmp": "x", "in/bare/": ""})
    (tmp_path / "elsewhere").write_text("linked")
    (project.folder / "in/link").symlink_to(tmp_path / "elsewhere")
    (project.folder / "in/1/link").symlink_to(tmp_path / "elsewhere")
    inputs = [{"name": "docs", "path": "in", "exclude": ["*.tmp"], "symlinks": "follow"}]
    project.go_over({"of": "entries", "output": "{path}"}, command=None, inputs=inputs)
    mapped = pantry.map(str(project.folder / "contract.json"), functions.look, executor=executor)
    assert mapped.status == 0, mapped.failed
    outputs = project.outputs()
    assert (outputs["link"], outputs["top.txt"]) == (b"linked", b"top")
    assert b"link" in (outputs["1"] or b"")
    assert (outputs["none"], outputs["bare"]) == (b"", b"")
    assert outputs["0"] == " ".join(sorted(name[2:] for name in FILES if name.startswith("0/"))).encode()


def test_links_in_results_are_followed_where_the_contract_says_so(
    project: MapProject, pantry: Pantry, functions: Any, executor: Any
) -> None:
    contract = str(project.folder / "contract.json")
    mapped = pantry.map(contract, functions.link, executor=executor)
    assert (mapped.status, len(mapped.failed)) == (1, 20)
    project.go_over({"output": "{path}"}, command=None, outputs=[{"path": "out", "symlinks": "follow"}])
    mapped = pantry.map(contract, functions.link, executor=executor)
    assert mapped.status == 0, mapped.failed
    assert project.outputs()["0/0.txt/link"] == b"0.txt"


def test_what_fails_there_fails_one_item(project: MapProject, pantry: Pantry, functions: Any, executor: Any) -> None:
    mapped = pantry.map(str(project.folder / "contract.json"), functions.fail, executor=executor)
    assert (mapped.status, mapped.made) == (1, 17)
    assert [one.path for one in mapped.failed] == ["0/6.txt", "1/4.txt", "2/5.txt"]
    assert mapped.failed[1].reason == "ValueError: no fours"
    assert "left nothing at" in mapped.failed[0].reason
    assert "symbolic link" in mapped.failed[2].reason
