"""Progress: what takes longer than a second shows its total and how long it still takes."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from machine import LIMIT, Machine

from ctxpack_cli.terminal import Terminal
from ctxpack_identity.hashing import outlook
from ctxpack_pantry import Pantry, load_settings

SEEN = r"{} [\d.]+ \S+ of {}, [\d.]+ \S+/s, (\d+:)?\d+:\d\d left"

TRANSFORM = {"tool": "copy", "tool_version": "1", "code_hash": "opaque", "environment_hash": "undeclared"}


def write_contract(folder: Path, *inputs: str) -> str:
    """Write a contract file with inputs of these paths, and one output, ``out``; return its path."""
    contract = {
        "inputs": [{"name": name, "path": name} for name in inputs],
        "outputs": [{"path": "out"}],
        "transforms": [TRANSFORM],
    }
    path = folder / "contract.json"
    path.write_text(json.dumps(contract))
    return str(path)


def write_files(folder: Path, count: int, size: int = 700) -> int:
    """Write many small files; return the bytes of all."""
    for number in range(count):
        place = folder / f"{number // 20:03}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05}").write_bytes(number.to_bytes(4, "big") * (size // 4))
    return count * (size // 4 * 4)


class Watched:
    """A Terminal of a pantry that works as slowly as needed: every report comes half a second after the last."""

    def __init__(self, folder: Path) -> None:
        self.steps: list[tuple[str, int, int | None]] = []
        self._errors = io.StringIO()
        seconds = itertools.count(0, 0.5)
        self._terminal = Terminal(self._errors, live=True, quiet=False, as_json=False, clock=lambda: next(seconds))
        settings = load_settings(registry=f"oci:{folder}/registry", cache=str(folder / "cache"), beside=str(folder))
        self.pantry = Pantry(settings, progress=self._progress)

    def _progress(self, stage: str, advanced: int, total: int | None) -> None:
        self.steps.append((stage, advanced, total))
        self._terminal.progress(stage, advanced, total)

    @property
    def shown(self) -> list[str]:
        """What was drawn, without the control sequences."""
        return [line for line in re.split(r"\r\x1b\[K", self._errors.getvalue()) if line]

    def take(self) -> dict[str, list[tuple[int, int | None]]]:
        """Return the steps of each stage since the last call."""
        found: dict[str, list[tuple[int, int | None]]] = {}
        for stage, advanced, total in self.steps:
            found.setdefault(stage, []).append((advanced, total))
        self.steps.clear()
        return found


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Every work counts as long work at once."""
    monkeypatch.setattr(outlook, "AFTER", 0)
    monkeypatch.setattr(outlook, "TURN", LIMIT)
    return Watched(tmp_path)


def require_right(steps: Mapping[str, list[tuple[int, int | None]]], *stages: str) -> None:
    """Assert that these stages were reported, and that each ended with all of its total done."""
    assert set(stages) <= set(steps)
    for stage, reports in steps.items():
        done = 0
        for advanced, total in reports:
            done += advanced
            assert total is None or done <= total, stage
        assert reports[-1][1] == done, stage


def test_hash_and_seed_show_totals_and_what_is_left(watched: Watched, tmp_path: Path) -> None:
    """Three inputs of many small files, which are read one after the other, have one total."""
    size = sum(write_files(tmp_path / name, 500) for name in ("a", "b", "c"))
    write_files(tmp_path / "out", 300)
    contract = write_contract(tmp_path, "a", "b", "c")
    uri = watched.pantry.seed([], contract).uri
    steps = watched.take()
    require_right(steps, "hash", "seed")
    known = [total for _, total in steps["hash"]]
    assert known[-1] == size
    assert known.index(size) <= len(known) // 10, "it is known long before the end"
    text = "\n".join(watched.shown)
    assert re.search(SEEN.format("hashing", r"1\.00 MiB"), text), text
    assert re.search(SEEN.format("seeding", r"205 KiB"), text), text
    assert watched.pantry.resolve(contract).uri == uri


