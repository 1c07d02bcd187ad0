"""Fixtures: the command as a process of its own, and a project to use it on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from interruptible import interruptible as interruptible
from testmodules import load

if TYPE_CHECKING:
    from cli_process import Cli

TESTS = Path(__file__).parent

_process = load(TESTS, "cli_process")


def _environment(home: Path) -> dict[str, str]:
    """Return an environment without the developer's settings, credentials and git configuration."""
    home.mkdir()
    return {"HOME": str(home), "PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": "/"}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """``ctxpack`` in the folder tmp_path/work, with a home of its own."""
    (tmp_path / "work").mkdir()
    return _process.Cli(tmp_path / "work", _environment(tmp_path / "home"))  # type: ignore[no-any-return]


@pytest.fixture
def project(cli: Cli) -> Path:
    """The folder cli works in, with an input, a script, its output and the contract."""
    _process.make_project(cli.folder)
    return cli.folder


@pytest.fixture
def leftovers(tmp_path: Path) -> Callable[[], list[str]]:
    """What is in the home's cache besides whole packs: staging folders and locks."""

    def names() -> list[str]:
        parts = [tmp_path / "home/.cache/ctxpack/v1" / part for part in ("staging", "locks")]
        return sorted(str(path.relative_to(tmp_path)) for part in parts for path in part.glob("*"))

    return names
