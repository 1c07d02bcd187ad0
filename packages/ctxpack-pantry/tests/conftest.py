"""Fixtures: a project with a contract, a cache, and a registry in a folder that fails on request."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_cache import Cache
from ctxpack_pantry import Pantry, Settings
from ctxpack_pantry.settings import Setting
from testmodules import load

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

TESTS = Path(__file__).parent

load(TESTS, "pantry_context")
load(TESTS, "pantry_forged")
_project = load(TESTS, "pantry_project")
_target = load(TESTS, "pantry_target")
load(TESTS, "pantry_image")  # after pantry_target, which it imports
load(TESTS, "pantry_people")  # after pantry_target and pantry_project
load(TESTS, "pantry_versions")


def pytest_collection_finish() -> None:
    """Keep all that is loaded by now out of every garbage collection: tests of open files ask for one each."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's settings, credentials or git configuration reaches a test."""
    for name in [*os.environ]:
        if name.startswith(("CTXPACK_", "XDG_", "GIT_", "DOCKER_")) or name == "SOURCE_DATE_EPOCH":
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


class _Unannounced:
    """In place of an Announcement: its thread would call the target at moments that a test cannot foresee."""

    sent_empty = False

    def __init__(self, *given: object) -> None: ...

    def stored(self, *given: object) -> None: ...

    def published(self) -> None: ...

    def drop(self) -> None: ...


@pytest.fixture(autouse=True)
def _unannounced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No push writes the list of kin, except in tests/test_kin.py."""
    if request.path.name != "test_kin.py":
        monkeypatch.setattr("ctxpack_pantry.push.Announcement", _Unannounced)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with inputs, code, outputs and the contract that says which is which."""
    return _project.Project(tmp_path / "project")  # type: ignore[no-any-return]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def leftovers(tmp_path: Path) -> Callable[[], list[str]]:
    """What is in the cache at tmp_path/cache besides whole packs: staging folders and locks."""

    def names() -> list[str]:
        return sorted(path.name for part in ("staging", "locks") for path in (tmp_path / "cache/v1" / part).glob("*"))

    return names


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FaultyTarget]:
    """An OCI layout in tmp_path/registry; it must have no complaints at the end."""
    target = _target.FaultyTarget(tmp_path / "registry")
    yield target
    assert target.complaints == []


@pytest.fixture
def notices() -> list[str]:
    """The notices of the pantry."""
    return []


@pytest.fixture
def open_pantry(tmp_path: Path, registry: FaultyTarget, notices: list[str]) -> Callable[..., Pantry]:
    """Make a pantry with a cache of that name below tmp_path, and with registry."""

    def make(cache: str = "cache") -> Pantry:
        where = Setting(f"oci:{tmp_path / 'registry'}", "test"), Setting(str(tmp_path / cache), "test")
        settings = Settings(*where, settle=Setting("0", "test"))
        return Pantry(settings, target=registry, notice=notices.append)

    return make


@pytest.fixture
def pantry(open_pantry: Callable[..., Pantry]) -> Pantry:
    return open_pantry()
