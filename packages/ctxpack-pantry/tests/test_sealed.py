"""What a manifest says of its maker is noted when it is published, and compared when the pack is read whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_identity import IntegrityError, uri_digest
from ctxpack_pantry import Pantry

if TYPE_CHECKING:
    from pantry_project import Project


@pytest.fixture
def manifest(pantry: Pantry, project: Project) -> Path:
    """The manifest of the project's pack in the cache."""
    seeded = pantry.seed([], str(project.contract))
    return Path(seeded.folder, "manifest.json")


def change(manifest: Path, *, in_place: bool) -> None:
    """Let the pack say that another user made it."""
    data = manifest.read_bytes().replace(b'"created":"2', b'"created":"1')
    if in_place:
        manifest.chmod(0o644)
        manifest.write_bytes(data)
        manifest.chmod(0o444)
    else:
        manifest.parent.chmod(0o755)
        other = manifest.with_name("other")
        other.write_bytes(data)
        other.rename(manifest)
        manifest.chmod(0o444)
        manifest.parent.chmod(0o555)


def test_a_changed_provenance_is_damage(pantry: Pantry, project: Project, manifest: Path) -> None:
    change(manifest, in_place=True)
    uri = project.uri
    [verified] = pantry.verify(uri).packs
    assert "manifest is not what was published" in verified.damage
    assert pantry.cache.find(uri_digest(uri)) is None


def test_a_pull_finds_it_too(pantry: Pantry, project: Project, manifest: Path) -> None:
    change(manifest, in_place=True)
    with pytest.raises(IntegrityError, match="manifest is not what was published"):
        pantry.pull(project.uri)


def test_nothing_is_known_of_another_file(pantry: Pantry, project: Project, manifest: Path) -> None:
    """A note may be stale: that of a pack which was removed without forgetting it."""
    change(manifest, in_place=False)
    assert pantry.verify(project.uri).packs[0].damage == ""


def test_a_pulled_pack_is_noted_and_a_removed_one_forgotten(
    pantry: Pantry, project: Project, manifest: Path, tmp_path: Path
) -> None:
    uri = project.uri
    notes = Path(pantry.cache.side("sealed"))
    seeded = (notes / uri[-64:]).read_text()
    pantry.push(uri)
    pantry.remove(uri)
    assert os.listdir(notes) == []
    pantry.pull(uri)
    assert (notes / uri[-64:]).read_text().split()[1] == seeded.split()[1]
