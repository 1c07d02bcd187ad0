"""Outputs inside what is hashed are refused before anything runs; patterns that leave them out make them possible."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry import Pantry

if TYPE_CHECKING:
    from pantry_project import Project

COMMAND = ["sh", "-c", "echo ran >>../log; mkdir -p out made && echo x >out/x && echo y >made/y"]


@pytest.fixture(autouse=True)
def _without_outputs(project: Project) -> None:
    shutil.rmtree(project.out)
    project.command = COMMAND


def code(**root: object) -> list[dict[str, Any]]:
    return [{"tool": "t", "tool_version": "1", "code": root}]


INPUT = [{"name": "raw_docs", "path": "raw_docs"}]
NESTED = {
    "input": {"inputs": [{"name": "all", "path": "."}]},
    "below an input": {"inputs": INPUT, "outputs": [{"path": "raw_docs/a/b"}]},
    "an input itself": {"inputs": INPUT, "outputs": [{"path": "raw_docs"}]},
    "file": {"inputs": [{"name": "a", "path": "raw_docs/a.txt"}], "outputs": [{"path": "raw_docs/../raw_docs/a.txt"}]},
    "code": {"transforms": code(path=".")},
    "second output": {"inputs": [{"name": "made", "path": "made"}], "outputs": [{"path": "out"}, {"path": "made/y"}]},
    "pattern of another name": {"transforms": code(path=".", exclude=["/other/"])},
}


def seed(pantry: Pantry, project: Project) -> object:
    return pantry.seed([], str(project.contract))


def run(pantry: Pantry, project: Project) -> object:
    return pantry.run(str(project.contract))


def identify(pantry: Pantry, project: Project) -> object:
    return pantry.resolve(str(project.contract))


VERBS = [identify, seed, run]


@pytest.mark.parametrize("there", [True, False], ids=["made already", "not made"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("members", NESTED.values(), ids=NESTED.keys())
def test_they_are_refused_before_anything_runs_a_second_time_too(
    pantry: Pantry,
    project: Project,
    leftovers: Callable[[], list[str]],
    verb: Callable[[Pantry, Project], object],
    members: dict[str, Any],
    there: bool,
) -> None:
    (project.root / "made").mkdir()
    if there:
        project.make_outputs()
        (project.root / "made/y").write_text("y")
    project.write_contract(**members)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="the output lies in what is hashed") as caught:
            verb(pantry, project)
        assert caught.value.code == "E_OUTPUT_INSIDE"
    assert pantry.list_packs().packs == ()
    assert leftovers() == []
    assert not (project.root.parent / "log").exists()


def test_an_output_given_beside_the_contract_is_refused_as_well(pantry: Pantry, project: Project) -> None:
    project.make_outputs()
    project.write_contract()
    with pytest.raises(InvalidInput) as caught:
        pantry.seed([f"out={project.inputs}/empty"], str(project.contract))
    assert str(caught.value) == (
        f"output 'out' at {project.inputs}/empty: the output lies in what is hashed, so making it would change the "
        f"URI: expected a place outside input raw_docs, {project.root}/./raw_docs; "
        'move the output, or leave it out there: "exclude" of input raw_docs'
    )
    assert pantry.list_packs().packs == ()


LEFT_OUT: dict[str, Any] = {
    "inputs": [{"name": "all", "path": ".", "exclude": ["/out", "/made/", "*.json"]}],
    "transforms": code(path=".", exclude=["/out/", "/made", "*.json"]),
    "outputs": [{"path": "out"}, {"path": "made"}],
}


@pytest.mark.parametrize("verb", [run, seed])
def test_outputs_that_patterns_leave_out_are_made_under_the_uri_of_a_fresh_checkout(
    pantry: Pantry, project: Project, verb: Callable[[Pantry, Project], object]
) -> None:
    project.write_contract(**LEFT_OUT)
    fresh = Path(shutil.copytree(project.root, project.root.parent / "checkout"))
    before = project.uri
    if verb is seed:
        project.make_outputs()
        (project.root / "made").mkdir()
    verb(pantry, project)
    [pack] = pantry.list_packs().packs
    assert pack.uri == before == project.uri == pantry.resolve(str(fresh / "contract.json")).uri
    assert pantry.run(str(fresh / "contract.json")).hit
    assert (fresh / "made").is_dir()


def test_gitignored_outputs_are_left_out(pantry: Pantry, project: Project) -> None:
    (project.root / ".gitignore").write_text("/out/\n/made/\n")
    project.write_contract(
        inputs=[{"name": "all", "path": ".", "gitignore": True}], transforms=code(path=".", gitignore=True)
    )
    assert not pantry.run(str(project.contract)).hit
    shutil.rmtree(project.out)
    assert pantry.run(str(project.contract)).hit


def test_a_link_to_an_output_inside_counts_where_it_lies_and_where_it_leads(pantry: Pantry, project: Project) -> None:
    (project.root / "link").symlink_to("raw_docs/empty")
    (project.inputs / "out").symlink_to(project.root.parent / "far")
    for path in ("link", "link/deeper", "raw_docs/out"):
        project.write_contract(outputs=[{"path": path}])
        with pytest.raises(InvalidInput) as caught:
            pantry.run(str(project.contract))
        assert caught.value.code == "E_OUTPUT_INSIDE"
    assert not (project.root.parent / "log").exists()
