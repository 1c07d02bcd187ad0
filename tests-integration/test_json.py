"""docs/json.md lists every document that a command prints with --json, and all of its members."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from examples import write_contract
from machine import Machine

PAGE = (Path(__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(ctxpack/[a-z]+/v1)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
NOWHERE = "ctx://sha256:" + "0" * 64
OPTIONAL = {"ctxpack/pull/v1": {"files", "size"}, "ctxpack/inspection/v1": {"image"}}


def members(section: str) -> list[str]:
    """Return the members in a section's table."""
    return re.findall(r"^\| `([a-z_]+)` \| ", section, re.MULTILINE)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """What every command prints in the course of a project, by schema."""
    machine = Machine(folder := tmp_path_factory.mktemp("json"), f"oci:{folder}/registry")
    write_contract(machine.work)
    (machine.work / "processed_data").mkdir()
    (machine.work / "processed_data" / "a.txt").write_text("made")
    uri = machine.succeed("id")
    lines = (
        "init new.json",
        "id",
        "seed",
        f"push {uri}",
        f"pull {uri}",
        f"pull {uri} --include *.txt -o some",
        f"export {uri} --tar pack.tar.gz",
        f"inspect {uri}",
        f"inspect {uri} --skip-cache",
        "run -- false",
        "ls",
        f"rm {uri}",
    )
    printed: dict[str, list[dict[str, object]]] = {}
    for line in lines:
        command, *rest = line.split()
        document = json.loads(machine.succeed(command, "--json", *rest))
        printed.setdefault(document["schema"], []).append(document)
    failed = machine.run("pull", "--json", NOWHERE)
    printed["ctxpack/error/v1"] = [json.loads(failed.stderr)]
    return printed


def test_every_document_is_described_and_every_description_is_printed(
    documents: dict[str, list[dict[str, object]]],
) -> None:
    assert set(SECTIONS) == set(documents)
    assert len(SECTIONS) == 11


@pytest.mark.parametrize("schema", SECTIONS)
def test_the_members_are_those_of_the_page(documents: dict[str, list[dict[str, object]]], schema: str) -> None:
    listed = members(SECTIONS[schema])
    assert len(set(listed)) == len(listed) > 0
    for document in documents[schema]:
        assert set(listed) - OPTIONAL.get(schema, set()) <= document.keys() - {"schema"} <= set(listed)
    assert set(listed) == {member for document in documents[schema] for member in document} - {"schema"}


@pytest.mark.parametrize("schema", SECTIONS)
def test_the_members_of_objects_inside_are_named(documents: dict[str, list[dict[str, object]]], schema: str) -> None:
    for document in documents[schema]:
        inner = [value for name, value in document.items() if name in ("outputs", "image")]
        packs = document.get("packs")
        inner += packs if isinstance(packs, list) else []
        for value in inner:
            if isinstance(value, dict):
                assert [name for name in value if f"`{name}`" not in SECTIONS[schema]] == []
