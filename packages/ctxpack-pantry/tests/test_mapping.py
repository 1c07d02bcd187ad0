"""Map: which items are made, what a dry run says, and what is refused before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pantry_project import Project, contents

from ctxpack_bundle import read_entries
from ctxpack_identity import InvalidInput, uri_digest
from ctxpack_pantry import Mapped, Pantry

EACH = {"input": "raw_docs", "output": "{dir}{stem}.up"}
UPPER = 'echo "$1" >> ran; tr a-z A-Z < "$1" > "$2"\n'


@pytest.fixture
def mapped(project: Project) -> Project:
    """A project that maps its two documents by ingest.sh, which notes in `ran` what it was called for."""
    for path in project.out.rglob("*"):
        if path.is_file():
            path.unlink()
    for path in sorted(project.out.rglob("*"), reverse=True):
        path.rmdir()
    project.out.rmdir()
    project.code.write_text(UPPER)
    project.command = ["sh", "ingest.sh", "{item}", "{out}"]
    project.write_contract(each=EACH)
    return project


def ran(project: Project) -> list[str]:
    """What was made since the last call."""
    note = project.root / "ran"
    lines = note.read_text().splitlines() if note.exists() else []
    note.unlink(missing_ok=True)
    return sorted(lines)


def counts(found: Mapped) -> dict[str, int]:
    names = ("finished", "cached", "fetched", "made", "missing")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_only_what_changed_is_made(pantry: Pantry, mapped: Project) -> None:
    first = pantry.map(str(mapped.contract))
    assert (first.hit, first.items, counts(first)) == (False, 2, {"made": 2})
    assert contents(mapped.out) == {"a.up": "ALPHA", "b.up": "BETA"}
    assert ran(mapped) == ["./raw_docs/a.txt", "./raw_docs/b.txt"]
    assert pantry.map(str(mapped.contract)).hit
    (mapped.inputs / "b.txt").write_text("gamma")
    (mapped.inputs / "c.txt").write_text("delta")
    second = pantry.map(str(mapped.contract))
    assert counts(second) == {"cached": 1, "made": 2}
    assert contents(mapped.out) == {"a.up": "ALPHA", "b.up": "GAMMA", "c.up": "DELTA"}
    assert ran(mapped) == ["./raw_docs/b.txt", "./raw_docs/c.txt"]


def test_a_dry_run_makes_nothing_and_knows_a_hit(pantry: Pantry, mapped: Project) -> None:
    assert counts(pantry.map(str(mapped.contract), dry_run=True)) == {"missing": 2}
    assert (ran(mapped), mapped.out.exists()) == ([], False)
    uri = pantry.map(str(mapped.contract), push=True).uri
    assert pantry.map(str(mapped.contract), dry_run=True).hit
    pantry.remove(uri)
    assert pantry.map(str(mapped.contract), dry_run=True).hit
    assert not pantry.map(str(mapped.contract), dry_run=True, offline=True).hit


def test_what_was_made_elsewhere_is_seeded_if_each_item_has_its_result(pantry: Pantry, mapped: Project) -> None:
    mapped.out.mkdir()
    for name, text in (("a.up", "ALPHA"), ("b.up", "BETA")):
        (mapped.out / name).write_text(text)
    seeded = pantry.seed([], str(mapped.contract))
    assert pantry.map(str(mapped.contract)).uri == seeded.uri
    assert (pantry.map(str(mapped.contract)).hit, ran(mapped)) == (True, [])
    (mapped.inputs / "c.txt").write_text("delta")
    assert counts(pantry.map(str(mapped.contract))) == {"cached": 2, "made": 1}


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"a.up": ""}, "item 'b.txt' has no result"),
        ({"b.up": ""}, "item 'a.txt' has no result"),
        ({}, "item 'a.txt' has no result"),
        ({"a.up": "", "b.up": "", "c.up": ""}, "what lies here is the result of no item"),
        ({"a.up": "", "a.up2": "", "b.up": ""}, "what lies here is the result of no item"),
        ({"0": "", "a.up": "", "b.up": ""}, "what lies here is the result of no item"),
    ],
)
def test_nothing_else_is_seeded_as_a_map(pantry: Pantry, mapped: Project, files: dict[str, str], what: str) -> None:
    mapped.out.mkdir()
    for name, text in files.items():
        (mapped.out / name).write_text(text)
    with pytest.raises(InvalidInput, match=what) as caught:
        pantry.seed([], str(mapped.contract))
    assert caught.value.code == "E_EACH"
    assert list(pantry.cache.packs()) == []


def test_a_result_may_be_a_folder(pantry: Pantry, mapped: Project) -> None:
    mapped.out.mkdir()
    for item in ("a", "b"):
        (mapped.out / f"{item}.up" / "deep" / "empty").mkdir(parents=True)
        (mapped.out / f"{item}.up" / "x").write_text(item)
    uri = pantry.seed([], str(mapped.contract)).uri
    (mapped.inputs / "c.txt").write_text("delta")
    assert counts(pantry.map(str(mapped.contract))) == {"cached": 2, "made": 1}
    folder = pantry.cache.find(uri_digest(pantry.resolve(str(mapped.contract)).uri))
    assert folder is not None
    assert pantry.resolve(str(mapped.contract)).uri != uri
    found = [entry.path for entry in read_entries(folder)]
    assert found == ["a.up/deep/empty/", "a.up/x", "b.up/deep/empty/", "b.up/x", "c.up"]


@pytest.mark.parametrize(
    ("members", "code", "said"),
    [
        ({"each": None}, "E_EACH", "does not say which"),
        ({"command": ["cp", "{item}"]}, "E_COMMAND", "{item} and {out}, or {batch} alone"),
        ({"command": ["cp", "{item}", "{out}", "{batch}"]}, "E_COMMAND", "got {batch} and {item} and {out}"),
        ({"command": ["cp"]}, "E_COMMAND", "got none of them"),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    pantry: Pantry, mapped: Project, members: dict[str, Any], code: str, said: str
) -> None:
    mapped.write_contract(**({"each": EACH} | members if members.get("each", EACH) else {}))
    with pytest.raises(InvalidInput) as caught:
        pantry.map(str(mapped.contract))
    assert caught.value.code == code
    assert said in str(caught.value)


def upper(item: Path, out: Path) -> None:
    out.write_text(item.read_text().upper())


def upper_with(item: Path, out: Path, **params: str) -> None:
    out.write_text(item.read_text().upper() + str(params))


def upper_by_position(item: Path, out: Path, /, **params: str) -> None:
    out.write_text(item.read_text().upper() + str(params))


def test_a_function_that_no_root_covers_is_a_weak_point(pantry: Pantry, mapped: Project, notices: list[str]) -> None:
    """As for compute."""
    pantry.map(str(mapped.contract), upper)
    [line] = [notice for notice in notices if "the function" in notice]
    assert line.startswith(f"weak point: the function {__name__}:upper lies in ")
    assert line.endswith('test_mapping.py, and no root covers it; add it to "code"')


def test_a_param_named_as_one_of_the_paths_is_refused_once(pantry: Pantry, mapped: Project) -> None:
    mapped.write_contract(each=EACH, params={"item": "x", "dpi": "y"})
    with pytest.raises(InvalidInput, match="has the name of a parameter that gets a path: got item") as caught:
        pantry.map(str(mapped.contract), upper_with)
    assert caught.value.code == "E_FUNCTION"
    assert pantry.map(str(mapped.contract), upper_by_position).made == 2
    assert contents(mapped.out)["a.up"] == "ALPHA{'dpi': 'y', 'item': 'x'}"


@pytest.mark.parametrize("options", [{"jobs": 0}, {"jobs": -1}, {"on_conflict": "ask"}])
def test_wrong_options_are_refused(pantry: Pantry, mapped: Project, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        pantry.map(str(mapped.contract), **options)
    assert caught.value.code == "E_USAGE"


def test_what_is_at_the_output_is_refused_before_anything_is_made(pantry: Pantry, mapped: Project) -> None:
    mapped.out.mkdir()
    (mapped.out / "mine").write_text("mine")
    with pytest.raises(InvalidInput) as caught:
        pantry.map(str(mapped.contract))
    assert (caught.value.code, ran(mapped)) == ("E_OCCUPIED", [])
    assert pantry.map(str(mapped.contract), force=True).made == 2
    assert contents(mapped.out) == {"a.up": "ALPHA", "b.up": "BETA"}


def test_items_that_are_made_outlive_a_map_that_fails(pantry: Pantry, mapped: Project) -> None:
    mapped.code.write_text(UPPER + 'test "$(cat "$1")" != beta -o -e fixed\n')
    found = pantry.map(str(mapped.contract))
    assert (found.status, counts(found)) == (1, {"made": 1, "missing": 1})
    assert [(item.path, item.status) for item in found.failed] == [("b.txt", 1)]
    assert (ran(mapped), mapped.out.exists(), list(pantry.cache.packs())) == (
        ["./raw_docs/a.txt", "./raw_docs/b.txt"],
        False,
        [],
    )
    (mapped.root / "fixed").touch()
    assert counts(pantry.map(str(mapped.contract))) == {"finished": 1, "made": 1}
    assert ran(mapped) == ["./raw_docs/b.txt"]
    assert not Path(pantry.cache.side("items")).exists() or not any(Path(pantry.cache.side("items")).iterdir())


def test_an_item_of_an_earlier_version_is_found_unless_many_packs_had_nothing(pantry: Pantry, mapped: Project) -> None:
    (mapped.inputs / "b.txt").write_text("old")
    pantry.map(str(mapped.contract))
    for version in range(3):
        (mapped.inputs / "b.txt").write_text(f"version {version}")
        assert counts(pantry.map(str(mapped.contract))) == {"cached": 1, "made": 1}
    (mapped.inputs / "b.txt").write_text("old")
    (mapped.inputs / "c.txt").write_text("another pack than the first")
    assert counts(pantry.map(str(mapped.contract))) == {"cached": 2, "made": 1}
    ran(mapped)


@pytest.mark.parametrize("by", ["path", "content"])
@pytest.mark.parametrize("of", ["files", "entries"])
def test_items_are_found_in_the_pack_that_has_them_however_the_items_are_made(
    pantry: Pantry, mapped: Project, of: str, by: str
) -> None:
    mapped.code.write_text('echo "$1" >> ran; cp -r "$1" "$2"\n')
    mapped.write_contract(each=EACH | {"of": of, "by": by, "output": "{path}"})
    (mapped.inputs / "folder" / "inner").mkdir(parents=True)
    (mapped.inputs / "folder" / "file.txt").write_text("in a folder")
    (mapped.inputs / "hollow").mkdir()
    for text in ("beta", "gamma"):
        (mapped.inputs / "b.txt").write_text(text)
        pantry.map(str(mapped.contract))
    (mapped.inputs / "b.txt").write_text("beta")  # which the pack before the newest has
    (mapped.inputs / "c.txt").write_text("delta")
    ran(mapped)
    found = pantry.map(str(mapped.contract))
    assert counts(found) == {"cached": found.items - 1, "made": 1}
    assert len(ran(mapped)) == 1
