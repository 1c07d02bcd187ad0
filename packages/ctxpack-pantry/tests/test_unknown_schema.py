"""Packs whose contract has a schema that is not known here are read and shown; only resolving judges a contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_forged import forge
from pantry_project import contents

from ctxpack_identity import CtxUri, IntegrityError, InvalidInput, canonical_json, digest_of, uri_for
from ctxpack_pantry import Pantry
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.results import Ran

if TYPE_CHECKING:
    from pantry_project import Project

SCHEMA = "ctxpack/contract/v9"
CONTRACTS: dict[str, dict[str, Any]] = {
    "nothing else": {"schema": SCHEMA},
    "other members": {"schema": SCHEMA, "steps": [{"run": "cat"}], "outputs": ["out"]},
    "other types": {"schema": "x", "inputs": ["a"], "outputs": {"out": {}}, "transforms": {"tool": "t"}, "command": {}},
    "odd elements": {
        "schema": "",
        "inputs": {"a": None, "b": 1},
        "outputs": [1, "other"],
        "transforms": [None, "t", {"tool": 1}, {"tool": "cat", "params": "p", "code_hash": {}}],
        "platform": 1.5,
        "variables": [],
    },
}


@pytest.fixture(params=CONTRACTS.values(), ids=[*CONTRACTS])
def contract(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.param
    return found


@pytest.fixture
def uri(pantry: Pantry, project: Project, contract: dict[str, Any]) -> CtxUri:
    """The URI of a pack of that contract, in the cache: the outputs of the project."""
    return forge(pantry.cache, pantry.seed([], str(project.contract)).folder, contract=contract)


def test_it_is_inspected_and_listed(pantry: Pantry, uri: CtxUri, contract: dict[str, Any]) -> None:
    document = pantry.inspect(uri).as_json()
    assert document["contract"] == contract
    assert json.loads(json.dumps(document)) == document
    [listed] = [pack for pack in pantry.list_packs().as_json()["packs"] if pack["uri"] == uri]
    assert listed["files"] == 3
    assert listed["tools"] == (["cat"] if "cat" in str(contract.get("transforms")) else [])


def test_it_is_pushed_pulled_and_taken_apart_like_any_other(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, uri: CtxUri, tmp_path: Path
) -> None:
    pantry.push(uri)
    elsewhere = open_pantry("elsewhere")
    assert elsewhere.inspect(uri).manifest == pantry.inspect(uri).manifest
    some = elsewhere.pull(uri, str(tmp_path / "some"), include=["joined"])
    assert (some.files, contents(some.folder)) == (1, {"joined": "alphabeta"})
    assert contents(elsewhere.pull(uri).folder) == contents(project.out)
    assert contents(pantry.pull(uri, str(tmp_path / "all")).folder) == contents(project.out)
    assert elsewhere.export(uri, str(tmp_path / "pack.tar.gz")).size > 0
    assert elsewhere.remove(uri).removed == (uri,)


def test_it_can_be_an_input(pantry: Pantry, project: Project, uri: CtxUri) -> None:
    project.write_contract(inputs=[{"name": "joined", "path": "out"}], outputs=[{"path": "raw_docs"}])
    by_path = project.uri
    project.write_contract(inputs=[{"name": "joined", "uri": uri}], outputs=[{"path": "raw_docs"}])
    assert pantry.resolve(str(project.contract)).uri == by_path


def test_a_contract_file_of_that_schema_is_refused(pantry: Pantry, project: Project, contract: dict[str, Any]) -> None:
    project.contract.write_text(json.dumps(contract))
    for verb in (pantry.resolve, pantry.run):
        with pytest.raises(InvalidInput) as caught:
            verb(str(project.contract))
        assert caught.value.code == "E_SCHEMA"


def test_its_kin_has_the_names_that_it_has(contract: dict[str, Any]) -> None:
    names = {
        "inputs": ["a", "b"] if isinstance(contract.get("inputs"), dict) else [],
        "outputs": ["out"] if contract.get("outputs") == ["out"] else [],
        "schema": "ctxpack/kin/v1",
        "tools": ["cat"] if contract["schema"] == "" else [],
    }
    assert kin_of(contract) == digest_of(canonical_json(names)).removeprefix("sha256:")


# What readers still refuse.


def test_a_contract_without_a_schema_is_damaged(pantry: Pantry, project: Project) -> None:
    uri = forge(pantry.cache, pantry.seed([], str(project.contract)).folder, contract={"outputs": ["out"]})
    with pytest.raises(IntegrityError, match="contract has no schema"):
        pantry.inspect(uri)


def test_another_uri_than_the_contracts_is_damaged(pantry: Pantry, project: Project) -> None:
    folder = pantry.seed([], str(project.contract)).folder
    uri = forge(pantry.cache, folder, contract={"schema": SCHEMA}, uri=uri_for(digest_of(b"another")))
    with pytest.raises(IntegrityError, match="contract is not the URI's"):
        pantry.inspect(uri)


@pytest.fixture
def misnamed(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache: its output is `out`, and its contract, that of the project, names `report`."""
    folder = pantry.seed([], str(project.contract)).folder
    project.command = ["sh", "-c", "mkdir made; printf new >made/joined"]
    project.write_contract(outputs=[{"path": "made", "name": "report"}])
    return forge(pantry.cache, folder, contract=json.loads(pantry.resolve(str(project.contract)).canonical))


