"""Outputs that change a little from version to version, cut so small that little content has many layers."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from pantry_image import Image
from pantry_project import Project

from ctxpack_bundle.table import interleaved
from ctxpack_identity import CtxUri
from ctxpack_pantry import Pantry

PIECE = 4 << 10  # bytes of a piece, about
LAYER = 128 << 10  # bytes of a layer at least; that is some 30 pieces, where usual layers have 60


def make_layers_small(monkeypatch: pytest.MonkeyPatch, layer: int = LAYER) -> None:
    """Let packs have pieces of PIECE bytes, about, and layers of at least layer bytes."""
    monkeypatch.setattr("ctxpack_bundle.packing.LEAST_AVERAGE", PIECE)
    monkeypatch.setattr("ctxpack_bundle.packing.FINER", 1)  # listings are cut as usual
    monkeypatch.setattr("ctxpack_bundle.layering._LEAST", layer)


class Versions:
    """The outputs of project, which do not compress. Each version has a contract of its own.

    files: the content of each file, by name. size: bytes of all of them, at first.
    """

    def __init__(self, project: Project, size: int, *, files: int = 10) -> None:
        self._project = project
        self._random = random.Random("versions")
        self._number = 0
        self.files: dict[str, bytes] = {}
        self.add(size, files=files)
        shutil.rmtree(project.out)

    def add(self, size: int, *, files: int = 10, name: str = "") -> None:
        """Add files, with names that begin with name. size: bytes of all of them."""
        for number in range(files):
            self.files[f"{name}{number:02}"] = self._random.randbytes(size // files)

    def change(self, places: int, size: int = PIECE) -> None:
        """Replace size bytes in each of as many places, anywhere."""
        for _ in range(places):
            name = self._random.choice(sorted(self.files))
            content = bytearray(self.files[name])
            start = self._random.randrange(len(content) - size)
            content[start : start + size] = self._random.randbytes(size)
            self.files[name] = bytes(content)

    def seed(self, pantry: Pantry) -> CtxUri:
        """Make the next version a pack in the cache of pantry; return its URI."""
        self._number += 1
        return self.seed_again(pantry)

    def seed_again(self, pantry: Pantry) -> CtxUri:
        """Make the same version a pack once more, perhaps in another cache."""
        out = self._project.out
        out.mkdir(exist_ok=True)
        for path in out.iterdir():
            if path.name not in self.files:
                path.unlink()
        for name, content in self.files.items():
            if not (out / name).exists() or (out / name).read_bytes() != content:
                (out / name).write_bytes(content)
        self._project.write_contract(params={"version": self._number})
        return pantry.seed([], str(self._project.contract)).uri


def assert_pulled(pantry: Pantry, uri: CtxUri, versions: Versions) -> None:
    """Assert that a pull gives the outputs of the newest version."""
    folder = Path(pantry.pull(uri).folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == versions.files


class Usage(NamedTuple):
    """How an image uses its layers of chunks. dead: share of their bytes that no record names."""

    layers: int
    dead: float
    interleaved: int


def usage_of(image: Image) -> Usage:
    chunks = {(record.layer, record.offset): record.chunk_size for record in image.table}
    listed = sum(image.sizes[number] for number in image.data_layers())
    return Usage(len(image.layers), 1 - sum(chunks.values()) / listed, interleaved(image.table.spans().values()))


def new_bytes(image: Image, earlier: Image | None) -> int:
    """Return the bytes that a push of image cannot do without, if the registry has an earlier one."""
    known = set() if earlier is None else {record.sha256 for record in earlier.table}
    chunks = {record.sha256: record.chunk_size for record in image.table if record.sha256 not in known}
    return image.sizes[0] + image.sizes[1] + sum(chunks.values())
