"""A pack as one ordinary .tar.gz: whole or not at all, and never over what is there."""

from __future__ import annotations

import errno
import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pantry_context import context_of
from pantry_project import Project, contents
from pantry_target import FaultyTarget

from ctxpack_bundle import pack, read_pack_manifest, stream_size
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, InvalidInput, LocalFailure, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.export import export


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    project.make_outputs(os.urandom(3 << 20).hex())
    return pantry.seed([str(project.out)], str(project.contract)).uri


def test_the_file_is_the_stream_of_the_pack(pantry: Pantry, uri: CtxUri, tmp_path: Path, project: Project) -> None:
    exported = pantry.export(uri, str(tmp_path / "pack.tar.gz"))
    data = (tmp_path / "pack.tar.gz").read_bytes()
    assert (exported.uri, exported.size, exported.received) == (uri, len(data), 0)
    folder = os.path.dirname(pantry.pull(uri).folder)
    assert gzip.decompress(data) == b"".join(pack(folder))
    with tarfile.open(tmp_path / "pack.tar.gz") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert contents(tmp_path / "unpacked/artifacts") == contents(project.out)


def test_progress_adds_up_to_its_total(cache: Cache, registry: FaultyTarget, uri: CtxUri, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    context = context_of(cache, registry, progress=lambda *step: steps.append(step))
    export(context, uri, str(tmp_path / "pack.tar.gz"))
    folder = cache.find(uri_digest(uri))
    assert folder is not None
    size = stream_size(read_pack_manifest(folder))
    assert {(stage, total) for stage, _, total in steps} == {("export", size)}
    assert sum(advanced for _, advanced, _ in steps) == size


def test_a_pack_that_the_cache_has_not_is_fetched_first(
    pantry: Pantry, uri: CtxUri, open_pantry: Callable[..., Pantry], tmp_path: Path
) -> None:
    pantry.push(uri)
    exported = open_pantry("other").export(uri, str(tmp_path / "other.tar.gz"))
    pantry.export(uri, str(tmp_path / "pack.tar.gz"))
    assert exported.received > 0
    one, other = (gzip.decompress((tmp_path / name).read_bytes()) for name in ("pack.tar.gz", "other.tar.gz"))
    assert one == other


@pytest.mark.parametrize("name", ["", "there", "folder"])
def test_nothing_is_overwritten(pantry: Pantry, uri: CtxUri, tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInput) as caught:
        pantry.export(uri, str(tmp_path / name) if name else "", force=name != "there")
    assert caught.value.code == ("E_OCCUPIED" if name else "E_USAGE")
    assert (tmp_path / "there").read_text() == "mine"


def test_force_replaces_a_file(pantry: Pantry, uri: CtxUri, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    pantry.export(uri, str(tmp_path / "there"), force=True)
    assert (tmp_path / "there").read_bytes()[:2] == b"\x1f\x8b"


def test_a_full_disk_leaves_what_was_there(
    pantry: Pantry, uri: CtxUri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "there").write_text("mine")
    monkeypatch.setattr("ctxpack_pantry.export.os.fsync", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LocalFailure, match="No space left"):
        pantry.export(uri, str(tmp_path / "there"), force=True)
    assert (tmp_path / "there").read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before
