"""Outputs of a pack in a registry are listed, read by ranges and extracted; only their chunks are fetched."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_image import image_of, laid_of, republish
from pantry_project import contents

from ctxpack_bundle import Selection, layering, read_entries
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, InvalidInput
from ctxpack_pantry import Pantry, parts
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import NOTHING_HELD
from ctxpack_pantry.lookup import open_pack, require_found
from ctxpack_pantry.partial import PartialPack

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

SIZE = 1_000_000  # bytes, some chunks


@pytest.fixture
def uri(open_pantry: Callable[..., Pantry], project: Project, monkeypatch: pytest.MonkeyPatch) -> CtxUri:
    """The URI of a pack in the registry, in layers of half a MiB. Gaps are small, too."""
    monkeypatch.setattr(layering, "_LEAST", 256 << 10)
    monkeypatch.setattr(parts, "_GAP", 1 << 10)
    noise = random.Random(5)
    for name in ("large-0", "large-1"):
        (project.out / name).write_bytes(noise.randbytes(SIZE))
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    return uri


@pytest.fixture
def open_partial(cache: Cache, registry: FaultyTarget, uri: CtxUri) -> Callable[[], PartialPack]:
    """Make a context manager of the pack."""

    def make() -> PartialPack:
        context = context_of(cache, registry)
        return PartialPack(cache, Download(context, require_found(context, uri)), NOTHING_HELD)

    return make


@pytest.fixture
def pack(open_partial: Callable[[], PartialPack]) -> Iterator[PartialPack]:
    with open_partial() as pack:
        yield pack


def test_the_entries_are_those_of_the_whole_pack(
    open_pantry: Callable[..., Pantry], pack: PartialPack, uri: CtxUri
) -> None:
    whole = Path(open_pantry("maker").pull(uri).folder).parent
    assert list(pack.entries()) == list(read_entries(str(whole)))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["large-0", "large-1", "joined", "tool"]),
    offset=st.integers(0, SIZE + 10) | st.integers(0, 12),
    size=st.integers(0, SIZE + 10) | st.integers(0, 12),
)
def test_any_range_of_any_file_equals_that_range_of_the_file(
    pack: PartialPack, project: Project, path: str, offset: int, size: int
) -> None:
    assert pack.read(path, offset, size) == (project.out / path).read_bytes()[offset : offset + size]


def test_a_range_costs_only_the_chunk_that_holds_it(cache: Cache, registry: FaultyTarget, uri: CtxUri) -> None:
    context = context_of(cache, registry)
    download = Download(context, require_found(context, uri))
    with PartialPack(cache, download, NOTHING_HELD) as pack:
        before, calls = download.received, len(registry.calls)
        got = pack.read("large-1", SIZE // 2, 30)
        assert (len(got), len(registry.calls) - calls) == (30, 1)
        image = image_of(registry, uri)
        assert download.received - before == image.table[image.find(got)].chunk_size


def test_a_damaged_chunk_is_not_read(pack: PartialPack, registry: FaultyTarget, uri: CtxUri) -> None:
    image = image_of(registry, uri)
    number = image.find(pack.read("large-0", SIZE // 2, 30))
    record = image.table[number]
    registry.flip(image.layers[record.layer].digest, record.offset + 100)
    place = f"layer {record.layer}, {image.layers[record.layer].digest}, at {record.offset}: "
    with pytest.raises(IntegrityError, match=place):
        pack.read("large-0", SIZE // 2, 30)
    assert pack.read("large-1", 0, 10) != b"", "the others are as good as before"


@pytest.mark.parametrize("path", ["", "deep", "deep/empty", "deep/empty/", "nothing", "../joined"])
def test_a_path_that_is_not_a_file_of_the_pack_cannot_be_read(pack: PartialPack, path: str) -> None:
    with pytest.raises(InvalidInput, match="no such file among the outputs") as caught:
        pack.read(path, 0, 1)
    assert caught.value.code == "E_NO_MATCH"


def test_extracting_writes_only_the_selected_outputs(
    cache: Cache, registry: FaultyTarget, uri: CtxUri, pack: PartialPack, tmp_path: Path
) -> None:
    manifest = open_pack(registry, require_found(context_of(cache, registry), uri)).manifest
    selection = Selection(pack.folder, manifest, lambda path: path in ("joined", "deep/empty/"), where="test")
    pack.extract(selection, str(tmp_path / "there"))
    assert contents(tmp_path / "there") == {"deep": "/", "deep/empty": "/", "joined": "alphabeta"}


@pytest.mark.parametrize("more", [1, -1, 512])
def test_sizes_of_pieces_that_do_not_add_up_to_the_pack_are_refused(
    open_partial: Callable[[], PartialPack], registry: FaultyTarget, uri: CtxUri, more: int
) -> None:
    layers, records = laid_of(image_of(registry, uri))
    records[-1] = records[-1]._replace(size=records[-1].size + more)
    republish(registry, uri, layers, records)
    with pytest.raises(IntegrityError, match="pieces do not make up the pack"), open_partial():
        pass


def test_a_partial_pack_leaves_nothing_on_disk(
    open_partial: Callable[[], PartialPack], registry: FaultyTarget, uri: CtxUri, leftovers: Callable[[], list[str]]
) -> None:
    with open_partial() as pack:
        assert leftovers() != []
        pack.read("joined", 0, 1)
    assert leftovers() == []
    image = image_of(registry, uri)
    registry.flip(image.layers[2].digest, image.table[0].offset + 30)
    with pytest.raises(IntegrityError), open_partial():
        pass
    assert leftovers() == []
