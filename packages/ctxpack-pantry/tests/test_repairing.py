"""What a registry lost or damaged of a pack is sent again, under the same digests if that is possible."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_image import image_of
from pantry_target import FaultyTarget
from pantry_versions import Versions, assert_pulled, make_layers_small

from ctxpack_cache import Cache
from ctxpack_identity import Conflict, CtxUri, Digest, IntegrityError
from ctxpack_oci import Descriptor, ImageManifest
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import tag_of
from ctxpack_pantry.fetch import fetch
from ctxpack_pantry.push import push

if TYPE_CHECKING:
    from pantry_project import Project

ALL = ("flipped", "missing")


class Keeper(FaultyTarget):
    """Like registry:2, it does not store a blob again whose file is there, whatever the file holds."""

    def push(self, descriptor: Descriptor, content: bytes | BinaryIO) -> None:
        if descriptor.media_type.endswith("manifest.v1+json") or not self.blob(descriptor.digest).exists():
            super().push(descriptor, content)


@pytest.fixture
def versions(project: Project, monkeypatch: pytest.MonkeyPatch) -> Versions:
    make_layers_small(monkeypatch)
    return Versions(project, 900 << 10)


def harm(target: FaultyTarget, blob: Digest, how: str) -> None:
    if how == "missing":
        target.blob(blob).unlink()
    else:
        target.flip(blob, -9)


def blobs_of(manifest: ImageManifest) -> list[Digest]:
    return [manifest.config.digest, *(layer.digest for layer in manifest.layers)]


def repair(pantry: Pantry, target: FaultyTarget, uri: CtxUri) -> bool:
    """Repair; return whether the image manifest is the same as before."""
    before = target.layout.resolve_tag(tag_of(uri))
    pushed = push(context_of(pantry.cache, target), uri, repair=True)
    assert pushed.image == target.layout.resolve_tag(tag_of(uri))
    assert (pushed.replaced is None) == (pushed.image == before)
    if pushed.replaced is not None:
        assert pushed.replaced.image == before
    assert not pushed.new
    return pushed.replaced is None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_missing_or_damaged_is_healed_under_the_same_digests(
    pantry: Pantry, versions: Versions, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    uri = versions.seed_again(pantry)
    shutil.rmtree(pantry.cache.side("tables"), ignore_errors=True)
    folder = tmp_path_factory.mktemp("registry")
    registry = FaultyTarget(folder / "registry")
    push(context_of(pantry.cache, registry), uri)
    blobs = blobs_of(image_of(registry, uri).manifest)
    for blob, how in data.draw(st.dictionaries(st.sampled_from(blobs), st.sampled_from(ALL))).items():
        harm(registry, blob, how)
    if data.draw(st.booleans(), label="the table is not known here"):
        shutil.rmtree(pantry.cache.side("tables"))
    assert repair(pantry, registry, uri)
    got = Path(fetch(context_of(Cache(folder / "cache"), registry), uri).folder, "artifacts")
    assert {path.name: path.read_bytes() for path in got.iterdir()} == versions.files


@pytest.mark.parametrize("how", ALL)
def test_borrowed_layers_are_healed_whatever_that_takes(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, versions: Versions, how: str
) -> None:
    pantry.push(versions.seed(pantry))
    versions.change(2)
    uri = versions.seed(pantry)
    pantry.push(uri)
    for layer in image_of(registry, uri).layers[2:]:
        harm(registry, layer.digest, how)
    repair(pantry, registry, uri)
    assert_pulled(open_pantry("elsewhere"), uri, versions)
    registry.complaints.clear()


def test_a_pack_that_was_made_elsewhere_keeps_its_digests(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, versions: Versions
) -> None:
    """Its pack manifest, which says who made it, cannot be made here; its outputs can."""
    maker = open_pantry("maker")
    uri = versions.seed(maker)
    maker.push(uri)
    versions.seed_again(pantry)
    _, _, *data = image_of(registry, uri).layers
    for layer in data:
        harm(registry, layer.digest, "missing")
    assert repair(pantry, registry, uri)
    assert_pulled(open_pantry("elsewhere"), uri, versions)


@pytest.mark.parametrize("number", [0, 1, 2, -1], ids=["first", "table", "data", "last"])
def test_a_registry_that_keeps_what_it_damaged_gets_other_blobs(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    tmp_path: Path,
    number: int,
) -> None:
    keeper = Keeper(registry.folder)
    uri = versions.seed(pantry)
    push(context_of(pantry.cache, keeper), uri)
    harm(keeper, image_of(keeper, uri).layers[number].digest, "flipped")
    assert not repair(pantry, keeper, uri)
    assert_pulled(open_pantry("elsewhere"), uri, versions)


def test_a_contract_that_a_registry_keeps_damaged_is_said_since_no_pull_needs_it(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, versions: Versions
) -> None:
    """Its digest is the URI, so there is no other blob for it."""
    keeper = Keeper(registry.folder)
    uri = versions.seed(pantry)
    push(context_of(pantry.cache, keeper), uri)
    harm(keeper, image_of(keeper, uri).manifest.config.digest, "flipped")
    notices: list[str] = []
    pushed = push(context_of(pantry.cache, keeper, notice=notices.append), uri, repair=True)
    assert pushed.replaced is None
    assert notices == ["the registry keeps a damaged contract blob; ctxpack does not need it, but other tools may"]
    assert_pulled(open_pantry("elsewhere"), uri, versions)


def test_a_whole_pack_is_left_alone(pantry: Pantry, registry: FaultyTarget, versions: Versions) -> None:
    uri = versions.seed(pantry)
    pantry.push(uri)
    before = registry.count("push"), registry.count("tag")
    assert repair(pantry, registry, uri)
    assert (registry.count("push"), registry.count("tag")) == before


def test_a_pack_that_is_not_there_is_pushed(pantry: Pantry, registry: FaultyTarget, versions: Versions) -> None:
    uri = versions.seed(pantry)
    pushed = pantry.push(uri, repair=True)
    assert (pushed.new, pushed.replaced) == (True, None)
    assert registry.layout.resolve_tag(tag_of(uri)) == pushed.image


@pytest.mark.parametrize("what", ["missing", "another contract's", "no pack"])
def test_anything_under_the_tag_that_is_no_pack_of_this_contract_is_replaced(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, versions: Versions, what: str
) -> None:
    uri = versions.seed(pantry)
    image = image_of_pushed(pantry, registry, uri)
    if what == "missing":
        registry.blob(image).unlink()
    elif what == "no pack":
        registry.blob(image).unlink()
        registry.blob(image).write_bytes(b"{}")
    else:
        other = versions.seed(pantry)
        pantry.push(other)
        registry.layout.tag(image_of(registry, other).descriptor, tag_of(uri))
        versions.seed_again(pantry)
        with pytest.raises(IntegrityError, match="--repair"):
            pantry.push(uri)
    pantry.push(uri, repair=True)
    assert_pulled(open_pantry("elsewhere"), uri, versions)


def image_of_pushed(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> Digest:
    pantry.push(uri)
    return image_of(registry, uri).descriptor.digest


def test_other_outputs_are_a_conflict_for_a_repair_and_give_way_to_a_replacement(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, project: Project
) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    first = pantry.push(uri)
    project.make_outputs("other")
    rival = open_pantry("rival")
    rival.seed([], str(project.contract))
    with pytest.raises(Conflict):
        rival.push(uri, repair=True)
    replacing = rival.push(uri, replace=True)
    assert replacing.new
    assert replacing.outputs != first.outputs
    assert replacing.replaced == (first.image, first.outputs)
    assert replacing.as_json()["replaced"] == {"image": first.image, "outputs": first.outputs}
    assert Path(open_pantry("user").pull(uri).folder, "joined").read_text() == "other"
    again = rival.push(uri, replace=True)
    assert (again.new, again.sent, again.replaced) == (False, 0, None)
