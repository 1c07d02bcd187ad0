"""Which cached packs are of one kin."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from pantry_context import context_of
from pantry_project import Project

from ctxpack_identity import CtxUri, digest_from_hex, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.kinship import CachedKin, cached_kin


def seeded(pantry: Pantry, project: Project, version: int) -> CtxUri:
    project.write_contract(params={"version": version})
    return pantry.seed([], str(project.contract)).uri


def kin_in(pantry: Pantry, project: Project) -> list[CachedKin]:
    contract = pantry.resolve(str(project.contract)).contract
    return list(cached_kin(context_of(pantry.cache, pantry.target), contract))


def test_newest_first_and_only_packs_that_are_there(open_pantry: Callable[..., Pantry], project: Project) -> None:
    pantry = open_pantry("machine")
    assert kin_in(pantry, project) == []
    uris = [seeded(pantry, project, version) for version in range(3)]
    for number, uri in enumerate(uris):
        folder = pantry.cache.find(uri_digest(uri))
        assert folder is not None
        os.chmod(folder, 0o755)
        os.utime(folder, (number, number))
    assert [kin.uri for kin in kin_in(pantry, project)] == uris[::-1]
    pantry.remove(uris[1])
    assert [kin.uri for kin in kin_in(pantry, project)] == [uris[2], uris[0]]


def test_notes_that_were_lost_are_made_anew(open_pantry: Callable[..., Pantry], project: Project) -> None:
    pantry = open_pantry("machine")
    first = seeded(pantry, project, 1)
    assert len(kin_in(pantry, project)) == 1
    second = seeded(pantry, project, 2)
    shutil.rmtree(pantry.cache.side("kin"))
    assert {kin.uri for kin in kin_in(pantry, project)} == {first, second}


def test_names_that_are_no_notes_are_skipped(open_pantry: Callable[..., Pantry], project: Project) -> None:
    pantry = open_pantry("machine")
    uri = seeded(pantry, project, 1)
    assert [kin.uri for kin in kin_in(pantry, project)] == [uri]
    [folder] = os.scandir(pantry.cache.side("kin"))
    for name in ("x", "0" * 63, "a" * 64, "../up".replace("/", "_")):
        open(os.path.join(folder.path, name), "x").close()
    assert [kin.uri for kin in kin_in(pantry, project)] == [uri]
    assert digest_from_hex("a" * 64) not in {uri_digest(kin.uri) for kin in kin_in(pantry, project)}


def test_another_tool_is_no_kin(open_pantry: Callable[..., Pantry], project: Project) -> None:
    pantry = open_pantry("machine")
    seeded(pantry, project, 1)
    text = project.contract.read_text()
    project.contract.write_text(text.replace('"cat"', '"another"'))
    assert kin_in(pantry, project) == []
