"""Which packs of the cache are listed, and in which order."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import CtxUri, InvalidInput, hex_of, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.packs import ORDERS

if TYPE_CHECKING:
    from pantry_project import Project

DAY = 86_400.0
SOON = 4_000_000_000.0  # seconds since the epoch, after every test

Make = Callable[..., CtxUri]


@pytest.fixture
def make(pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Seed a pack. used: when it was used last; created: in seconds since the epoch; files: of its outputs."""
    number = iter(range(100))

    def seed(*, used: float, created: int = 0, tool: str = "cat", size: int = 1, **members: Any) -> CtxUri:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(created))
        transform = {"tool": tool, "tool_version": "1", "code_hash": "opaque", "params": {"n": next(number)}}
        project.write_contract(transforms=[transform], **members)
        project.make_outputs("x" * size)
        uri = pantry.seed([], str(project.contract)).uri
        set_use(pantry, uri, used)
        return uri

    return seed


def set_use(pantry: Pantry, uri: CtxUri, used: float) -> None:
    """Let a pack be used at that time, and published long before."""
    note = Path(pantry.cache.root, "v1", "used", hex_of(uri_digest(uri)))
    os.utime(pantry.cache.find(uri_digest(uri)) or "", (0, 0))
    os.utime(note, (used, used))


def listed(pantry: Pantry, **given: Any) -> list[CtxUri]:
    return [pack.uri for pack in pantry.list_packs(**given).packs]


def test_the_pack_that_was_used_last_is_first(pantry: Pantry, make: Make) -> None:
    old, new = make(used=SOON), make(used=SOON + 1)
    assert listed(pantry) == listed(pantry, sort="used") == [new, old]
    set_use(pantry, old, SOON + 2)
    assert listed(pantry) == [old, new]


def test_a_pull_and_an_inspection_are_uses(pantry: Pantry, make: Make) -> None:
    first, second = make(used=DAY), make(used=2 * DAY)
    pantry.pull(first)
    assert listed(pantry) == [first, second]
    set_use(pantry, first, DAY)
    pantry.inspect(first)
    assert listed(pantry) == [first, second]


def test_a_pack_that_is_refused_is_not_used(pantry: Pantry, make: Make, project: Project) -> None:
    """A hit that finds the user's own files at the place of an output hands nothing out."""
    first, second = make(used=DAY), make(used=2 * DAY)
    there = project.root / "there"
    there.write_text("the user's own")
    with pytest.raises(InvalidInput):
        pantry.pull(first, str(there))
    assert listed(pantry) == [second, first]


def test_packs_are_sorted_by_what_is_asked_for(pantry: Pantry, make: Make) -> None:
    b = make(used=3 * DAY, created=5, tool="b", size=10)
    a = make(used=1 * DAY, created=7, tool="a", size=20)
    c = make(used=2 * DAY, created=6, tool="c", size=30)
    assert listed(pantry, sort="created") == [a, c, b]
    assert listed(pantry, sort="size") == [c, a, b]
    assert listed(pantry, sort="tool") == [a, b, c]
    assert listed(pantry, sort="uri") == sorted([a, b, c])


def test_packs_that_are_equal_in_it_are_sorted_by_uri(pantry: Pantry, make: Make) -> None:
    uris = sorted(make(used=DAY) for _ in range(4))
    assert [listed(pantry, sort=order) for order in ORDERS] == [uris] * len(ORDERS)


def test_packs_are_chosen_by_tool_label_and_input(pantry: Pantry, make: Make) -> None:
    one = make(used=3 * DAY, tool="cat", labels={"team": "search", "run": "7"})
    two = make(used=2 * DAY, tool="cat", labels={"team": "ads"})
    three = make(used=1 * DAY, tool="dog", inputs=[{"name": "model", "path": "./raw_docs"}])
    assert listed(pantry, tool="cat") == [one, two]
    assert listed(pantry, label=["team"]) == [one, two]
    assert listed(pantry, label=["team=search"]) == listed(pantry, label="team=search") == [one]
    assert listed(pantry, label=["team", "run=7"]) == [one]
    assert listed(pantry, label=["team=ads", "run"]) == []
    assert listed(pantry, label=["team="]) == []
    assert listed(pantry, input="model") == [three]
    assert listed(pantry, input="raw_docs", tool="cat", label=["team=ads"]) == [two]
    assert listed(pantry, tool="ca") == []


