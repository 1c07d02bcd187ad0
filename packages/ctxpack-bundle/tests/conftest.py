"""Fixtures: folders of outputs, their packs, and a folder in which hostile archives are unpacked and watched."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ctxpack_bundle import (
    Excerpt,
    PackManifest,
    Selection,
    listing_excerpt,
    make_chunk,
    pack,
    pack_manifest_of,
    unpack,
    unpack_entries,
    unpack_listing,
)
from ctxpack_identity import IntegrityError
from testmodules import load

TESTS = Path(__file__).parent

for _name in ("forged_pack", "folder_trees", "made_pack", "pushed_versions"):
    load(TESTS, _name)


@pytest.fixture
def make_pack(tmp_path: Path) -> Callable[..., Path]:
    """A function that assembles outputs into a new folder and returns the folder."""
    from made_pack import make_pack_in  # _load made it importable

    numbers = count()

    def make(*outputs: Path | str, **options: Any) -> Path:
        return make_pack_in(tmp_path / f"pack-{next(numbers)}", outputs, **options)

    return make


@pytest.fixture
def small_pack(tmp_path: Path, make_pack: Callable[..., Path]) -> Path:
    """The pack of a file and a folder with an executable, an empty file and an empty folder."""
    outputs = tmp_path / "outputs"
    (outputs / "empty").mkdir(parents=True)
    (outputs / "tool").write_bytes(b"#!/bin/sh\n")
    (outputs / "tool").chmod(0o755)
    (outputs / "void").write_bytes(b"")
    (tmp_path / "read.me").write_bytes(b"text\n")
    return make_pack(outputs, tmp_path / "read.me")


@pytest.fixture
def chunks_of() -> Callable[[Path], list[bytes]]:
    return lambda folder: [make_chunk(piece) for piece in pack(str(folder))]


class Arena:
    """A staging folder, and next to it a file that must never change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staging = folder / "staging"
        self._canary = folder / "canary"
        folder.mkdir()
        self._canary.write_bytes(b"mine")

    def unpack(self, pieces: Iterable[bytes]) -> PackManifest:
        """Unpack into a fresh staging folder, and check that nothing else changed, whether that succeeds or fails."""
        with self._watched():
            return unpack(pieces, str(self.staging), where="a pack")

    def pick(
        self, pieces: Sequence[bytes], wanted: Callable[[str], bool], sizes: Sequence[int] = ()
    ) -> tuple[Selection, set[int]]:
        """Write the wanted outputs into staging/picked; return their selection and the numbers of the needed pieces.

        sizes: announced sizes of the pieces; by default their real ones.
        """
        sizes = sizes or [len(piece) for piece in pieces]
        manifest = pack_manifest_of(pieces[0], where="a pack")
        needed = {0}

        def read(excerpt: Excerpt) -> Iterator[memoryview]:
            needed.update(excerpt.needed)
            return excerpt.cut(pieces[number] for number in excerpt.needed)

        with self._watched():
            listing = read(listing_excerpt(manifest, sizes))
            unpack_listing(listing, str(self.staging), manifest.listings[0], where="a pack")
            selection = Selection(str(self.staging), manifest, wanted, where="a pack")
            members = read(selection.excerpt(sizes))
            (self.staging / "picked").mkdir()
            picked, entries = str(self.staging / "picked"), selection.entries()
            unpack_entries(members, picked, entries, modes=0o777, where="a pack")
        return selection, needed

    def refuses(self, pieces: Iterable[bytes]) -> IntegrityError:
        """Unpack pieces that must be refused, and return the error."""
        with pytest.raises(IntegrityError) as caught:
            self.unpack(pieces)
        return caught.value

    @contextmanager
    def _watched(self) -> Iterator[None]:
        if self.staging.exists():
            shutil.rmtree(self.staging)
        self.staging.mkdir()
        try:
            yield
        finally:
            assert sorted(os.listdir(self.folder)) == ["canary", "staging"]
            assert self._canary.read_bytes() == b"mine"
            assert self._canary.stat().st_nlink == 1
            self._require_harmless()

    def _require_harmless(self) -> None:
        """Check that staging holds no links, no devices and no special modes."""
        for folder, folders, files in os.walk(self.staging):
            for name in folders:
                assert stat.S_ISDIR(os.lstat(os.path.join(folder, name)).st_mode)
            for name in files:
                status = os.lstat(os.path.join(folder, name))
                assert stat.S_ISREG(status.st_mode)
                assert status.st_nlink == 1
                assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | stat.S_IWOTH)


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path / "arena")


@pytest.fixture
def quick_arena(tmp_path: Path) -> Iterator[Arena]:
    """An arena for tens of thousands of small packs: in memory, if the system has a folder for that."""
    shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tmp_path
    with tempfile.TemporaryDirectory(prefix="ctxpack-", dir=shared_memory) as folder:
        yield Arena(Path(folder, "arena"))


@pytest.fixture
def environment() -> Mapping[str, str]:
    """Environment variables for another Python process that finds the same modules as this one."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
