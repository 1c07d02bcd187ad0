"""Each result is one JSON document with a schema; docs/json.md describes the documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_identity import CtxUri, InvalidInput, Unavailable, uri_digest
from ctxpack_pantry import CtxPackError, Pantry, Pulled, Removed, StoredPack, error_as_json

if TYPE_CHECKING:
    from pantry_project import Project

ONE, OTHER = CtxUri("ctx://sha256:" + "1" * 64), CtxUri("ctx://sha256:" + "2" * 64)


def test_a_pull_has_the_number_and_size_of_its_files_only_with_include() -> None:
    document = {"schema": "ctxpack/pull/v1", "uri": ONE, "folder": "there", "received": 7, "registry": None}
    assert Pulled(ONE, "there", 7).as_json() == document
    assert Pulled(ONE, "there", 7, 0, 0).as_json() == document | {"files": 0, "size": 0}


def test_a_removal_names_the_packs_that_were_removed_and_those_that_were_missing() -> None:
    assert Removed((ONE,), (OTHER,)).as_json() == {
        "schema": "ctxpack/rm/v1",
        "removed": [ONE],
        "missing": [OTHER],
        "registry": None,
    }


def test_a_list_has_a_damaged_pack_without_what_its_manifest_would_say(pantry: Pantry, project: Project) -> None:
    project.write_contract(labels={"team": "search"})
    sound = pantry.seed([], str(project.contract))
    project.write_contract(params={"damaged": True})
    damaged = pantry.seed([], str(project.contract))
    Path(damaged.folder, "manifest.json").chmod(0o644)
    Path(damaged.folder, "manifest.json").write_text("{}")
    packs = {
        sound.uri: {
            "uri": sound.uri,
            "folder": pantry.cache.find(uri_digest(sound.uri)),
            "files": 3,
            "size": sound.manifest.outputs.size,
            "created": sound.manifest.provenance["created"],
            "tools": ["cat"],
            "params": [{}],
            "inputs": [{"name": "raw_docs", "digest": sound.manifest.contract["inputs"]["raw_docs"]["digest"]}],
            "labels": {"team": "search"},
        },
        damaged.uri: {"uri": damaged.uri, "folder": damaged.folder, "damaged": True},
    }
    document = pantry.list_packs(sort="uri").as_json()
    used = [pack.pop("used") for pack in document["packs"]]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) for time in used)
    assert document == {
        "schema": "ctxpack/ls/v1",
        "packs": [packs[uri] for uri in sorted(packs)],
    }


@pytest.mark.parametrize(
    ("used", "written"),
    [(0.0, "1970-01-01T00:00:00Z"), (-5.0, "1970-01-01T00:00:00Z"), (1e300, "9999-12-31T23:59:59Z")],
)
def test_a_time_that_no_calendar_has_is_written_as_the_nearest(used: float, written: str) -> None:
    assert StoredPack(ONE, "there", None, used).as_json()["used"] == written


def test_an_error_is_a_document_with_all_that_it_says() -> None:
    error = Unavailable("no answer", where="host", expected="200", got="503", fix="try again")
    assert error_as_json(error) == {
        "schema": "ctxpack/error/v1",
        "message": "host: no answer: expected 200, got 503; try again",
        "code": "E_UNAVAILABLE",
        "what": "no answer",
        "where": "host",
        "expected": "200",
        "got": "503",
        "fix": "try again",
    }


def test_an_error_of_a_contract_file_lists_each_fault(pantry: Pantry, project: Project) -> None:
    transform = {"tool": "t", "tool_version": 1, "code_hash": "opaque", "parms": {}}
    project.write_contract(transforms=[transform], variables={"API_KEY": "x"}, outputs=[{"path": ".."}])
    with pytest.raises(CtxPackError) as caught:
        pantry.run(str(project.contract))
    document = error_as_json(caught.value)
    faults = {fault["pointer"]: fault for fault in document["faults"]}
    assert set(faults) == {"/transforms/0/tool_version", "/transforms/0/parms", "/variables/API_KEY", "/outputs/0"}
    assert faults["/transforms/0/parms"] == {
        "code": "E_UNKNOWN_FIELD",
        "pointer": "/transforms/0/parms",
        "expected": "one of tool, tool_version, code, code_hash, environment, environment_hash, params",
        "got": '"parms"',
        "fix": 'did you mean "params"?',
    }
    assert all(set(fault) == {"code", "pointer", "expected", "got", "fix"} for fault in document["faults"])
    assert document["code"] == document["faults"][0]["code"]
    assert json.loads(json.dumps(document)) == document


def test_an_error_of_one_thing_lists_no_faults(pantry: Pantry, project: Project) -> None:
    project.contract.write_text("{")
    with pytest.raises(InvalidInput) as caught:
        pantry.resolve(str(project.contract))
    assert "faults" not in error_as_json(caught.value)
