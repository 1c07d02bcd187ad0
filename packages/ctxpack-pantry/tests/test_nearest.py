"""The line of a miss: every member that differs from the nearest cached pack, one file each, and never an error."""

from __future__ import annotations

import doctest
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_context import context_of

from ctxpack_cache import Cache
from ctxpack_identity import LocalFailure, PolicyRefused, TreeEntry, uri_digest
from ctxpack_pantry import Pantry, nearest
from ctxpack_pantry.identify import identify
from ctxpack_pantry.nearest import miss_line

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

    from ctxpack_identity import CtxUri

Lines = Callable[..., str]


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a cached pack of the project, from two days ago."""
    seeded = pantry.seed([], str(project.contract))
    age(Path(seeded.folder), 2 * 86400 + 60)
    return seeded.uri


def age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder, (then, then))


@pytest.fixture
def line(cache: Cache, registry: FaultyTarget, project: Project) -> Lines:
    """Return the line of the project as it is now. The registry may not be asked."""

    def make(listings: Callable[[str], Iterable[TreeEntry] | None] | None = None, **options: Any) -> str:
        before = [registry.count(method) for method in ("fetch_tag", "fetch")]
        with context_of(cache, registry, **options) as context:
            found = miss_line(context, identify(context, project.load()), listings)
        assert [registry.count(method) for method in ("fetch_tag", "fetch")] == before
        return found

    return make


def since(uri: CtxUri) -> str:
    return f" since ctx://{uri_digest(uri)[7:15]}…, 2 days ago"


def test_every_member_is_named_with_one_file_each(project: Project, uri: CtxUri, line: Lines) -> None:
    project.code.write_text("other")
    (project.inputs / "b.txt").unlink()
    (project.inputs / "a.txt").write_text("other")
    (project.inputs / "c.txt").write_text("new")
    project.command = ["sh", "-x", "ingest.sh"]
    project.write_contract(params={"dpi": 600, "x": 1}, salt="s", variables={"X": "1"})
    assert line() == (
        "miss: code/ingest.sh changed; input raw_docs: a.txt changed and 2 more; params /dpi none → 600 and 1 more; "
        "command changed; salt changed; variables changed" + since(uri)
    )


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (1, "1", '1 → "1"'),
        ("1", "", '"1" → ""'),
        ("none", None, '"none" → null'),
        ("one long prompt that ends in a", "one long prompt that ends in b", '…nds in a" → …nds in b"'),
    ],
)
def test_values_are_json_and_cut_around_what_differs(
    pantry: Pantry, project: Project, line: Lines, old: object, new: object, shown: str
) -> None:
    project.write_contract(params={"t": old})
    pantry.seed([], str(project.contract))
    project.write_contract(params={"t": new})
    assert line().startswith(f"miss: params /t {shown} since ctx://")
    project.write_contract()
    absent = '"one long prompt that e…' if shown.startswith("…") else shown.split(" →")[0]
    assert line().startswith(f"miss: params /t {absent} → none since ctx://")


def test_what_one_file_may_be(project: Project, uri: CtxUri, line: Lines) -> None:
    (project.inputs / "c.txt").write_text("new")
    assert line() == "miss: input raw_docs: c.txt added" + since(uri)
    (project.inputs / "c.txt").unlink()
    (project.inputs / "b.txt").rename(project.inputs / "c.txt")
    assert line() == "miss: input raw_docs: c.txt renamed" + since(uri)
    (project.inputs / "c.txt").unlink()
    assert line() == "miss: input raw_docs: b.txt removed" + since(uri)
    (project.inputs / "b.txt").write_text("beta")
    (project.inputs / "empty").rmdir()
    assert line() == "miss: input raw_docs: empty/ removed" + since(uri)


def test_packages_of_lock_files_and_several_roots(pantry: Pantry, project: Project, line: Lines) -> None:
    for name in ("lib", "job"):
        (project.root / name).mkdir()
        (project.root / name / "main.py").write_text("1")
    lock = project.root / "lock.txt"
    lock.write_text("numpy==1.0\nidna==1")
    transform = {
        "tool": "t",
        "tool_version": "1",
        "code": [{"path": "lib"}, {"path": "job"}],
        "environment": {"path": "lock.txt", "text": True},
    }
    project.write_contract(transforms=[transform, transform | {"code": {"path": "job"}}])
    uri = pantry.seed([], str(project.contract)).uri
    lock.write_text("numpy==2.0")
    (project.root / "job" / "main.py").write_text("2")
    head = "miss: code/job/main.py changed; code of transform 1: main.py changed; "
    middle = "environment: idna 1 → none and 1 more; environment of transform 1: idna 1 → none and 1 more"
    assert line() == f"{head}{middle} since ctx://{uri_digest(uri)[7:15]}…, just now"


def test_inputs_and_transforms_that_come_and_go_with_other_tools(pantry: Pantry, project: Project, line: Lines) -> None:
    """They are of another kin, so no pack is near."""
    pantry.seed([], str(project.contract))
    project.write_contract(inputs=[{"name": "other", "path": "./raw_docs"}])
    assert line() == ""


def test_no_cached_pack_is_near(line: Lines) -> None:
    assert line() == ""


def test_the_nearest_pack_is_the_one_with_the_fewest_members_and_then_the_newest(
    pantry: Pantry, project: Project, uri: CtxUri, line: Lines
) -> None:
    for number, params in enumerate(({"a": 1}, {"a": 2}), 1):
        project.write_contract(params=params)
        seeded = pantry.seed([], str(project.contract))
        age(Path(seeded.folder), (3 - number) * 3600)
    project.write_contract(params={"a": 3})
    assert line() == f"miss: params /a 2 → 3 since ctx://{uri_digest(seeded.uri)[7:15]}…, 1 hour ago"
    (project.inputs / "a.txt").write_text("other")
    project.write_contract()
    assert line() == "miss: input raw_docs: a.txt changed" + since(uri)


def test_a_listing_can_be_handed_over(project: Project, uri: CtxUri, line: Lines) -> None:
    (project.inputs / "a.txt").write_text("other")
    asked = []

    def listings(root: str) -> list[TreeEntry]:
        asked.append(root)
        return [TreeEntry("zz", 1, "0" * 64)]

    assert line(listings) == "miss: input raw_docs: zz added and 3 more" + since(uri)
    assert asked == ["inputs/raw_docs"]
    assert line(lambda root: None) == "miss: input raw_docs: a.txt changed" + since(uri)


def test_it_is_short_whatever_differs(pantry: Pantry, project: Project, line: Lines) -> None:
    names = [f"input{number:02}-{'x' * 40}" for number in range(20)]
    for name in names:
        (project.root / name).write_text("1")
    project.write_contract(inputs=[{"name": name, "path": name} for name in names])
    pantry.seed([], str(project.contract))
    (project.root / names[0]).write_text("2")
    assert line().startswith(f"miss: input {names[0]}: {names[0]} changed since ctx://")
    for name in names:
        (project.root / name).write_text("2")
    found = line()
    assert len(found) <= 300
    assert found.startswith(f"miss: input {names[0]} changed; input {names[1]} changed; ")
    assert " others changed since ctx://" in found


def test_control_characters_are_escaped(project: Project, uri: CtxUri, line: Lines) -> None:
    (project.inputs / "a\x1b[2J\n.txt").write_text("x")
    found = line()
    assert found.isprintable()
    assert "a\\u001b[2J\\u000a.txt added" in found


def test_what_is_not_listed_is_named_without_a_file(
    pantry: Pantry, cache: Cache, project: Project, line: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_contract(
        inputs=[{"name": "raw_docs", "path": "./raw_docs", "listing": False}],
    )
    pantry.seed([], str(project.contract))
    (project.inputs / "a.txt").write_text("other")
    assert line().startswith("miss: input raw_docs changed since ")


def test_much_that_is_not_known_is_not_hashed_again(
    project: Project, uri: CtxUri, line: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.inputs / "a.txt").write_text("other")
    monkeypatch.setattr(nearest, "_MOST_BYTES", 3)
    assert line() == "miss: input raw_docs changed" + since(uri)


def test_an_input_that_is_a_pack_is_listed_by_that_pack(pantry: Pantry, project: Project, line: Lines) -> None:
    uris = []
    for joined in ("1", "2"):
        project.make_outputs(joined)
        project.write_contract(params={"joined": joined})
        uris.append(pantry.seed([], str(project.contract)).uri)
    for uri in uris:
        project.write_contract(inputs=[{"name": "up", "uri": uri}], outputs=[{"path": "./raw_docs"}])
        if uri == uris[0]:
            pantry.seed([], str(project.contract))
    assert line().startswith("miss: input up: joined changed since ")


def test_damage_is_no_error(project: Project, uri: CtxUri, cache: Cache, line: Lines) -> None:
    (project.inputs / "a.txt").write_text("other")
    folder = Path(cache.find(uri_digest(uri)) or "")
    listing = folder / "inputs/raw_docs.jsonl"
    listing.chmod(0o644)
    listing.write_bytes(b"damaged")
    assert line() == "miss: input raw_docs changed" + since(uri)
    listing.parent.chmod(0o755)
    listing.unlink()
    assert line() == "miss: input raw_docs changed" + since(uri)
    manifest = folder / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(b"{}")
    assert line() == ""


@pytest.mark.parametrize("error", [LocalFailure("no"), OSError("no")])
def test_no_error_comes_out(
    project: Project, uri: CtxUri, line: Lines, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (project.inputs / "a.txt").write_text("other")

    def fail(*given: object, **options: object) -> None:
        raise error

    assert line(fail) == "miss: input raw_docs changed" + since(uri)
    for name in ("near_cached", "find_cached", "PackView"):
        with monkeypatch.context() as patch:
            patch.setattr(nearest, name, fail)
            assert line() == ""


def test_a_pack_that_the_policy_refuses_is_not_near(project: Project, uri: CtxUri, line: Lines) -> None:
    def refuse(candidate: object) -> None:
        raise PolicyRefused("no")

    (project.inputs / "a.txt").write_text("other")
    assert line(policy=refuse) == ""


def test_the_examples_run() -> None:
    assert doctest.testmod(nearest).failed == 0
