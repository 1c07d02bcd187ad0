"""Outputs on disk become a pack in the cache, under the URI of their contract."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_project import contents

from ctxpack_bundle import OutputTree, read_entries
from ctxpack_cache import Cache
from ctxpack_identity import (
    Conflict,
    CtxUri,
    InvalidInput,
    LocalFailure,
    NotFound,
    digest_of,
    hash_tree,
    uri_digest,
)
from ctxpack_pantry import Pantry
from ctxpack_pantry.provenance import Execution
from ctxpack_pantry.seed import seed

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


def seeded_uri(pantry: Pantry, project: Project) -> CtxUri:
    return pantry.seed([], str(project.contract)).uri


def test_the_pack_holds_the_outputs_under_the_contracts_uri(pantry: Pantry, project: Project) -> None:
    seeded = pantry.seed([str(project.out)], str(project.contract))
    assert seeded.uri == project.uri
    assert seeded.new
    assert contents(Path(seeded.folder, "artifacts")) == contents(project.out)
    assert seeded.manifest.outputs_digest == hash_tree(str(project.out)).digest


def test_the_declared_outputs_are_seeded_when_none_are_named(pantry: Pantry, project: Project) -> None:
    seeded = pantry.seed([], str(project.contract))
    assert seeded.manifest.outputs_digest == hash_tree(str(project.out)).digest


def test_a_contract_without_outputs_needs_them_named(pantry: Pantry, project: Project) -> None:
    project.write_contract(outputs=[])
    with pytest.raises(InvalidInput, match=r"contract\.json, /outputs: contract declares no outputs; say what"):
        pantry.seed([], str(project.contract))
    assert pantry.seed([str(project.out)], str(project.contract)).new


@pytest.mark.parametrize("given", [["report=elsewhere/made"], {"report": "elsewhere/made"}, ["elsewhere/report"], []])
def test_wherever_outputs_lie_their_names_in_the_pack_are_those_of_the_contract(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch, given: list[str] | dict[str, str]
) -> None:
    monkeypatch.chdir(project.root)
    project.write_contract(outputs=[{"path": "out", "name": "report"}, {"path": "z.txt"}])
    (project.root / "z.txt").write_text("z")
    for name in ("made", "report"):
        (project.root / "elsewhere" / name).mkdir(parents=True)
        (project.root / "elsewhere" / name / "x").write_text(name)
    seeded = pantry.seed(given, "contract.json")
    assert seeded.manifest.contract["outputs"] == ["report", "z.txt"]
    assert [(root.name, root.type) for root in seeded.manifest.outputs.roots] == [
        ("report", "folder"),
        ("z.txt", "file"),
    ]
    source = project.root / ("elsewhere/made" if "made" in str(given) else "elsewhere/report" if given else "out")
    assert contents(Path(seeded.folder, "artifacts/report")) == contents(source)


def test_any_output_can_be_seeded_where_the_contract_declares_none(pantry: Pantry, project: Project) -> None:
    project.write_contract(outputs=[])
    seeded = pantry.seed({"b": str(project.out), "a": f"{project.out}/joined"}, str(project.contract))
    assert seeded.manifest.contract["outputs"] == []
    assert [(root.name, root.type) for root in seeded.manifest.outputs.roots] == [("a", "file"), ("b", "folder")]


def test_the_same_outputs_again_are_not_new(
    pantry: Pantry, project: Project, leftovers: Callable[[], list[str]]
) -> None:
    first = pantry.seed([], str(project.contract))
    again = pantry.seed([], str(project.contract))
    assert (again.new, again.folder, again.manifest) == (False, first.folder, first.manifest)
    assert leftovers() == []


def test_other_outputs_of_the_same_contract_are_a_conflict_with_both_digests(
    pantry: Pantry, project: Project, leftovers: Callable[[], list[str]]
) -> None:
    first = pantry.seed([], str(project.contract))
    project.make_outputs("something else")
    with pytest.raises(Conflict) as caught:
        pantry.seed([], str(project.contract))
    assert str(caught.value) == (
        f"{first.uri}: the cache holds other outputs of the same contract: "
        f"expected outputs {first.manifest.outputs_digest}, got {hash_tree(str(project.out)).digest}; "
        "the work is not deterministic, or something it depends on is missing from the contract. To put these in its "
        f"place: `ctxpack rm {first.uri}`, then the same again, or `ctxpack run --recompute`; to keep both: another "
        "`salt` in one contract"
    )
    assert Path(first.folder, "artifacts", "joined").read_text() == "alphabeta"
    assert leftovers() == []


def test_after_removing_the_pack_the_other_outputs_can_be_seeded(pantry: Pantry, project: Project) -> None:
    uri = seeded_uri(pantry, project)
    project.make_outputs("something else")
    assert pantry.remove(uri).removed == (uri,)
    assert pantry.seed([], str(project.contract)).new


def test_every_input_is_listed_and_the_listing_is_anchored_in_the_manifest(pantry: Pantry, project: Project) -> None:
    project.write_contract(
        inputs=[{"name": "raw_docs", "path": "./raw_docs"}, {"name": "one", "path": "./raw_docs/a.txt"}]
    )
    seeded = pantry.seed([], str(project.contract))
    listings = {listing.path: listing for listing in seeded.manifest.listings}
    assert list(listings) == ["files.jsonl", "code/0.jsonl", "inputs/one.jsonl", "inputs/raw_docs.jsonl"]
    for path, listing in listings.items():
        data = Path(seeded.folder, path).read_bytes()
        assert (digest_of(data), len(data)) == (listing.digest, listing.size)
    found = [(entry.path, entry.size) for entry in read_entries(seeded.folder, "inputs/raw_docs.jsonl")]
    assert found == [("a.txt", 5), ("b.txt", 4), ("empty/", 0)]
    assert [entry.path for entry in read_entries(seeded.folder, "inputs/one.jsonl")] == [""]


def test_an_empty_input_has_an_empty_listing_and_an_input_by_digest_has_none(pantry: Pantry, project: Project) -> None:
    known = digest_of(b"known")
    project.write_contract(inputs=[{"name": "nothing", "path": "./raw_docs/empty"}, {"name": "known", "digest": known}])
    seeded = pantry.seed([], str(project.contract))
    listings = {listing.path: listing.size for listing in seeded.manifest.listings}
    assert listings.keys() == {"files.jsonl", "code/0.jsonl", "inputs/nothing.jsonl"}
    assert listings["inputs/nothing.jsonl"] == 0
    assert seeded.manifest.contract["inputs"]["known"] == {"digest": known}


def downstream(project: Project, source: dict[str, str]) -> None:
    """Let the contract describe a second step, whose input is what the first one made."""
    project.write_contract(inputs=[{"name": "joined", **source}], outputs=[{"path": "./raw_docs"}])


def test_a_pack_as_an_input_gives_the_same_identity_as_the_folder_it_was_made_of(
    pantry: Pantry, project: Project
) -> None:
    upstream = seeded_uri(pantry, project)
    downstream(project, {"path": "./out"})
    by_path = pantry.resolve(str(project.contract))
    downstream(project, {"uri": upstream})
    by_uri = pantry.resolve(str(project.contract))
    assert by_uri.canonical == by_path.canonical
    assert upstream.encode() not in by_uri.canonical


def test_a_pack_as_an_input_is_listed_and_noted_in_the_provenance(pantry: Pantry, project: Project) -> None:
    upstream = seeded_uri(pantry, project)
    downstream(project, {"uri": upstream})
    seeded = pantry.seed([], str(project.contract))
    assert seeded.manifest.provenance["inputs"] == {"joined": {"uri": upstream}}
    assert list(read_entries(seeded.folder, "inputs/joined.jsonl")) == list(
        read_entries(str(pantry.cache.find(uri_digest(upstream))))
    )


def test_a_pack_that_is_only_in_the_registry_is_an_input_known_by_digest(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project
) -> None:
    upstream = seeded_uri(pantry, project)
    pantry.push(upstream)
    downstream(project, {"uri": upstream})
    seeded = open_pantry("another cache").seed([], str(project.contract))
    assert seeded.uri == pantry.resolve(str(project.contract)).uri
    assert [listing.path for listing in seeded.manifest.listings] == ["files.jsonl", "code/0.jsonl"]
    assert seeded.manifest.provenance["inputs"] == {"joined": {"uri": upstream}}


def test_a_pack_that_is_nowhere_cannot_be_an_input(pantry: Pantry, project: Project) -> None:
    nowhere = "ctx://sha256:" + "0" * 64
    downstream(project, {"uri": nowhere})
    with pytest.raises(NotFound, match=f"the registry: no such pack: {nowhere}; check the URI and the registry"):
        pantry.seed([], str(project.contract))


def test_labels_and_the_run_are_in_the_provenance_and_not_in_the_identity(
    cache: Cache, registry: FaultyTarget, project: Project
) -> None:
    before = project.uri
    project.write_contract(labels={"team": "search"})
    execution = Execution(("sh", "ingest.sh"), 1.5)
    seeded = seed(
        context_of(cache, registry), project.load(), {"out": OutputTree(str(project.out))}, execution=execution
    )
    assert seeded.uri == before
    assert seeded.manifest.provenance["labels"] == {"team": "search"}
    assert seeded.manifest.provenance["run"] == {"command": ["sh", "ingest.sh"], "seconds": 1.5}


def test_the_same_work_gives_the_same_pack_to_the_byte(
    open_pantry: Callable[..., Pantry], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    one, other = (open_pantry(name).seed([], str(project.contract)) for name in ("one", "other"))
    assert contents(one.folder) == contents(other.folder)
    assert json.loads(Path(one.folder, "manifest.json").read_text())["provenance"]["created"] == "2023-11-14T22:13:20Z"


def test_an_input_that_changed_since_the_contract_was_resolved_is_named(
    pantry: Pantry, cache: Cache, registry: FaultyTarget, project: Project, leftovers: Callable[[], list[str]]
) -> None:
    before = pantry.resolve(str(project.contract))
    (project.inputs / "c.txt").write_text("gamma")
    with pytest.raises(InvalidInput) as caught:
        seed(context_of(cache, registry), project.load(), {"out": OutputTree(str(project.out))}, expected=before)
    assert str(caught.value) == (
        "input raw_docs: changed while the command ran, so nothing was seeded: "
        f"expected {before.uri}, got {project.uri}; "
        "run it again when nothing writes to it"
    )
    assert pantry.list_packs().packs == ()
    assert leftovers() == []


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["missing"], "missing: no such file or folder"),
        (["out", "raw_docs/../out"], "two outputs have the same name"),
        (["link"], "link: symbolic link"),
        (["pipe"], "pipe: device, FIFO or socket"),
    ],
)
def test_outputs_that_no_pack_can_hold_leave_nothing_in_the_cache(
    pantry: Pantry, project: Project, leftovers: Callable[[], list[str]], outputs: list[str], message: str
) -> None:
    (project.root / "link").symlink_to("out")
    os.mkfifo(project.root / "pipe")
    with pytest.raises(InvalidInput, match=message):
        pantry.seed([f"out={project.root / output}" for output in outputs], str(project.contract))
    assert pantry.list_packs().packs == ()
    assert leftovers() == []


def test_a_notice_names_files_of_file_managers(pantry: Pantry, project: Project, notices: list[str]) -> None:
    (project.inputs / ".DS_Store").write_text("junk")
    seeded_uri(pantry, project)
    [notice] = notices
    left = "left by a file manager, and changes the URI; remove or exclude it"
    assert notice == f"weak point: input raw_docs: .DS_Store: {left}"


def test_a_cache_that_cannot_be_made_is_a_local_failure(
    open_pantry: Callable[..., Pantry], project: Project, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalFailure, match="cannot make the cache: Not a directory"):
        open_pantry("file/cache").seed([], str(project.contract))


@pytest.mark.parametrize("member", ["manifest.json", "files.jsonl", "inputs/raw_docs.jsonl", "artifacts/joined"])
@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 1)])
def test_a_damaged_pack_under_the_same_uri_is_set_aside_and_replaced(
    pantry: Pantry, project: Project, notices: list[str], member: str, damage: Callable[[str], object]
) -> None:
    """Nobody could use it, so it is no reason to refuse the good one."""
    seeded = pantry.seed([], str(project.contract))
    whole = contents(seeded.folder)
    path = Path(seeded.folder, member)
    path.parent.chmod(0o755)
    path.chmod(0o644)
    damage(str(path))
    again = pantry.seed([], str(project.contract))
    assert (again.new, again.folder) == (True, seeded.folder)
    found = contents(again.folder)
    assert {**found, "manifest.json": ""} == {**whole, "manifest.json": ""}  # it says when it was made
    [notice] = notices
    assert notice.startswith("the cached pack is damaged, and was set aside in ")
    assert str(path) in notice
