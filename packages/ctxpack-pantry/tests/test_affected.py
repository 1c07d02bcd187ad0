"""What a denial is about, as far as this machine knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import CtxUri, digest_of
from ctxpack_pantry import Pantry
from ctxpack_pantry.affected import Affected
from ctxpack_trust import generate_key

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

KEY = generate_key()
COPY = ["cp", "-r", "joined", "out"]


@pytest.fixture
def chain(pantry: Pantry, project: Project) -> list[CtxUri]:
    """Three packs, each the input of the next: the first by its URI, the others by what they hold."""
    first = pantry.seed([], str(project.contract)).uri
    pantry.push(first)
    project.command = COPY
    project.make_outputs("second")
    project.write_contract(inputs=[{"name": "joined", "uri": first}])
    second = pantry.seed([], str(project.contract)).uri
    digest = pantry.inspect(second).manifest.outputs_digest
    project.make_outputs("third")
    project.write_contract(inputs=[{"name": "joined", "digest": digest}], params={"a": 1})
    third = pantry.seed([], str(project.contract)).uri
    project.make_outputs("other")
    project.write_contract(inputs=[{"name": "joined", "digest": digest_of(b"other")}])
    pantry.seed([], str(project.contract))  # which is never affected
    return [first, second, third]


def affected(pantry: Pantry, what: str, **given: Any) -> Affected:
    found = pantry.trust_deny(what, show_affected=True, **given).affected
    assert found is not None
    return found


def why(found: Affected) -> list[tuple[str, str, str, bool]]:
    return [(pack.uri, pack.why, pack.through, pack.refused) for pack in found.packs]


def test_what_was_made_from_a_denied_pack_is_listed_too(pantry: Pantry, chain: list[CtxUri]) -> None:
    first, second, third = chain
    assert why(affected(pantry, first)) == [
        (first, "denied", first, True),
        (second, "input", first, False),
        (third, "input", second, False),
    ]
    assert affected(pantry, third).packs[0][:3] == (third, pantry.inspect(third).found_in, "denied")
    assert [pack.uri for pack in affected(pantry, third).packs] == [third]


def test_an_image_manifest_and_outputs_are_found(pantry: Pantry, chain: list[CtxUri]) -> None:
    inspected = pantry.inspect(chain[0], skip_cache=True)
    assert inspected.located is not None
    by_image = why(affected(pantry, inspected.located.image, dry_run=True))
    assert by_image[0] == (chain[0], "denied", inspected.located.image, True)
    assert [one[0] for one in by_image] == chain
    outputs = inspected.manifest.outputs_digest
    assert {one[0] for one in why(affected(pantry, outputs, dry_run=True))} == {*chain}


def test_what_is_not_cached_still_has_what_was_made_from_it(pantry: Pantry, chain: list[CtxUri]) -> None:
    pantry.remove(chain[0])
    assert why(affected(pantry, chain[0])) == [
        (chain[1], "input", chain[0], False),
        (chain[2], "input", chain[1], False),
    ]


def test_a_key_affects_what_it_signed_as_far_as_the_cache_keeps_claims(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, project: Project, tmp_path: Path
) -> None:
    uri = pantry.run(str(project.contract), force=True).uri
    pantry.push(uri, key=KEY)
    user = Pantry(open_pantry("theirs").settings, target=registry, environ={"HOME": str(tmp_path / "user")})
    user.trust_add("team", pub=KEY.public.as_pem())
    user.pull(uri)
    assert affected(user, "team", dry_run=True).packs == ()  # no claim was needed
    user.remove(uri)
    user.trust_mode("signed")
    there = tmp_path / "there"
    user.pull(uri, str(there))
    [pack] = affected(user, "team", dry_run=True).packs
    assert (pack.uri, pack.why, pack.through, pack.refused) == (uri, "signed", KEY.public.key_id, True)
    assert pack.places == (str(there),)
    assert any("others may be signed by this key as well" in line for line in affected(user, "team").unknown)
    assert affected(user, "0" * 64).packs == ()


def test_packs_with_items_of_a_denied_pack_or_of_a_denied_key_are_found(
    pantry: Pantry, project: Project, chain: list[CtxUri]
) -> None:
    image, key_id = digest_of(b"image"), KEY.public.key_id
    project.write_contract(params={"reused": True})
    reused = pantry.seed([], str(project.contract)).uri
    _note_items(pantry, reused, [{"uri": chain[2], "items": 3, "image": image, "admitted_by": [key_id]}])
    for what, kind in ((image, "image"), (key_id, "")):
        assert why(affected(pantry, what, kind=kind, dry_run=True)) == [(reused, "items", what, True)]
    assert why(affected(pantry, chain[2], dry_run=True))[1][:3] == (reused, "items", chain[2])


def test_a_denial_reaches_what_has_items_of_a_pack_by_its_uri_and_by_its_outputs(
    pantry: Pantry, project: Project, chain: list[CtxUri]
) -> None:
    inspected = pantry.inspect(chain[0], skip_cache=True)
    assert inspected.located is not None
    outputs, image = inspected.manifest.outputs_digest, inspected.located.image
    unpushed = pantry.inspect(chain[2]).manifest.outputs_digest
    for item, denied in (
        ({"uri": chain[0], "image": image, "admitted_by": ["own"]}, [chain[0], outputs, image]),
        ({"uri": chain[2], "admitted_by": ["own"]}, [chain[2], unpushed]),
        ({"uri": chain[2], "image": digest_of(b"another result"), "admitted_by": ["own"]}, [chain[2]]),
    ):
        project.write_contract(params=item)
        reused = pantry.seed([], str(project.contract)).uri
        _note_items(pantry, reused, [{"items": 3, **item}])
        for what in (chain[0], outputs, image, chain[2], unpushed):
            pantry.trust_deny(what)
            assert pantry.trust_check(reused).decision.denied == (what in denied)
            pantry.trust_deny(what, undo=True)


def _note_items(pantry: Pantry, uri: CtxUri, items: list[dict[str, Any]]) -> None:
    """Write into the manifest of a cached pack where its items are from, as a map does."""
    path = Path(pantry.inspect(uri).found_in, "manifest.json")
    path.chmod(0o644)
    manifest = json.loads(path.read_bytes())
    manifest["provenance"]["items"] = items
    path.write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))


def test_places_are_those_where_something_is(pantry: Pantry, project: Project, tmp_path: Path) -> None:
    uri = pantry.run(str(project.contract), force=True).uri
    pantry.pull(uri, str(tmp_path / "whole"))
    pantry.pull(uri, str(tmp_path / "some"), include=["joined"])
    pantry.pull(uri, str(tmp_path / "gone"))
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    found = affected(pantry, uri)
    assert sorted(found.packs[0].places) == sorted(map(str, (project.out, tmp_path / "some", tmp_path / "whole")))
    assert "what was copied, moved or exported from here is not known" in found.unknown


def test_damaged_packs_are_counted(pantry: Pantry, chain: list[CtxUri]) -> None:
    path = Path(pantry.inspect(chain[1]).found_in, "manifest.json")
    path.chmod(0o644)
    path.write_bytes(b"{}")
    found = affected(pantry, chain[0])
    assert [pack.uri for pack in found.packs] == [chain[0]]
    assert any(line.startswith("1 damaged cached packs were not looked at") for line in found.unknown)
