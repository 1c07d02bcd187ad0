"""Each result is one JSON document with a schema; docs/json.md describes the documents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctxpack_identity import CtxUri, uri_digest
from ctxpack_pantry import Pantry, Pulled, Removed

if TYPE_CHECKING:
    from pantry_project import Project

ONE, OTHER = CtxUri("ctx://sha256:" + "1" * 64), CtxUri("ctx://sha256:" + "2" * 64)


def test_a_pull_has_the_number_and_size_of_its_files_only_with_include() -> None:
    document = {"schema": "ctxpack/pull/v1", "uri": ONE, "folder": "there", "received": 7}
    assert Pulled(ONE, "there", 7).as_json() == document
    assert Pulled(ONE, "there", 7, 0, 0).as_json() == document | {"files": 0, "size": 0}


def test_a_removal_names_the_packs_that_were_removed_and_those_that_were_missing() -> None:
    assert Removed((ONE,), (OTHER,)).as_json() == {"schema": "ctxpack/rm/v1", "removed": [ONE], "missing": [OTHER]}


def test_a_list_has_a_damaged_pack_without_what_its_manifest_would_say(pantry: Pantry, project: Project) -> None:
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
        },
        damaged.uri: {"uri": damaged.uri, "folder": damaged.folder, "damaged": True},
    }
    assert pantry.list_packs().as_json() == {
        "schema": "ctxpack/ls/v1",
        "packs": [packs[uri] for uri in sorted(packs)],
    }