def test_a_label_with_an_equals_sign_is_found_by_its_text(pantry: Pantry, make: Make) -> None:
    uri = make(used=DAY, labels={"a": "b=c", "d": ""})
    for text in ("a", "a=b=c", "d", "d="):
        assert listed(pantry, label=[text]) == [uri]
    assert listed(pantry, label=["a=b"]) == []


def test_packs_are_chosen_by_when_they_were_used(pantry: Pantry, make: Make) -> None:
    now = time.time()
    ago = {span: make(used=now - seconds) for span, seconds in (("h", 1800), ("d", 7200), ("w", 3 * DAY))}
    assert listed(pantry, since="1h") == listed(pantry, since="60m") == [ago["h"]]
    assert listed(pantry, since="1d") == listed(pantry, since="24h") == [ago["h"], ago["d"]]
    assert listed(pantry, since="1w") == [*ago.values()]
    assert listed(pantry, since="0m") == []
    assert listed(pantry, since="999999w") == [*ago.values()]


def test_a_date_is_its_first_moment_here_unless_it_names_a_zone(pantry: Pantry, make: Make) -> None:
    uri = make(used=datetime(2026, 11, 1).timestamp())
    assert listed(pantry, since="2026-11-01") == listed(pantry, since="2026-11-01T00:00") == [uri]
    assert listed(pantry, since="2026-11-01 00:00:01") == []
    set_use(pantry, uri, 1_793_491_200)
    assert listed(pantry, since="2026-11-01T00:00:00Z") == listed(pantry, since="2026-11-01T02:00+02:00") == [uri]
    assert listed(pantry, since="2026-11-01T00:00:01Z") == []


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("sort", "age", "used, created, size, tool, uri"),
        ("sort", "", "used, created, size, tool, uri"),
        ("label", ["=x"], "KEY=VALUE, or KEY"),
        ("label", [""], "KEY=VALUE, or KEY"),
        ("since", "", "such as 30m, 12h, 7d or 2w, or a date or time such as 2026-11-01"),
        ("since", "7", "7d"),
        ("since", "-7d", "7d"),
        ("since", "7y", "7d"),
        ("since", "1234567d", "7d"),
        ("since", "٧d", "7d"),
        ("since", "7d\n", "7d"),
        ("since", "yesterday", "7d"),
        ("since", "2026-13-01", "2026-11-01"),
        ("since", "2026-11-01T25:00", "2026-11-01"),
        ("since", "0000-01-01", "2026-11-01"),
    ],
)
def test_a_value_that_is_not_understood_is_refused_with_what_is_allowed(
    pantry: Pantry, option: str, value: object, allowed: str
) -> None:
    with pytest.raises(InvalidInput, match="cannot list packs by that: expected ") as caught:
        pantry.list_packs(**{option: value})  # type: ignore[arg-type]
    assert (caught.value.where, caught.value.code) == (option, "E_USAGE")
    assert allowed in caught.value.expected


def test_of_a_damaged_pack_only_the_time_of_its_use_is_known(pantry: Pantry, make: Make) -> None:
    sound, damaged = make(used=2 * DAY, labels={"a": "b"}), make(used=3 * DAY)
    manifest = Path(pantry.cache.find(uri_digest(damaged)) or "", "manifest.json")
    manifest.chmod(0o644)
    manifest.write_text("{}")
    set_use(pantry, damaged, 3 * DAY)
    assert listed(pantry) == [damaged, sound]
    for order in ("created", "size", "tool"):
        assert listed(pantry, sort=order) == [sound, damaged]
    assert listed(pantry, label=["a=b"], tool="cat", input="raw_docs") == [damaged, sound]
    assert listed(pantry, since="1970-01-05T00:00Z") == []


def test_a_pack_that_is_removed_while_they_are_listed_is_not_listed(
    pantry: Pantry, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, staying = sorted([make(used=DAY), make(used=DAY)])

    def read(folder: str) -> Any:
        if folder == pantry.cache.find(uri_digest(going)):
            os.chmod(folder, 0o755)
            shutil.rmtree(folder)
        return read_pack_manifest(folder)

    monkeypatch.setattr("ctxpack_pantry.packs.read_pack_manifest", read)
    assert listed(pantry) == [staying]
