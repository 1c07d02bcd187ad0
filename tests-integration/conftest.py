"""Fixtures: a real registry:2, open and with a password, and a machine that pushes to each kind of target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import ForkedMachine, Forks
from machine import Machine
from plain_target import KINDS, PlainTarget, open_target

from interruptible import interruptible as interruptible
from registry2 import RegistryServer


@pytest.fixture(scope="session", autouse=True)
def _removable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the folders of packs writable, so that pytest can remove them without being root."""
    yield
    for folder, folders, _ in os.walk(tmp_path_factory.getbasetemp()):
        for name in folders:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A running registry:2 without a password: ``address``, ``storage``. The tests fail if none can be had."""
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="session")
def auth_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A running registry:2 with htpasswd: ``address``, ``storage``, ``username``, ``password``."""
    with RegistryServer(tmp_path_factory.mktemp("auth-registry"), guarded=True) as server:
        yield server


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The process whose forks are the commands of a ForkedMachine."""
    with Forks() as forks:
        yield forks


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest) -> PlainTarget:
    """Each kind of target, in turn."""
    return open_target(request.param, request)


@pytest.fixture
def maker(tmp_path: Path, target: PlainTarget, forks: Forks) -> Machine:
    """The machine that seeds packs, and pushes them to the target."""
    return ForkedMachine(forks, tmp_path / "maker", target.location, target.environment)
