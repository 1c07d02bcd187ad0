"""The contract file that `ctxpack init` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_cli.template import contract_template

if TYPE_CHECKING:
    from cli_process import Cli


def test_it_names_an_input_a_tool_its_code_and_an_output(tmp_path: Path) -> None:
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
def test_it_is_valid_once_its_paths_exist(cli: Cli, lock: bool) -> None:
    if lock:
        (cli.folder / "uv.lock").write_text("locked")
    assert cli("init").status == 0
    (cli.folder / "raw_docs").mkdir()
    (cli.folder / "ingest.py").write_text("")
    done = cli("id")
    assert (done.status, done.err) == (0, "")
    environment = json.loads(cli("id", "--json").out)["contract"]["transforms"][0]["environment_hash"]
    assert environment.startswith("sha256:") is lock
