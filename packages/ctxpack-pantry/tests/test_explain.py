"""Why two URIs differ: between contract files, cached packs and packs of a registry; and what is near to one alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import CtxUri, IntegrityError, InvalidInput, NotFound, PolicyRefused, Unavailable, uri_digest
from ctxpack_pantry import Explained, Pantry, schema
from ctxpack_pantry.kin import Kin, KinList
from ctxpack_pantry.kinship import kin_of

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

NOWHERE = CtxUri("ctx://sha256:" + "0" * 64)


@pytest.fixture
def seeded(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a cached pack of the project as it was at first."""
    return pantry.seed([], str(project.contract)).uri


@pytest.fixture
def changed(seeded: CtxUri, project: Project) -> Project:
    """The project, with another input and other code than the cached pack."""
    (project.inputs / "a.txt").write_text("alpha, changed")
    (project.inputs / "b.txt").rename(project.inputs / "c.txt")
    (project.inputs / "new.txt").write_text("n")
    project.code.write_text("exit 0\n")
    return project


def facts(explained: Explained) -> dict[str, Any]:
    """Return which files differ, by root and kind, and which values, by pointer; the document follows its schema."""
    document = explained.as_json()
    assert set(schema("explain")["required"]) == document.keys()
    json.dumps(document)
    roots = {f"input {one['name']}": one for one in document["inputs"]}
    found: dict[str, Any] = {}
    for number, one in enumerate(document["transforms"]):
        roots |= {f"{kind} {number}": one[kind] for kind in ("code", "environment") if one[kind]}
        found |= {change["at"]: (change.get("old"), change.get("new")) for change in one["changes"]}
    found |= {change["at"]: (change.get("old"), change.get("new")) for change in document["changes"]}
    if document["outputs"]:
        roots["outputs"] = document["outputs"]
    for name, root in roots.items():
        files = root["files"] or {}
        shown = {
            kind: [file["path"] for file in files[kind]["files"]]
            for kind in ("changed", "added", "removed", "renamed")
            if files and files[kind]["count"]
        }
        found[name] = shown or root["unlisted"] or (root["old"], root["new"])
    return found


CHANGED = {
    "code 0": {"changed": [""]},
    "input raw_docs": {"changed": ["a.txt"], "added": ["new.txt"], "renamed": ["c.txt"]},
}


def test_a_contract_file_and_a_cached_pack(pantry: Pantry, seeded: CtxUri, changed: Project) -> None:
    explained = pantry.explain(seeded, str(changed.contract))
    assert facts(explained) == CHANGED
    assert (explained.old.uri, explained.new.uri) == (seeded, changed.uri)
    assert (explained.old.is_contract_file, explained.new.is_contract_file) == (False, True)
    assert not explained.nearest


def test_old_and_new_are_in_the_order_of_the_arguments(pantry: Pantry, seeded: CtxUri, changed: Project) -> None:
    there = pantry.explain(seeded, str(changed.contract)).difference.inputs[0].root
    back = pantry.explain(str(changed.contract), seeded).difference.inputs[0].root
    assert (there.old, there.new) == (back.new, back.old)
    assert there.files is not None
    assert back.files is not None
    assert there.files.added == back.files.removed


def test_equal_contracts_differ_in_nothing(pantry: Pantry, seeded: CtxUri, project: Project) -> None:
    for sides in ((seeded, str(project.contract)), (str(project.contract), seeded), (seeded, seeded)):
        assert facts(pantry.explain(*sides)) == {}
    assert facts(pantry.explain(project.contract, project.load())) == {}


def test_two_cached_packs_of_which_neither_needs_the_registry(
    pantry: Pantry, registry: FaultyTarget, seeded: CtxUri, changed: Project
) -> None:
    other = pantry.seed([], str(changed.contract)).uri
    assert facts(pantry.explain(seeded, other)) == CHANGED
    assert [registry.count(method) for method in ("fetch_tag", "fetch", "fetch_range")] == [0, 0, 0]


def test_packs_that_only_the_registry_has(
    pantry: Pantry, open_pantry: Callable[..., Pantry], seeded: CtxUri, changed: Project
) -> None:
    other = pantry.seed([], str(changed.contract)).uri
    for uri in (seeded, other):
        pantry.push(uri)
    elsewhere = open_pantry("elsewhere")
    explained = elsewhere.explain(seeded, other)
    assert facts(explained) == CHANGED
    assert explained.old.found_in == elsewhere.target.name
    assert elsewhere.list_packs().packs == ()


