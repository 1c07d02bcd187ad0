"""What the pages of a registry show of a pack: of its pack manifest alone, in one line each."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pantry_image import bare_pack

from ctxpack_oci import parse_image_manifest
from ctxpack_pantry import Pantry
from ctxpack_pantry.annotations import annotations_of
from ctxpack_pantry.artifact import build_image_manifest, tag_of

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

PREFIX = "org.opencontainers.image."
CONTRACT = {"transforms": [{"tool": "vision", "tool_version": "1.2"}, {"tool": "chunker", "tool_version": "3"}]}


def shown(*given: Any) -> dict[str, str]:
    """Return the annotations of a pack, without their prefix. given: see bare_pack."""
    return {name.removeprefix(PREFIX): value for name, value in annotations_of(bare_pack(*given)).items()}


def test_a_pack_says_what_made_it_and_where_from() -> None:
    provenance = {
        "created": "2026-11-26T15:19:45Z",
        "labels": {"team": "search", "corpus": "2026"},
        "git": {"commit": "a" * 40, "dirty": True, "remote": "https://git.example/team/notes"},
    }
    assert shown(CONTRACT, provenance, "index") == {
        "title": "vision 1.2",
        "description": "vision 1.2, chunker 3; corpus=2026, team=search",
        "created": "2026-11-26T15:19:45Z",
        "source": "https://git.example/team/notes",
        "revision": "a" * 40,
    }


def test_without_a_tool_the_first_output_is_the_title() -> None:
    assert shown({}, {}, "index", "notes") == {"title": "index"}
    assert shown({}, {"labels": {"a": "b"}}) == {"description": "a=b"}
    assert shown() == {}


@pytest.mark.parametrize(
    "created",
    ["2026-11-26T15:19:45Z", "2024-02-29T00:00:00.123456789+05:30", "0001-01-01T23:59:59-00:00"],
)
def test_a_time_of_rfc_3339_is_shown(created: str) -> None:
    assert shown({}, {"created": created}) == {"created": created}


@pytest.mark.parametrize(
    "created",
    [
        "",
        "yesterday",
        "2026-11-26",
        "2026-11-26T15:19:45",
        "2026-11-26T15:19:45Z\n",
        "2026-02-30T00:00:00Z",
        "2026-11-26T24:00:00Z",
        "2026-11-26T23:60:00Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-11-26T15:19:45Z",
        7,
        None,
        ["2026-11-26T15:19:45Z"],
    ],
)
def test_another_time_is_not_shown(created: object) -> None:
    assert shown({}, {"created": created}) == {}


@pytest.mark.parametrize(
    "git",
    [
        None,
        "main",
        {"commit": 7, "remote": 7},
        {"commit": "HEAD", "remote": "/home/me/notes"},
        {"commit": "A" * 40, "remote": "file:///home/me"},
        {"commit": "a" * 41, "remote": "javascript:alert(1)//x y"},
    ],
)
def test_what_is_no_commit_and_no_url_is_not_shown(git: object) -> None:
    assert shown({}, {"git": git}) == {}


def test_a_remote_that_somebody_recorded_with_a_password_is_shown_without() -> None:
    git = {"commit": "b" * 64, "remote": "https://bot:secret@git.example/team?x"}
    assert shown({}, {"git": git}) == {"revision": "b" * 64, "source": "https://git.example/team"}


def test_control_characters_become_spaces_and_long_texts_are_cut() -> None:
    contract = {"transforms": [{"tool": "a\x1b[31m\n\u202eb\x9b", "tool_version": "v" * 500}] * 50}
    found = shown(contract, {"labels": {f"k{n}": "x" * 10_000_000 if n == 1 else "y" for n in range(100)}})
    assert found["title"] == "a [31m b " + "v" * 70 + "…"
    assert len(found["title"]) == 80
    assert len(found["description"]) == 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["tool", "tool_version"]), JSON),
    st.dictionaries(st.sampled_from(["created", "labels", "git"]), JSON),
    JSON,
    JSON,
)
def test_whatever_a_pack_says_the_values_are_short_lines(
    transform: dict[str, Any], provenance: dict[str, Any], commit: Any, remote: Any
) -> None:
    pack = bare_pack(
        {"transforms": [transform]}, {"git": {"commit": commit, "remote": remote}} | provenance, "\x00root"
    )
    for name, value in annotations_of(pack).items():
        assert re.fullmatch(rf"{re.escape(PREFIX)}[a-z]+", name)
        assert 0 < len(value) <= 1000
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", value)


def test_the_order_in_which_labels_are_held_changes_nothing() -> None:
    one, other = ({"labels": dict(pairs)} for pairs in ((("a", "1"), ("b", "2")), (("b", "2"), ("a", "1"))))
    assert build_image_manifest(bare_pack({}, one), []) == build_image_manifest(bare_pack({}, other), [])


def test_a_pack_has_the_same_image_manifest_whoever_pushes_it_and_after_a_repair(
    pantry: Pantry, open_pantry: Any, project: Project, registry: FaultyTarget
) -> None:
    project.write_contract(labels={"team": "search"})
    uri = pantry.seed([], str(project.contract)).uri
    image = pantry.push(uri).image
    tagged = registry.layout.fetch_tag(tag_of(uri))
    assert tagged is not None
    annotations = parse_image_manifest(tagged.data).annotations
    assert annotations["org.opencontainers.image.title"] == "cat 9.1"
    assert annotations["org.opencontainers.image.description"] == "cat 9.1; team=search"
    assert annotations["org.opencontainers.image.created"] == pantry.inspect(uri).manifest.provenance["created"]
    other = open_pantry("another")
    other.pull(uri)
    registry.layout.delete(tag_of(uri))
    assert other.push(uri).image == image
    registry.layout.delete(tag_of(uri))
    assert other.push(uri, repair=True).image == image
    assert json.loads(tagged.data)["annotations"] == annotations
