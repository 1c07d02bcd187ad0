"""`verify` reads cached packs whole; damaged ones are set aside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_project import flip

from ctxpack_bundle import PackManifest, folder_size, read_pack_manifest
from ctxpack_identity import CtxUri, NotFound, uri_digest
from ctxpack_pantry import Context, Pantry, Verified, VerifiedPack, verification
from ctxpack_pantry.outlet import read_whole
from ctxpack_pantry.verification import verify

if TYPE_CHECKING:
    from pantry_project import Project


@pytest.fixture
def uris(pantry: Pantry, project: Project) -> list[CtxUri]:
    """Three packs of the cache, sorted."""
    found = []
    for number in range(3):
        project.make_outputs(f"number {number}")
        project.write_contract(params={"number": number})
        found.append(pantry.seed([], str(project.contract)).uri)
    return sorted(found)


def folder_of(pantry: Pantry, uri: CtxUri) -> str:
    folder = pantry.cache.find(uri_digest(uri))
    assert folder is not None
    return folder


def whole(pantry: Pantry, uri: CtxUri) -> VerifiedPack:
    outputs = read_pack_manifest(folder_of(pantry, uri)).outputs
    return VerifiedPack(uri, outputs.files, outputs.size)


def test_packs_that_are_whole_stay_and_their_sizes_are_told(pantry: Pantry, uris: list[CtxUri]) -> None:
    expected = Verified(tuple(whole(pantry, uri) for uri in uris))
    assert pantry.verify() == expected
    assert pantry.verify(*uris) == expected
    assert pantry.verify(uris[2], uris[0], uris[2]).packs == (expected.packs[2], expected.packs[0])
    assert len(pantry.list_packs().packs) == 3


def test_an_empty_cache_is_whole(pantry: Pantry) -> None:
    assert pantry.verify().packs == ()


MEMBERS = ["manifest.json", "files.jsonl", "inputs/raw_docs.jsonl", "artifacts/joined"]


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("damage", [flip, os.unlink, lambda path: os.truncate(path, 1)])
@pytest.mark.parametrize("named", [False, True])
def test_a_damaged_pack_is_named_and_set_aside_and_the_others_are_read_all_the_same(
    pantry: Pantry, uris: list[CtxUri], notices: list[str], member: str, damage: Callable[[Path], object], named: bool
) -> None:
    expected = [whole(pantry, uri) for uri in uris]
    folder = folder_of(pantry, uris[1])
    path = Path(folder, member)
    path.parent.chmod(0o755)
    damage(path)
    one, two, three = pantry.verify(*(uris if named else [])).packs
    assert [one, three] == [expected[0], expected[2]]
    assert (two.uri, two.files, two.size) == (uris[1], 0, 0)
    assert str(path) in two.damage
    assert pantry.cache.find(uri_digest(uris[1])) is None
    [notice] = notices
    assert notice.startswith("the cached pack is damaged, and was set aside in ")
    assert notice.endswith(two.damage)
    assert pantry.verify().packs == (expected[0], expected[2])


def test_what_was_changed_with_all_times_restored_is_found(pantry: Pantry, uris: list[CtxUri]) -> None:
    """And what was damaged without a change of its fingerprint, since everything is read."""
    folder = folder_of(pantry, uris[0])
    flip(Path(folder, "artifacts/joined"))
    key = uri_digest(uris[0])
    pantry.cache.confirm(key, pantry.cache.fingerprint_of(key))
    assert pantry.cache.is_as_published(key)
    assert pantry.verify(uris[0]).packs[0].damage != ""


@pytest.mark.parametrize("member", ["artifacts/more", "more", "artifacts/deep/empty/more"])
def test_a_file_more_is_damage(pantry: Pantry, uris: list[CtxUri], member: str) -> None:
    path = Path(folder_of(pantry, uris[0]), member)
    path.parent.chmod(0o755)
    path.write_text("more")
    assert pantry.verify(uris[0]).packs[0].damage != ""


def test_a_pack_in_the_folder_of_another_is_damaged(pantry: Pantry, uris: list[CtxUri]) -> None:
    one, other = (folder_of(pantry, uri) for uri in uris[:2])
    os.chmod(one, 0o755)
    os.rename(one, f"{one}.moved")
    os.rename(other, one)
    [pack] = pantry.verify(uris[0]).packs
    assert pack.damage == (
        f"{one}: pack of another contract: expected {uris[0]}, got {uris[1]}; pull it anew, or make it again"
    )


@pytest.mark.parametrize("damage", ["", "shorter", "longer", "manifest", "removed"])
def test_all_packs_have_one_total(pantry: Pantry, uris: list[CtxUri], damage: str) -> None:
    """What is damaged or removed counts as done."""
    sizes = [folder_size(read_pack_manifest(folder_of(pantry, uri))) for uri in uris]
    steps: list[tuple[str, int, int | None]] = []

    def progress(stage: str, advanced: int, total: int | None) -> None:
        if damage == "removed" and not steps:
            pantry.remove(uris[2])
        steps.append((stage, advanced, total))

    if damage in ("shorter", "longer"):
        path = f"{folder_of(pantry, uris[1])}/artifacts/joined"
        os.chmod(path, 0o600)
        os.truncate(path, 0 if damage == "shorter" else 1 << 20)
    if damage == "manifest":
        path = f"{folder_of(pantry, uris[1])}/manifest.json"
        os.chmod(path, 0o600)
        os.truncate(path, 9)
        sizes[1] = 0
    verify(context_of(pantry.cache, pantry.target, progress=progress))
    assert {(stage, total) for stage, _, total in steps} == {("hash", sum(sizes))}
    assert sum(advanced for _, advanced, _ in steps) == sum(sizes)


def test_what_was_read_is_known_to_be_whole(pantry: Pantry, uris: list[CtxUri]) -> None:
    key = uri_digest(uris[0])
    os.utime(Path(folder_of(pantry, uris[0]), "artifacts/joined"))
    assert not pantry.cache.is_as_published(key)
    assert pantry.verify(uris[0]).packs[0].damage == ""
    assert pantry.cache.is_as_published(key)


def test_a_pack_that_the_cache_does_not_have_is_an_error(pantry: Pantry, uris: list[CtxUri]) -> None:
    pantry.remove(uris[1])
    with pytest.raises(NotFound) as caught:
        pantry.verify(*uris)
    assert caught.value.where == uris[1]
    assert len(pantry.verify().packs) == 2


def test_a_pack_that_is_removed_meanwhile_is_neither_damaged_nor_listed(
    pantry: Pantry, uris: list[CtxUri], notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = read_whole

    def remove_first(context: Context, uri: CtxUri, folder: str) -> PackManifest:
        if uri == uris[1]:
            pantry.remove(uri)
        return real(context, uri, folder)

    expected = (whole(pantry, uris[0]), whole(pantry, uris[2]))
    monkeypatch.setattr(verification, "read_whole", remove_first)
    assert pantry.verify().packs == expected
    assert notices == []


def test_the_document_says_what_was_wrong(uris: list[CtxUri]) -> None:
    one, two = VerifiedPack(uris[0], 3, 5), VerifiedPack(uris[1], 0, 0, "broken")
    assert Verified((one, two)).as_json() == {
        "schema": "ctxpack/verify/v1",
        "packs": [{"uri": uris[0], "files": 3, "size": 5}, {"uri": uris[1], "damage": "broken"}],
    }