def test_a_contract_as_a_value_and_a_command_beside_it(pantry: Pantry, project: Project) -> None:
    project.command = None
    project.write_contract()
    first = pantry.run(str(project.contract), ["sh", "ingest.sh"], force=True).uri
    assert facts(pantry.explain(first, project.contract)) == {"/command": (["sh", "ingest.sh"], "undeclared")}
    assert facts(pantry.explain(first, project.contract, command=["sh", "ingest.sh"])) == {}
    value = json.loads(project.contract.read_text())
    for item in (value["inputs"][0], value["transforms"][0]["code"]):
        item["path"] = str(project.root / item["path"])
    assert facts(pantry.explain(first, value, command=["sh", "ingest.sh"])) == {}


def test_params_and_lock_files(pantry: Pantry, project: Project) -> None:
    transform = json.loads(project.contract.read_text())["transforms"][0]
    del transform["environment_hash"]
    transform["environment"] = {"path": "lock.txt", "text": True}
    lock = project.root / "lock.txt"
    lock.write_text("numpy==1.0\nidna==3\n")
    project.write_contract(transforms=[transform | {"params": {"dpi": 300, "modes": ["a"]}}])
    uri = pantry.seed([], str(project.contract)).uri
    lock.write_text("numpy==2.0\nidna==3\ntorch==2\n")
    project.write_contract(transforms=[transform | {"params": {"dpi": 600, "modes": ["a", "b"]}}])
    explained = pantry.explain(uri, str(project.contract))
    assert facts(explained) == {
        "/params/dpi": (300, 600),
        "/params/modes/1": (None, "b"),
        "environment 0": {"changed": [""]},
    }
    environment = explained.difference.transforms[0].environment
    assert environment is not None
    assert environment.packages == (("numpy", ("1.0",), ("2.0",)), ("torch", (), ("2",)))


def test_a_missing_listing_is_said(pantry: Pantry, project: Project) -> None:
    project.write_contract(inputs=[{"name": "raw_docs", "path": "./raw_docs", "listing": False}])
    uri = pantry.seed([], str(project.contract)).uri
    project.write_contract()
    (project.inputs / "a.txt").write_text("changed")
    assert facts(pantry.explain(uri, str(project.contract))) == {"input raw_docs": ["old"]}
    assert facts(pantry.explain(str(project.contract), uri)) == {"input raw_docs": ["new"]}


def test_an_input_that_is_a_pack_is_listed_by_that_pack(pantry: Pantry, project: Project) -> None:
    def depend(uri: CtxUri) -> None:
        project.write_contract(inputs=[{"name": "up", "uri": uri}], outputs=[{"path": "./raw_docs"}])

    first = pantry.seed([], str(project.contract)).uri
    project.make_outputs("other")
    project.write_contract(params={"a": 1})
    second = pantry.seed([], str(project.contract)).uri
    depend(first)
    downstream = pantry.seed([], str(project.contract)).uri
    depend(second)
    assert facts(pantry.explain(downstream, str(project.contract))) == {"input up": {"changed": ["joined"]}}


def test_a_limit_cuts_the_files_and_none_shows_all(pantry: Pantry, seeded: CtxUri, project: Project) -> None:
    for number in range(30):
        (project.inputs / f"n{number:02}").write_text(f"{number}")
    for limit, expected in ((20, 20), (1, 1), (0, 0), (None, 30)):
        [one] = pantry.explain(seeded, str(project.contract), limit=limit).difference.inputs
        assert one.root.files is not None
        assert (one.root.files.added.number, len(one.root.files.added.files)) == (30, expected)


def test_one_alone_is_compared_with_the_nearest_pack(pantry: Pantry, registry: FaultyTarget, project: Project) -> None:
    uris = []
    for params in ({"a": 1}, {"a": 2}, {"a": 3, "b": 3}):
        project.write_contract(params=params)
        uris.append(pantry.seed([], str(project.contract)).uri)
    (project.inputs / "a.txt").write_text("changed")
    project.write_contract(params={"a": 1})
    explained = pantry.explain(str(project.contract))
    assert explained.nearest
    assert (explained.old.uri, facts(explained)) == (uris[0], {"input raw_docs": {"changed": ["a.txt"]}})
    assert facts(pantry.explain(uris[2]))  # a pack itself is not its nearest


def test_a_contract_whose_pack_there_is_differs_in_nothing(
    pantry: Pantry, open_pantry: Callable[..., Pantry], seeded: CtxUri, project: Project
) -> None:
    project.write_contract(params={"a": 1})
    pantry.seed([], str(project.contract))
    project.write_contract()
    explained = pantry.explain(str(project.contract))
    assert (explained.old.uri, explained.new.uri, explained.nearest, facts(explained)) == (seeded, seeded, False, {})
    pantry.push(seeded)
    elsewhere = open_pantry("elsewhere")
    assert elsewhere.explain(str(project.contract)).old.found_in == elsewhere.target.name


