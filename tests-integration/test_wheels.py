"""Each wheel installs and imports alone, and installs only what it declares."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))

IDENTITY_KIB = 288  # other tools embed ctxpack-identity: a jump in size should be a decision. 37 are JSON Schemas

USE_IDENTITY = """
from ctxpack_identity import digest_of, parse_uri, uri_for
print(parse_uri(uri_for(digest_of(b""))))
"""
EMPTY_URI = "ctx://sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Venv:
    """An empty virtual environment that takes our packages from the built wheels, and from nowhere else.

    installer: pip, or uv, which needs a tenth of the time.
    """

    def __init__(self, folder: Path, wheels: Path, installer: str = "uv") -> None:
        venv.create(folder, with_pip=installer == "pip")
        self.bin = folder / "bin"
        uv = shutil.which("uv")
        assert uv, "uv is not on PATH: run this by `python3 tools/test.py integration`"
        python = str(self.bin / "python")
        self._pip = [python, "-m", "pip"] if installer == "pip" else [uv, "pip"]
        self._here = [] if installer == "pip" else ["--python", python]
        # Our names mean these files, so that nobody looks for a foreign project of that name on an index.
        ours = [f"{_project(wheel)} @ {wheel.as_uri()}" for wheel in sorted(wheels.glob("*.whl"))]
        self._constraints = folder / "constraints.txt"
        foreign = (ROOT / "constraints.txt").read_text(encoding="utf-8")
        self._constraints.write_text("\n".join([foreign, *ours]), encoding="utf-8")

    def install(self, project: str) -> None:
        self.run(*self._pip, "install", *self._here, "--constraint", str(self._constraints), project)

    def installed(self) -> set[str]:
        """Return the names of the installed projects, without pip and its tools."""
        listed = json.loads(self.run(*self._pip, "list", *self._here, "--format", "json"))
        return {project["name"] for project in listed} - {"pip", "setuptools"}

    def run(self, program: str, *arguments: str) -> str:
        """Return the output of a program of this environment, run outside the repository and without its settings."""
        foreign = ("PYTHON", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.bin,
            env=environment | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _project(wheel: Path) -> str:
    return wheel.name.split("-")[0].replace("_", "-")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `hatch build --all` has filled."""
    hatch = shutil.which("hatch")
    assert hatch, "hatch is not on PATH: run this by `python3 tools/test.py integration`"
    dist = tmp_path_factory.mktemp("dist")
    # From a clean copy: other files in the working tree are not part of a release.
    copy = tmp_path_factory.mktemp("source") / "ctxpack"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist"))
    constraints = str(copy / "constraints.txt")
    done = subprocess.run(
        [hatch, "build", "--all", str(dist)],
        cwd=copy,
        env=os.environ | {"UV_CONSTRAINT": constraints, "UV_BUILD_CONSTRAINT": constraints},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dist


def test_every_package_gives_a_wheel_and_a_source_archive(wheels: Path) -> None:
    for package in PACKAGES:
        stem = package.replace("-", "_")
        assert len(list(wheels.glob(f"{stem}-*-py3-none-any.whl"))) == 1
        assert len(list(wheels.glob(f"{stem}-*.tar.gz"))) == 1


def test_identity_alone_is_small_and_needs_at_most_msgspec(
    wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Venv(tmp_path / "venv", wheels)
    alone.install("ctxpack-identity")
    assert alone.run("python", "-c", USE_IDENTITY).strip() == EMPTY_URI
    brought = alone.installed() - {"ctxpack-identity"}
    assert brought <= {"msgspec"}
    [package] = (tmp_path / "venv").glob("lib/*/site-packages/ctxpack_identity")
    kib = sum(file.stat().st_size for file in package.rglob("*") if file.suffix != ".pyc") / 1024
    with capsys.disabled():
        print(f"\nctxpack-identity alone: {kib:.0f} KiB installed, {len(brought)} dependencies")
    assert kib < IDENTITY_KIB


def test_cli_alone_installs_the_full_command(wheels: Path, tmp_path: Path) -> None:
    alone = Venv(tmp_path / "venv", wheels, "pip")
    alone.install("ctxpack-cli")
    assert {name for name in alone.installed() if name.startswith("ctxpack")} == set(PACKAGES)
    [wheel] = wheels.glob("ctxpack_cli-*.whl")
    version = wheel.name.split("-")[1]
    assert version in alone.run("ctxpack", "--version")
    output = alone.run("ctxpack", "--help")
    for command in ("init", "id", "seed", "push", "pull", "export", "inspect", "run", "ls", "rm", "schema"):
        assert command in output
    for name in ("contract", "id"):  # data files of two packages
        assert json.loads(alone.run("ctxpack", "schema", name))["$id"] == f"https://ctxpack.dev/schema/{name}/v1"


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in ("ctxpack-identity", "ctxpack-cli")])
def test_each_other_package_alone_can_be_imported(package: str, wheels: Path, tmp_path: Path) -> None:
    alone = Venv(tmp_path / "venv", wheels)
    alone.install(package)
    alone.run("python", "-W", "error", "-c", f"import {package.replace('-', '_')}")
