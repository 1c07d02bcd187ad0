"""Outputs of a pack in a registry are listed, read by ranges and extracted; only their chunks are fetched."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_project import contents

from ctxpack_bundle import Selection, read_entries
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, InvalidInput, silent
from ctxpack_pantry import Pantry
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import NOTHING_HELD
from ctxpack_pantry.lookup import Admitted, require_found
from ctxpack_pantry.partial import PartialPack

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

SIZE = 3_000_000  # bytes, some chunks


@pytest.fixture
def uri(open_pantry: Callable[..., Pantry], project: Project) -> CtxUri:
    """The URI of a pack in the registry."""
    noise = random.Random(5)
    for name in ("large-0", "large-1"):
        (project.out / name).write_bytes(noise.randbytes(SIZE))
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    return uri


@pytest.fixture
def pack(cache: Cache, registry: FaultyTarget, uri: CtxUri) -> Iterator[PartialPack]:
    opened = require_found(context_of(cache, registry), uri)
    with PartialPack(cache, opened, Download(registry, opened, silent), NOTHING_HELD) as pack:
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


def test_a_range_costs_only_the_chunks_that_hold_it(pack: PartialPack, registry: FaultyTarget) -> None:
    before = registry.count("fetch")
    assert len(pack.read("large-1", SIZE // 2, 10)) == 10
    assert registry.count("fetch") - before <= 2


def test_a_damaged_chunk_is_not_read(pack: PartialPack, registry: FaultyTarget) -> None:
    before = registry.count("fetch")
    pack.read("large-0", 0, 10)
    read = [call.subject for call in registry.calls if call.method == "fetch"][before:]
    registry.flip(read[-1], 100)
    with pytest.raises(IntegrityError, match="digest differs"):
        pack.read("large-0", 0, 10)


@pytest.mark.parametrize("path", ["", "deep", "deep/empty", "deep/empty/", "nothing", "../joined"])
def test_a_path_that_is_not_a_file_of_the_pack_cannot_be_read(pack: PartialPack, path: str) -> None:
    with pytest.raises(InvalidInput, match="no such file among the outputs") as caught:
        pack.read(path, 0, 1)
    assert caught.value.code == "E_NO_MATCH"


def test_extracting_writes_only_the_selected_outputs(
    cache: Cache, registry: FaultyTarget, uri: CtxUri, pack: PartialPack, tmp_path: Path
) -> None:
    manifest = require_found(context_of(cache, registry), uri).manifest
    selection = Selection(pack.folder, manifest, lambda path: path in ("joined", "deep/empty/"), where="test")
    pack.extract(selection, str(tmp_path / "there"))
    assert contents(tmp_path / "there") == {"deep": "/", "deep/empty": "/", "joined": "alphabeta"}


def test_sizes_of_pieces_that_do_not_add_up_to_the_pack_are_refused(
    cache: Cache, registry: FaultyTarget, uri: CtxUri
) -> None:
    opened = require_found(context_of(cache, registry), uri)
    *others, last = opened.located.chunks
    larger = msgspec.structs.replace(last, annotations={"dev.ctxpack.chunk.bytes": "5000000"})
    manifest = msgspec.structs.replace(opened.located.manifest, layers=(*others, larger))
    lying = opened._replace(located=Admitted(opened.located._replace(manifest=manifest)))
    with (
        pytest.raises(IntegrityError, match="pieces do not make up the pack"),
        PartialPack(cache, lying, Download(registry, lying, silent), NOTHING_HELD),
    ):
        pass


def test_a_partial_pack_leaves_nothing_on_disk(
    cache: Cache, registry: FaultyTarget, uri: CtxUri, leftovers: Callable[[], list[str]]
) -> None:
    opened = require_found(context_of(cache, registry), uri)
    with PartialPack(cache, opened, Download(registry, opened, silent), NOTHING_HELD) as pack:
        assert leftovers() != []
        pack.read("joined", 0, 1)
    assert leftovers() == []
    registry.flip(opened.located.chunks[1].digest, 30)
    with (
        pytest.raises(IntegrityError),
        PartialPack(cache, opened, Download(registry, opened, silent), NOTHING_HELD),
    ):
        pass
    assert leftovers() == []
