"""The contract file that init writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry import Pantry, init
from ctxpack_pantry.starter import contract_template

if TYPE_CHECKING:
    from pantry_project import Project


def test_the_template_has_an_input_a_tool_its_code_and_an_output(tmp_path: Path) -> None:
    assert json.loads(contract_template(str(tmp_path))) == {
        "inputs": [{"name": "raw_docs", "path": "./raw_docs"}],
        "transforms": [
            {"tool": "name-of-the-tool", "tool_version": "1.0", "code": {"path": "./ingest.py"}, "params": {}}
        ],
        "outputs": [{"path": "./processed_data"}],
    }


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock", "pdm.lock", "requirements.txt"])
def test_a_lock_file_in_the_folder_becomes_the_environment(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    transform = json.loads(contract_template(str(tmp_path)))["transforms"][0]
    assert transform["environment"] == {"path": f"./{name}"}


def test_the_most_exact_lock_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "uv.lock").write_text("")
    assert '"./uv.lock"' in contract_template(str(tmp_path))


@pytest.mark.parametrize("lock", [True, False])
def test_the_template_is_valid_once_its_paths_exist(project: Project, pantry: Pantry, lock: bool) -> None:
    folder = project.root / "new"
    (folder / "raw_docs").mkdir(parents=True)
    (folder / "ingest.py").write_text("")
    if lock:
        (folder / "uv.lock").write_text("locked")
    path = init(str(folder / "contract.json")).contract_file
    contract = pantry.resolve(path).as_json()["contract"]
    assert contract["transforms"][0]["environment_hash"].startswith("sha256:") is lock


def test_a_file_that_exists_is_not_overwritten(project: Project) -> None:
    before = project.contract.read_text()
    with pytest.raises(InvalidInput, match="exists already; edit it, or name another file"):
        init(str(project.contract))
    assert project.contract.read_text() == before