OTHER_OUTPUTS = "outputs are not those that the contract names"


def test_a_pack_with_other_outputs_than_its_contract_names_fills_none(
    pantry: Pantry, project: Project, misnamed: CtxUri, notices: list[str]
) -> None:
    """It is damaged: a miss, which is said."""
    assert pantry.run(str(project.contract)) == Ran(misnamed, False, 0)
    assert contents(project.root / "made") == {"joined": "new"}
    assert len(notices) == 1
    assert OTHER_OUTPUTS in notices[0]


def test_such_a_pack_of_a_registry_is_not_pulled_or_run(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, misnamed: CtxUri
) -> None:
    with pytest.MonkeyPatch.context() as patch:  # of a writer that checks nothing
        patch.setattr("ctxpack_bundle.packmanifest.output_names", lambda contract: [])
        pantry.push(misnamed)
    elsewhere = open_pantry("elsewhere")
    for verb in (lambda: elsewhere.run(str(project.contract)), lambda: elsewhere.pull(misnamed)):
        with pytest.raises(IntegrityError, match=OTHER_OUTPUTS):
            verb()
    assert not (project.root / "made").exists()
    assert elsewhere.list_packs().packs == ()


# What a pack says of its weak points.


@pytest.mark.parametrize(
    ("weak", "shown"),
    [
        ([{"code": "manager", "what": "a"}], [("manager", "a")]),
        ([{"code": "a", "what": "b", "more": 1}, {"code": "a", "what": "b"}], [("a", "b")]),
        ([{"code": "a"}, {"what": "b"}, {"code": 1, "what": "b"}, {"code": "a", "what": None}, "a", None, []], []),
        ({"code": "a", "what": "b"}, []),
        ("weak", []),
        (1.5, []),
        (None, []),
        ([[{"code": "a", "what": "b"}]], []),
    ],
    ids=str,
)
def test_malformed_weak_points_of_a_foreign_pack_are_not_shown(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, weak: object, shown: list[tuple[str, str]]
) -> None:
    folder = pantry.seed([], str(project.contract)).folder
    uri = forge(pantry.cache, folder, contract={"schema": SCHEMA}, provenance={"weak": weak})
    pantry.push(uri)
    for inspected in (pantry.inspect(uri), open_pantry("elsewhere").inspect(uri)):
        assert [tuple(point) for point in inspected.weak] == shown
        assert inspected.as_json()["provenance"] == {"weak": weak}


def test_what_the_contract_shows_and_what_its_maker_was_told_are_said_once(pantry: Pantry, project: Project) -> None:
    project.write_contract(transforms=[{"tool": "t", "tool_version": "latest", "code": {"path": "ingest.sh"}}])
    seeded = pantry.seed([], str(project.contract))
    told = seeded.manifest.provenance["weak"]
    assert [point["code"] for point in told] == ["undeclared", "moving"]
    assert pantry.inspect(seeded.uri).as_json()["weak"] == told
    silent = forge(pantry.cache, seeded.folder, contract={**seeded.manifest.contract, "salt": "other"}, provenance={})
    assert pantry.inspect(silent).as_json()["weak"] == told
