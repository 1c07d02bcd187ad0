"""The demos of the README work, and fail when CtxPack does not do what they show."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEST_COMMANDS = Path(sysconfig.get_path("scripts"))  # the `ctxpack` of the environment the tests run in


def run(script: str, *, commands: Path = TEST_COMMANDS) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository, with the folder commands first on PATH."""
    path = os.pathsep.join((str(commands), os.environ["PATH"]))
    return subprocess.run(
        [sys.executable, ROOT / script], env=os.environ | {"PATH": path}, capture_output=True, text=True
    )


def fake_ctxpack(uri: str, folder: Path) -> Path:
    """Write a ctxpack into folder that prints uri whatever its arguments are; return folder."""
    command = folder / "ctxpack"
    command.write_text(f"#!/bin/sh\necho {uri}\n", encoding="utf-8")
    command.chmod(0o755)
    return folder


def test_a_change_that_counts_gives_another_uri_and_undoing_it_the_first_one() -> None:
    assert (TEST_COMMANDS / "ctxpack").exists(), "install ctxpack-cli into the environment of the tests"
    done = run("tools/correctness_demo.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("every check passed\n")


def test_the_correctness_demo_fails_when_nothing_changes_the_uri(tmp_path: Path) -> None:
    done = run("tools/correctness_demo.py", commands=fake_ctxpack("ctx://sha256:" + "0" * 64, tmp_path))
    assert (done.returncode, done.stderr) == (1, "a check failed\n")
    assert done.stdout.count("WRONG") == 11
    assert done.stdout.count("ok\n") == 5


def test_three_files_change_and_three_files_are_audited_again() -> None:
    done = run("tools/audit_demo.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "== Every check passed" in done.stdout
    assert "3 made\n" in done.stdout
    assert "exit status" not in done.stdout


def test_the_audit_demo_fails_when_an_agent_makes_all_reports_again(tmp_path: Path) -> None:
    command = tmp_path / "ctxpack"
    lines = [
        "#!/bin/sh",
        'case "$1 $HOME" in "map "*/B/home) export CTXPACK_REGISTRY="oci:$HOME/registry" ;; esac',
        f'exec {shlex.quote(str(TEST_COMMANDS / "ctxpack"))} "$@"',
    ]
    command.write_text("\n".join([*lines, ""]), encoding="utf-8")
    command.chmod(0o755)
    done = run("tools/audit_demo.py", commands=tmp_path)
    assert (done.returncode, "Every check passed" in done.stdout) == (1, False)
    assert " in packs of the registry, 3 made, got audited package/" in done.stderr


def test_one_agent_computes_and_another_pulls_and_answers() -> None:
    """The first command of the README: an environment of its own, six packages, real documents."""
    done = run("tools/demo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "== Every check passed" in done.stdout
    assert done.stdout.count("    Hit: ctx://") == 2
    assert "in cached packs, 1 made\n" in done.stdout
    assert "exit status 3" in done.stdout
    assert "compute / pull" in done.stdout