def test_every_stage_ends_with_its_total(watched: Watched, tmp_path: Path) -> None:
    pantry, out = watched.pantry, tmp_path / "out"
    write_files(tmp_path / "a", 300)
    write_files(out, 200)
    (out / "large").write_bytes(os.urandom(5 << 20))
    contract = write_contract(tmp_path, "a")
    uri = pantry.seed([], contract).uri
    require_right(watched.take(), "hash", "seed")
    pantry.push(uri)
    require_right(watched.take(), "push")
    with open(out / "large", "r+b") as file:
        file.write(b"changed")
    (tmp_path / "a/one").write_bytes(b"more")
    changed = pantry.seed([], contract).uri
    require_right(watched.take(), "hash", "seed")
    pantry.push(changed)
    require_right(watched.take(), "compare", "push")
    pantry.export(changed, str(tmp_path / "pack.tar.gz"))
    require_right(watched.take(), "export")
    pantry.verify()
    require_right(watched.take(), "hash")
    pantry.pull(changed, str(tmp_path / "placed"))
    require_right(watched.take(), "place")
    pantry.pull(changed, str(tmp_path / "some"), include=["large"])
    require_right(watched.take(), "place")
    for known in (uri, changed):
        pantry.remove(known)
    watched.take()
    pantry.pull(changed)
    require_right(watched.take(), "pull")


def test_what_did_not_change_is_not_part_of_the_total(watched: Watched, tmp_path: Path) -> None:
    write_files(tmp_path / "a", 300)
    contract = write_contract(tmp_path, "a")
    for path in (tmp_path / "a").rglob("*"):
        os.utime(path, (1, 1))
    watched.pantry.resolve(contract)
    before = sum(advanced for advanced, _ in watched.take()["hash"])
    (tmp_path / "a/new").write_bytes(bytes(5000))
    watched.pantry.resolve(contract)
    steps = watched.take()
    require_right(steps, "hash")
    assert sum(advanced for advanced, _ in steps["hash"]) <= before + 5000  # less where the index may be used


IMPATIENT = """
from ctxpack_cli import main, terminal
from ctxpack_identity.hashing import outlook
terminal._FIRST, terminal._REDRAW, outlook.AFTER = 1e-6, 0, 0
main.main()
"""


def seen_on_a_terminal(machine: Machine, *arguments: str) -> str:
    """Run ``ctxpack``, which takes everything for long work, with a terminal as stderr; return what is drawn there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, *arguments],
        cwd=machine.work,
        env=machine.environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    try:
        while part := _read(ours):
            drawn += part
    finally:
        os.close(ours)
        assert process.wait(LIMIT) == 0, drawn
    return drawn.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the last of the other side is closed
        return b""


def sparse(path: Path, size: int) -> None:
    with open(path, "xb") as file:
        file.truncate(size)


@pytest.mark.parametrize(("command", "verb"), [("id", "hashing"), ("seed", "seeding")])
def test_people_see_how_long_it_takes(tmp_path: Path, command: str, verb: str) -> None:
    """Holes take no room on the disk, and are hashed like data. What is small comes last."""
    machine = Machine(tmp_path)
    long, short = machine.work / ("a" if command == "id" else "out"), machine.work / "b"
    for folder in ("a", "b", "out"):
        (machine.work / folder).mkdir()
    sparse(long / "large", 96 << 20)
    sparse((short if command == "id" else long) / "small", 32 << 20)
    write_contract(machine.work, "a", "b")
    drawn = seen_on_a_terminal(machine, command)
    assert re.search(SEEN.format(verb, "128 MiB"), drawn), drawn


def test_verify_shows_how_long_it_takes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for folder in ("a", "out"):
        (machine.work / folder).mkdir()
    sparse(machine.work / "out/large", 16 << 20)
    write_contract(machine.work, "a")
    machine.succeed("seed")
    drawn = seen_on_a_terminal(machine, "verify", "--all")
    assert re.search(SEEN.format("hashing", "16.0 MiB"), drawn), drawn
