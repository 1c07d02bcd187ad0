"""docs/json.md lists every document that a command prints with --json, and all of its members, as its schema does."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import write_contract
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from machine import Finished, Machine

import ctxpack_pantry
from ctxpack_bundle.packmanifest import Outputs, PackManifest, Root
from ctxpack_identity import ContractInvalid, digest_of, uri_for
from ctxpack_identity.faults import Fault
from ctxpack_pantry import CtxPackError, Inspected, Listed, StoredPack, Verdict, error_as_json, schema, schema_names
from ctxpack_pantry.weakpoints import in_contract
from ctxpack_trust import Decision
from registry2 import RegistryServer

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `ctxpack/([a-z-]+)/v1`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
RESULTS = [name for name in schema_names() if name not in ("contract-file", "contract", "map", "item")]
VALIDATORS = {name: Draft202012Validator(schema(name)) for name in RESULTS}
MAKE = "mkdir processed_data; printf made > processed_data/a.txt"
NOWHERE = "ctx://sha256:" + "0" * 64
OPTIONAL = {
    "push": {"replaced", "signed"},
    "tag": {"replaced"},
    "pull": {"files", "size"},
    "inspection": {"image"},
    "error": {"exit", "faults"},
}

PASSWORD = {"CTXPACK_KEY_PASSWORD": "of the tests"}

Documents = dict[str, list[dict[str, Any]]]


def members(section: str) -> list[str]:
    """Return the members in a section's table."""
    return re.findall(r"^\| `([a-z_]+)` \| ", section, re.MULTILINE)