def list_kin(pantry: Pantry, contract: dict[str, Any], *uris: CtxUri) -> None:
    listed = KinList(pantry.target, kin_of(contract))
    packs = [Kin(image=uri_digest(NOWHERE), pushed="2026-01-01T00:00:00Z", uri=uri) for uri in uris]
    listed.name(listed.store(packs))


def test_a_pack_of_the_registrys_list_is_near_and_lies_are_skipped(
    pantry: Pantry, open_pantry: Callable[..., Pantry], seeded: CtxUri, changed: Project
) -> None:
    contract = pantry.inspect(seeded).manifest.contract
    changed.write_contract(inputs=[{"name": "foreign", "path": "./raw_docs"}])
    foreign = pantry.seed([], str(changed.contract)).uri
    changed.write_contract()
    for uri in (seeded, foreign):
        pantry.push(uri)
    list_kin(pantry, contract, NOWHERE, foreign, seeded)
    explained = open_pantry("elsewhere").explain(str(changed.contract))
    assert (explained.old.uri, explained.nearest, facts(explained)) == (seeded, True, CHANGED)


def test_with_no_kin_a_cached_pack_of_the_same_tool_is_near(pantry: Pantry, seeded: CtxUri, project: Project) -> None:
    project.write_contract(outputs=[{"path": "./out", "name": "result"}])
    explained = pantry.explain(str(project.contract))
    assert (explained.old.uri, facts(explained)) == (seeded, {"/outputs": (["out"], ["result"])})


def test_nothing_is_near(pantry: Pantry, project: Project) -> None:
    with pytest.raises(NotFound, match="no pack is near: looked at 0 cached packs of the same kin") as caught:
        pantry.explain(str(project.contract))
    assert caught.value.code == "E_NOTHING_NEAR"


def test_a_registry_that_does_not_answer_hides_no_cached_pack(
    pantry: Pantry,
    registry: FaultyTarget,
    notices: list[str],
    seeded: CtxUri,
    changed: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(tag: str) -> None:
        raise Unavailable("no answer", where="registry")

    monkeypatch.setattr(registry, "fetch_tag", fail)
    assert facts(pantry.explain(str(changed.contract))) == CHANGED
    assert any("no answer" in notice for notice in notices)


def test_a_pack_that_is_nowhere(pantry: Pantry, seeded: CtxUri) -> None:
    for sides in ((NOWHERE,), (NOWHERE, seeded), (seeded, NOWHERE)):
        with pytest.raises(NotFound):
            pantry.explain(*sides)
    with pytest.raises(InvalidInput):
        pantry.explain("./missing.json")


def test_a_damaged_near_pack_gives_way_to_the_next(
    pantry: Pantry, notices: list[str], seeded: CtxUri, changed: Project
) -> None:
    changed.write_contract(params={"a": 1}, salt="farther")
    second = pantry.seed([], str(changed.contract))
    changed.write_contract()
    changed.code.write_text("exit 1\n")
    assert pantry.explain(str(changed.contract)).old.uri == seeded
    listing = Path(pantry.pull(seeded).folder).parent / "code/0.jsonl"
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes().replace(b'"size":', b'"size":1'))
    assert pantry.explain(str(changed.contract)).old.uri == second.uri
    assert any(notice.startswith(f"not compared with {seeded}: ") for notice in notices)
    with pytest.raises(IntegrityError):
        pantry.explain(seeded, str(changed.contract))


def test_other_outputs_of_one_uri_are_compared(
    pantry: Pantry, open_pantry: Callable[..., Pantry], seeded: CtxUri, project: Project
) -> None:
    pantry.push(seeded)
    project.make_outputs("other")
    (project.out / "tool").rename(project.out / "moved")
    elsewhere = open_pantry("elsewhere")
    assert elsewhere.seed([], str(project.contract)).uri == seeded
    expected = {"outputs": {"changed": ["joined"], "renamed": ["moved"]}}
    for sides in ((seeded,), (seeded, seeded), (str(project.contract),), (str(project.contract), seeded)):
        explained = elsewhere.explain(*sides)
        assert facts(explained) == expected
        assert explained.old.found_in == elsewhere.target.name
        assert explained.new.found_in.startswith(elsewhere.cache.root)


def test_a_pack_that_the_policy_refuses_is_not_near(pantry: Pantry, seeded: CtxUri, changed: Project) -> None:
    def refuse(candidate: object) -> None:
        raise PolicyRefused("no")

    said: list[str] = []
    strict = Pantry(pantry.settings, target=pantry.target, policy=refuse, notice=said.append)
    assert strict.explain(seeded, str(changed.contract)).old.uri == seeded  # it is named, so it is looked at
    assert any(line.startswith("only looked at, since the policy does not admit it") for line in said)
    with pytest.raises(NotFound, match="no pack is near"):
        strict.explain(str(changed.contract))
