"""A Go program is built once, by version, and a build that fails is an error that says why."""

from __future__ import annotations

import os
import shlex
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import goprograms

INSTALL = """#!/bin/sh
echo "$@" >> {calls}
{act}
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for `go`, the only one on PATH besides those of the system; `.work` is elsewhere."""
    monkeypatch.setattr(goprograms, "WORK", tmp_path / "work")
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def imitate(folder: Path, act: str) -> Path:
    """Write a `go` that notes its arguments and does act; return the file with the notes."""
    calls = folder / "calls"
    (folder / "go").write_text(INSTALL.format(calls=shlex.quote(str(calls)), act=act))
    (folder / "go").chmod(0o755)
    return calls


def test_a_program_is_built_once_and_kept_by_version(go: Path, tmp_path: Path) -> None:
    calls = imitate(go, 'echo built > "$GOBIN/registry"')
    first = goprograms.obtain("registry3")
    assert goprograms.obtain("registry3") == first == tmp_path / "work" / "registry3" / "v3.1.2" / "registry3"
    assert first.read_text() == "built\n"
    assert calls.read_text() == "install github.com/distribution/distribution/v3/cmd/registry@v3.1.2\n"


def test_others_wait_for_a_build_that_has_begun(go: Path) -> None:
    calls = imitate(go, f'while [ ! -e {shlex.quote(str(go))}/end ]; do sleep 0.01; done; echo x > "$GOBIN/cosign"')
    waiting = threading.Barrier(4, timeout=60)

    def obtain(_: int) -> Path:
        waiting.wait()
        return goprograms.obtain("cosign")

    with ThreadPoolExecutor(3) as pool:
        obtained = [pool.submit(obtain, number) for number in range(3)]
        waiting.wait()
        (go / "end").touch()
        assert {one.result() for one in obtained} == {goprograms.installed("cosign")}
    assert len(calls.read_text().splitlines()) == 1


def test_a_build_that_fails_says_why_and_leaves_nothing(go: Path) -> None:
    imitate(go, "echo module not found >&2; exit 3")
    for name in goprograms.PROGRAMS:
        with pytest.raises(goprograms.GoProgramUnavailable, match="ended with 3: module not found"):
            goprograms.obtain(name)
        assert not goprograms.installed(name).exists()


def test_the_version_of_a_program_of_ours_is_its_source(go: Path, tmp_path: Path) -> None:
    before = goprograms.installed("referrersregistry")
    copy = tmp_path / "tools"
    (copy / "referrersregistry").mkdir(parents=True)
    for file in (goprograms.TOOLS / "referrersregistry").iterdir():
        (copy / "referrersregistry" / file.name).write_bytes(file.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(goprograms, "TOOLS", copy)
        assert goprograms.installed("referrersregistry") == before
        with (copy / "referrersregistry" / "main.go").open("a") as source:
            source.write("// changed\n")
        assert goprograms.installed("referrersregistry") != before