def require_valid(document: dict[str, Any]) -> None:
    """Raise ValidationError unless a document follows the schema that it names."""
    VALIDATORS[document["schema"].removeprefix("ctxpack/").removesuffix("/v1")].validate(document)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with a contract file and its output."""
    machine = Machine(folder := tmp_path_factory.mktemp("json"), f"oci:{folder}/registry", PASSWORD)
    write_contract(machine.work)
    (machine.work / "processed_data").mkdir()
    (machine.work / "processed_data" / "a.txt").write_text("made")
    (machine.work / "make.sh").write_text(MAKE)
    mapped = json.loads((machine.work / "contract.json").read_text())
    mapped |= {"outputs": [{"path": "mapped"}], "each": {"input": "raw_docs", "output": "{path}"}}
    (machine.work / "each.json").write_text(json.dumps(mapped))
    return machine


@pytest.fixture(scope="module")
def documents(project: Machine, auth_registry: RegistryServer) -> Documents:
    """What every command prints in the course of a project, by schema."""
    machine = project
    uri = machine.succeed("id")
    lines = (
        "init new.json",
        "id",
        "id -- sh other.sh",
        "keygen k",
        "keygen new",
        "seed",
        f"push {uri}",
        f"push {uri} --sign --key k.key",
        f"sign {uri} --key k.key",
        f"pull {uri}",
        f"pull {uri} --include *.txt -o some",
        f"export {uri} --tar pack.tar.gz",
        f"inspect {uri}",
        f"inspect {uri} --files",
        f"inspect {uri} --inputs raw_docs",
        f"lineage {uri}",
        f"inspect {uri} --skip-cache",
        "run -- sh make.sh",
        "run -- sh make.sh",
        f"tag {uri} first",
        f"explain {uri}",
        "map --contract each.json --dry-run -- cp {item} {out}",
        "map --contract each.json --push -- cp {item} {out}",
        "map --contract each.json -- cp {item} {out}",
        "tag MAPPED first",
        "rm MAPPED",
        "run --push --recompute -- sh make.sh",
        f"verify {uri}",
        f"verify {uri} --skip-cache",
        f"verify {uri} --rebuild --sign --key k.key -- sh -c '{MAKE}'",
        "trust add k.pub --owner o",
        f"trust add --from {uri} --owner other",
        "trust mode signed --scope ghcr.io/team --threshold 2",
        f"trust check {uri}",
        "trust show k",
        "trust deny k --show-affected",
        f"trust deny {uri} --dry-run",
        "trust list",
        "trust deny k --undo",
        "trust remove other",
        "sign --all --signed-by k.pub --key new.key",
        "ls",
        f"push {uri} --repair",
        f"rm {uri}",
        "schema",
    )
    printed: Documents = {}

    def note(output: str) -> None:
        document = json.loads(output)
        printed.setdefault(document["schema"], []).append(document)

    mapped = machine.succeed("id", "each.json", "--", "cp", "{item}", "{out}")
    for line in lines:
        command, *rest = shlex.split(line.replace("MAPPED", mapped))
        note(machine.succeed(command, "--json", *rest))
    differing = ("--", "sh", "-c", "mkdir processed_data; printf 1 > processed_data/a.json")
    note(machine.run("verify", "--json", uri, "--rebuild", "--tolerance", "0.5", *differing).stdout)
    note(machine.run("run", "--json", "--", "sh", "-c", "exit 3").stdout)
    note(machine.run("map", "--json", "--force", "--contract", "each.json", "--", "false", "{item}", "{out}").stdout)
    output = machine.work / "processed_data" / "a.txt"
    output.write_text("made otherwise")
    note(machine.succeed("seed", "--json"))
    note(machine.succeed("push", "--json", "--replace", uri))
    note(machine.succeed("rm", "--json", "--registry", uri))
    output.write_text("made")
    printed["ctxpack/ls/v1"].append(list_damaged_pack(machine))
    printed["ctxpack/verify/v1"].append(json.loads(machine.run("verify", "--json", "--all").stdout))
    missing = machine.run("rm", "--json", NOWHERE)
    printed["ctxpack/rm/v1"].append(json.loads(missing.stdout))
    printed["ctxpack/error/v1"] = [error_in(failed) for failed in (missing, *failures(machine, auth_registry))]
    return {name.removeprefix("ctxpack/").removesuffix("/v1"): found for name, found in printed.items()}


def list_damaged_pack(machine: Machine) -> dict[str, Any]:
    """Return what ls prints of a cache whose one pack cannot be read."""
    [manifest] = machine.cache.glob("v1/packs/*/manifest.json")
    manifest.chmod(0o644)
    manifest.write_text("{}")
    listed: dict[str, Any] = json.loads(machine.succeed("ls", "--json"))
    assert "damaged" in listed["packs"][0]
    return listed


def error_in(failed: Finished) -> dict[str, Any]:
    """Return the document on stderr, whose exit is the status of the process."""
    document: dict[str, Any] = json.loads(failed.stderr.splitlines()[-1])
    assert document["exit"] == failed.status
    return document


def failures(machine: Machine, auth_registry: RegistryServer) -> Iterator[Finished]:
    """Yield a failure of each kind that a command can have."""
    uri = machine.succeed("id", "-q")
    yield machine.run("ls", "--json", "--cache", "contract.json")
    yield machine.run("id", "--json", "missing.json")
    (machine.work / "faulty.json").write_text(json.dumps({"inputs": [{}], "codes": 1}))
    yield machine.run("id", "--json", "faulty.json")
    yield machine.run("schema", "--json", "nonsense")
    yield machine.run("run", "--json", "--", "no-such-program")
    yield machine.run("pull", "--json", NOWHERE)
    yield machine.run("pull", "--json", NOWHERE, registry=f"{auth_registry.address}/packs")
    yield machine.run("pull", "--json", NOWHERE, registry=f"https://{auth_registry.address}/packs")
    machine.succeed("seed", "-q")
    machine.succeed("push", "-q", uri)
    strict = {"CTXPACK_TRUST": "signed"}
    yield Machine(machine.work / "stranger", machine.environment["CTXPACK_REGISTRY"], strict).run("pull", "--json", uri)
    (machine.work / "processed_data" / "a.txt").write_text("made otherwise")
    yield machine.run("seed", "--json")
    machine.succeed("rm", uri)
    for blob in machine.cache.parent.glob("registry/blobs/sha256/*"):
        blob.chmod(0o644)
        blob.write_bytes(b"damaged")
    yield machine.run("pull", "--json", uri)


def test_every_document_is_described_and_every_description_is_printed(documents: Documents) -> None:
    assert set(SECTIONS) == set(documents) == set(RESULTS)
    assert len(SECTIONS) == 25


@pytest.mark.parametrize("name", SECTIONS)
def test_the_members_are_those_of_the_page_and_of_the_schema(documents: Documents, name: str) -> None:
    listed = members(SECTIONS[name])
    assert len(set(listed)) == len(listed) > 0
    described = schema(name)
    assert {"schema", *listed} == set(described["properties"])
    assert set(listed) - OPTIONAL.get(name, set()) == set(described["required"]) - {"schema"}
    assert {"schema", *listed} == {member for document in documents[name] for member in document}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_document_follows_its_schema(documents: Documents, name: str) -> None:
    for document in documents[name]:
        require_valid(document)
        assert not VALIDATORS[name].is_valid(document | {"other": 1})
        for member in document.keys() - OPTIONAL.get(name, set()):
            assert not VALIDATORS[name].is_valid({other: document[other] for other in document if other != member})


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_links_to_the_schema(name: str) -> None:
    [link] = re.findall(r"\[schema\]\((\S+?)\)", SECTIONS[name])
    assert json.loads((ROOT / "docs" / link).read_text(encoding="utf-8")) == schema(name)


def test_the_page_links_to_the_schemas_of_contracts() -> None:
    found = dict(re.findall(r"\[`([a-z-]+)`\]\((\S+\.json)\)", PAGE))
    assert set(found) == {"contract-file", "contract", "map", "item"}
    for name, link in found.items():
        assert json.loads((ROOT / "docs" / link).read_text(encoding="utf-8")) == schema(name)


INNER = {  # definitions that a section describes, and not a section that it refers to
    "verify": ("sound", "unsound", "rebuild", "tolerance", "near_file"),
    "trust-check": ("verdict", "claim"),
    "trust-deny": ("affected", "affected_pack"),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_members_of_objects_inside_are_named(name: str) -> None:
    found = schema(name)
    inner = [one for member, one in found["properties"].items() if member in ("outputs", "image", "schemas")]
    inner += [found.get("$defs", {}).get(word, {}) for word in INNER.get(name, ("pack", "damaged", "fault"))]
    inner += [one.get("items", {}) for one in inner]
    for one in inner:
        assert [member for member in one.get("properties", {}) if f"`{member}`" not in SECTIONS[name]] == []


def test_every_member_of_a_verified_pack_is_printed(documents: Documents) -> None:
    packs = [pack for document in documents["verify"] for pack in document["packs"]]
    rebuilds = [pack["rebuild"] for pack in packs if "rebuild" in pack]
    found = schema("verify")["$defs"]
    assert {member for pack in packs for member in pack} == {*found["sound"]["properties"], "damage"}
    assert {member for rebuild in rebuilds for member in rebuild} == set(found["rebuild"]["properties"])
    assert {rebuild["equal"] for rebuild in rebuilds} == {True, False}


def test_there_are_errors_with_each_exit_code(documents: Documents) -> None:
    exits = {document["exit"] for document in documents["error"]}
    assert exits == {1, 2, 3, 4, 5, 6, 7, 8}
    assert any("faults" in document for document in documents["error"])


CLASSES = [
    one
    for one in (getattr(ctxpack_pantry, name) for name in ctxpack_pantry.__all__)
    if isinstance(one, type) and issubclass(one, CtxPackError)
]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
CONTRACT_MEMBERS = st.sampled_from(["command", "inputs", "outputs", "platform", "transforms", "tool", "params", "each"])
PROVENANCE_MEMBERS = st.sampled_from(["created", "weak", "code", "what"])


@given(
    st.dictionaries(CONTRACT_MEMBERS, JSON | st.lists(st.dictionaries(CONTRACT_MEMBERS, JSON))),
    st.dictionaries(PROVENANCE_MEMBERS, JSON | st.lists(st.dictionaries(PROVENANCE_MEMBERS, JSON))),
    st.text(),
)
def test_the_documents_of_a_pack_that_others_made_follow_their_schemas(
    contract: dict[str, Any], provenance: dict[str, Any], kind: str
) -> None:
    digest = digest_of(b"")
    outputs = Outputs(digest=digest, empty_folders=0, files=1, roots=(Root(name="a", type="file"),), size=1)
    uri = uri_for(digest)
    contract = contract | {"schema": kind}
    manifest = PackManifest(
        contract=contract, listings=(), outputs=outputs, provenance=provenance, schema="ctxpack/pack/v1", uri=uri
    )
    require_valid(Listed((StoredPack(uri, "folder", manifest, 0.0),)).as_json())
    decision = Decision(True, "accept-any", "", 1, "", (), (), "")
    verdict = Verdict(uri, "r", None, decision, (), (), "")
    require_valid(Inspected(manifest, "folder", None, tuple(in_contract(contract)), verdict).as_json())


@given(st.sampled_from(CLASSES), *[st.text()] * 5)
def test_the_document_of_every_error_follows_the_schema(
    kind: type[CtxPackError], what: str, where: str, expected: str, got: str, fix: str
) -> None:
    require_valid(error_as_json(kind(what or "x", where=where, expected=expected, got=got, fix=fix)))


@given(st.text(), st.lists(st.builds(Fault, st.just("E_TYPE"), st.just("/a~1b/0"), *[st.text()] * 3), min_size=1))
def test_the_document_of_a_wrong_contract_follows_the_schema(where: str, faults: list[Fault]) -> None:
    require_valid(error_as_json(ContractInvalid(where, faults)))


def test_every_code_of_a_weak_point_is_listed() -> None:
    sources = "".join(
        (ROOT / "packages/ctxpack-pantry/src/ctxpack_pantry" / name).read_text(encoding="utf-8")
        for name in ("weakpoints.py", "uncovered.py", "clearing.py", "making.py", "seed.py")
    )
    found = re.findall(
        r"""WeakPoint\("([a-z-]+)"|(?:yield|return) "([a-z-]+)", f|\(\?P<([a-z-]+)>|_note\(root, "([a-z-]+)\"""",
        sources,
    )
    codes = {code for groups in found for code in groups if code}
    assert len(codes) > 10
    listed = re.findall(r"^\| `([a-z-]+)` \| ", PAGE.partition("## Weak points")[2], re.MULTILINE)
    assert sorted(listed) == sorted(codes)
