"""What the tests across packages share: a real registry:2, open and with a password, and the installed command."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from machine import Machine
from plain_target import KINDS, PlainTarget, open_target

from registry2 import RegistryServer
from sandbox import private_environment

LIMIT_SECONDS = 300


@pytest.fixture(scope="session", autouse=True)
def _removable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let pytest remove the caches of earlier runs, whose packs are read-only, also as an ordinary user."""
    yield
    for folder, folders, _ in os.walk(tmp_path_factory.getbasetemp()):
        for name in folders:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A running registry:2 that lets everyone in: ``address``, ``storage``. Without one the tests fail."""
    with RegistryServer(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="session")
def auth_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A running registry:2 with htpasswd: ``address``, ``storage``, ``username``, ``password``."""
    with RegistryServer(tmp_path_factory.mktemp("auth-registry"), guarded=True) as server:
        yield server


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest) -> PlainTarget:
    """Each kind of place where packs are kept, in turn."""
    return open_target(request.param, request)


@pytest.fixture
def maker(tmp_path: Path, target: PlainTarget) -> Machine:
    """Whoever does the work, and pushes to the target."""
    return Machine(tmp_path / "maker", target.location, target.environment)


class Finished(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Cli(Protocol):
    """Runs ``ctxpack`` with arguments, in cwd, with env added to a private environment.

    Fails the test when a Python traceback shows.
    """

    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
    ) -> Finished: ...


@pytest.fixture
def cli(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The installed ``ctxpack`` command, with a home and a cache of this test alone; cwd is tmp_path unless given."""
    program = Path(sysconfig.get_path("scripts")) / "ctxpack"
    private = private_environment(tmp_path_factory.mktemp("home"))

    def run(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
    ) -> Finished:
        done = subprocess.run(
            [program, *arguments],
            cwd=cwd or tmp_path,
            env=private | dict(env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert "Traceback (most recent call last)" not in done.stderr, done.stderr
        return Finished(done.returncode, done.stdout, done.stderr)

    return run
