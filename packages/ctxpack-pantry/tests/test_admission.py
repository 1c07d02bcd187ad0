"""Every pack is admitted before it is used, in the cache and in the registry, and before any layer is fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_project import contents

from ctxpack_identity import CtxUri, PolicyRefused, uri_digest
from ctxpack_pantry import Candidate, Pantry
from ctxpack_pantry.lookup import locate

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


class Judge:
    """A policy that notes every candidate, and refuses them all unless it is lenient."""

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.candidates: list[Candidate] = []

    def __call__(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        if not self.lenient:
            raise PolicyRefused("refused", where=candidate.uri)


@pytest.fixture
def uri(open_pantry: Callable[..., Pantry], project: Project) -> CtxUri:
    """The URI of a pack in the registry and in the cache of its maker."""
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    return uri


@pytest.fixture
def judged(tmp_path: Path, open_pantry: Callable[..., Pantry], registry: FaultyTarget) -> Callable[..., Pantry]:
    """Make a pantry whose packs a judge admits or refuses."""

    def make(judge: Judge, cache: str) -> Pantry:
        return Pantry(open_pantry(cache).settings, target=registry, policy=judge)

    return make


def pull(pantry: Pantry, project: Project, uri: CtxUri) -> object:
    return pantry.pull(uri)


def pull_some(pantry: Pantry, project: Project, uri: CtxUri) -> object:
    return pantry.pull(uri, str(project.root / "some"), include=["joined"])


def inspect(pantry: Pantry, project: Project, uri: CtxUri) -> object:
    return pantry.inspect(uri)


def run(pantry: Pantry, project: Project, uri: CtxUri) -> object:
    return pantry.run(str(project.contract))


def use_as_input(pantry: Pantry, project: Project, uri: CtxUri) -> object:
    project.write_contract(inputs=[{"name": "joined", "uri": uri}])
    return pantry.resolve(str(project.contract))


Verb = Callable[[Pantry, "Project", CtxUri], object]
VERBS = [pull, pull_some, inspect, run, use_as_input]
REFUSED = [pull, pull_some, use_as_input]  # `inspect` looks, and `run` makes the pack


@pytest.mark.parametrize("verb", REFUSED)
def test_a_refused_pack_of_the_registry_is_not_used_and_no_layer_of_it_is_fetched(
    judged: Callable[..., Pantry], project: Project, registry: FaultyTarget, uri: CtxUri, verb: Verb
) -> None:
    located = locate(registry, uri)
    assert located is not None
    fetched = registry.count("fetch")
    judge = Judge()
    with pytest.raises(PolicyRefused):
        verb(judged(judge, "empty"), project, uri)
    assert judge.candidates == [(uri, "the registry", located.image)]
    assert registry.count("fetch") == fetched


@pytest.mark.parametrize("verb", REFUSED)
def test_a_refused_pack_of_the_cache_is_not_used(
    judged: Callable[..., Pantry], project: Project, registry: FaultyTarget, uri: CtxUri, verb: Verb
) -> None:
    located = locate(registry, uri)
    assert located is not None
    before, calls = contents(project.root), len(registry.calls)
    judge = Judge()
    with pytest.raises(PolicyRefused):
        verb(judged(judge, "maker"), project, uri)
    assert judge.candidates == [(uri, "the registry", located.image)]
    assert len(registry.calls) == calls
    assert verb is use_as_input or contents(project.root) == before


@pytest.mark.parametrize("cache", ["empty", "maker"])
def test_a_refused_pack_is_a_miss_in_run(
    open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget, uri: CtxUri, cache: str
) -> None:
    said: list[str] = []
    pantry = Pantry(open_pantry(cache).settings, target=registry, policy=Judge(), notice=said.append)
    fetched = registry.count("fetch")
    assert not pantry.run(str(project.contract), force=True).hit
    assert registry.count("fetch") == fetched
    assert any("not used" in line and "push --replace" in line for line in said)


@pytest.mark.parametrize("cache", ["empty", "maker"])
def test_a_refused_pack_can_be_inspected_and_nothing_is_cached(
    judged: Callable[..., Pantry], uri: CtxUri, cache: str
) -> None:
    pantry = judged(Judge(), cache)
    assert pantry.inspect(uri).manifest.uri == uri
    assert (pantry.cache.find(uri_digest(uri)) is None) == (cache == "empty")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb is not inspect])
@pytest.mark.parametrize("cache", ["empty", "maker"])
def test_an_admitted_pack_is_used(
    judged: Callable[..., Pantry], project: Project, uri: CtxUri, verb: Verb, cache: str
) -> None:
    judge = Judge(lenient=True)
    verb(judged(judge, cache), project, uri)
    assert {candidate.uri for candidate in judge.candidates} == {uri}


def test_a_pack_that_was_pulled_is_judged_by_the_image_manifest_it_came_with(
    judged: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri
) -> None:
    judge = Judge(lenient=True)
    pantry = judged(judge, "empty")
    pantry.pull(uri)
    pantry.pull(uri)
    located = locate(registry, uri)
    assert located is not None
    assert [candidate.image for candidate in judge.candidates] == [located.image] * 2


def test_a_pack_that_was_only_seeded_has_no_image_manifest(judged: Callable[..., Pantry], project: Project) -> None:
    judge = Judge(lenient=True)
    pantry = judged(judge, "own")
    uri = pantry.seed([], str(project.contract)).uri
    pantry.pull(uri)
    assert judge.candidates == [(uri, "the registry", None)]


def test_an_image_manifest_is_not_that_of_other_outputs_seeded_later(
    judged: Callable[..., Pantry], project: Project, uri: CtxUri
) -> None:
    judge = Judge(lenient=True)
    pantry = judged(judge, "maker")
    pantry.cache.remove(uri_digest(uri))  # not by the verb, which removes the note as well
    project.make_outputs("other outputs")
    pantry.seed([], str(project.contract))
    pantry.pull(uri)
    assert judge.candidates[-1] == (uri, "the registry", None)


def test_a_push_only_compares_a_pack_that_has_the_tag_already(
    judged: Callable[..., Pantry], project: Project, uri: CtxUri
) -> None:
    judge = Judge()
    pantry = judged(judge, "another")
    pantry.seed([], str(project.contract))
    assert not pantry.push(uri).new
    assert judge.candidates == []
