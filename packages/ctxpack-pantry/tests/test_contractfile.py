"""Contract files: read, or refused with the file's name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry import Pantry
from ctxpack_pantry.contractfile import load_contract_file

if TYPE_CHECKING:
    from pantry_project import Project


def test_declared_outputs_are_relative_to_the_contract(project: Project) -> None:
    loaded = project.load()
    assert loaded.base == str(project.root)
    assert loaded.outputs == {"out": f"{project.root}/./out"}


def test_outputs_of_a_contract_in_the_current_folder_stay_relative(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    assert load_contract_file("contract.json").outputs == {"out": "./out"}


def test_a_missing_contract_file_is_named_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such contract file; `ctxpack init` writes one to fill in") as caught:
        load_contract_file(str(tmp_path / "contract.json"))
    assert caught.value.where == str(tmp_path / "contract.json")


def test_a_path_below_a_file_is_a_missing_contract_file(project: Project) -> None:
    with pytest.raises(InvalidInput, match="no such contract file"):
        load_contract_file(str(project.code / "contract.json"))


def test_a_folder_is_not_a_contract_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a folder, not a contract file; name the contract file in it"):
        load_contract_file(str(tmp_path))


def test_a_fault_in_a_contract_file_names_the_file(project: Project) -> None:
    project.contract.write_text('{"inputs": [], "transforms": []}')
    with pytest.raises(InvalidInput, match=r"contract\.json: /transforms: expected at least one transform, got"):
        project.load()


def test_a_huge_file_is_too_large_and_not_broken_json(project: Project) -> None:
    project.contract.write_bytes(project.contract.read_bytes().ljust((8 << 20) + 1))
    with pytest.raises(InvalidInput) as caught:
        project.load()
    assert str(caught.value) == (
        f"{project.contract}: too large for a contract file: expected at most 8388608 bytes; "
        "move long lists or params into a file, and make that an input"
    )


def test_an_unreadable_file_is_a_local_failure(project: Project) -> None:
    project.contract.chmod(0)
    script = """
import os, sys
os.chdir(sys.argv[1])
from ctxpack_pantry import CtxPackError
from ctxpack_pantry import Pantry
from ctxpack_pantry.contractfile import load_contract_file
if os.geteuid() == 0:
    os.setuid(65534)
try:
    print(load_contract_file("contract.json"))
except CtxPackError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(project.root)], capture_output=True, text=True, check=True)
    assert done.stdout == "LocalFailure contract.json: cannot be read: Permission denied; check its permissions\n"


def test_a_command_beside_the_file_is_its_command_where_it_has_none(project: Project) -> None:
    project.command = None
    project.write_contract()
    assert project.load().with_command(["sh", "a.sh"]).file.command == ("sh", "a.sh")
    assert project.load().with_command([]).file.command is None


def test_a_command_beside_the_file_must_be_that_in_it(project: Project) -> None:
    loaded = project.load()
    assert loaded.with_command(["sh", "ingest.sh"]) == loaded.with_command([]) == loaded
    with pytest.raises(InvalidInput) as caught:
        loaded.with_command(["sh", "other.sh"])
    assert str(caught.value) == (
        f"{project.contract}, /command: the contract has another command: "
        "expected sh ingest.sh, got sh other.sh; leave the command out, or change the one in the contract file"
    )
    assert caught.value.code == "E_COMMAND"


def test_the_schema_of_a_canonical_contract_file_stays(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "canonical.json"
    path.write_bytes(Pantry(project.settings).resolve(str(project.contract)).canonical)
    loaded = load_contract_file(str(path))
    assert loaded.outputs == {"out": f"{tmp_path}/out"}
    assert loaded.file.schema == "ctxpack/contract/v1"
    assert loaded.file.command == ("sh", "ingest.sh")
