"""A full disk is named, and nothing half-written is visible on it. With room the same command works."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from examples import LARGE, seed_pack
from machine import Machine
from small_disk import GROW, KINDS, Ended, run_on_small_disk

SIZE = len(LARGE) // 2  # room for some chunks, not for all, and not for the file they are from

LIST = ("find", ".", "-type", "f", "-printf", "%P\n")  # %P: without the leading ./

REASONS = ("no space left", "file larger than allowed", "file too large")  # a full disk, and both names of EFBIG


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Disk:
    """A machine with a pack, which has a small disk at path."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.machine = Machine(folder / "machine")
        self.uri = seed_pack(self.machine)
        self.machine.succeed("push", self.uri)
        self.path = self.machine.work / "disk"
        self.path.mkdir()
        self._kind = kind

    def run(self, *commands: Sequence[str], size: int = SIZE) -> list[Ended]:
        return run_on_small_disk(self._kind, self.path, size, commands, self.machine.environment)


@pytest.fixture
def disk(kind: str, tmp_path: Path) -> Disk:
    return Disk(kind, tmp_path)


def must_be_full(done: Ended, *messages: str) -> None:
    assert (done.status, done.stdout) == (1, ""), done.stderr
    assert any(reason in done.stderr.lower() for reason in REASONS), done.stderr
    assert done.stderr.count("\n") == 1
    assert [text for text in messages if text not in done.stderr] == [], done.stderr


@pytest.mark.parametrize("command", ["pull", "seed", "run"])
def test_a_full_disk_of_the_cache_is_named_and_the_cache_stays_empty(disk: Disk, command: str) -> None:
    arguments = {
        "pull": ["pull", disk.uri],
        "seed": ["seed", "--contract", "../contract.json"],
        "run": ["run", "--contract", "../contract.json"],
    }[command]
    again = ("ctxpack", arguments[0], "--cache", "cache", *arguments[1:])
    full, left, worked, listed = disk.run(again, LIST, GROW, again, ("ctxpack", "ls", "--json", "--cache", "cache"))
    must_be_full(full, "cache/v1/staging/", "CTXPACK_CACHE")
    assert left.stdout == "cache/CACHEDIR.TAG\n"
    assert (worked.status, worked.stderr.count("error")) == (0, 0)
    (pack,) = json.loads(listed.stdout)["packs"]
    assert (pack["uri"], pack["files"]) == (disk.uri, 7)


def test_a_full_disk_of_the_layout_is_named_and_no_tag_is_written(disk: Disk) -> None:
    push = ("ctxpack", "push", disk.uri, "--registry", "oci:layout")
    pull = ("ctxpack", "pull", disk.uri, "--registry", "oci:layout", "--cache", "cache", "--output", "got")
    small = SIZE // 16  # less than a chunk
    full, left, missing, pushed, pulled = disk.run(push, LIST, pull, GROW, push, pull, size=small)
    must_be_full(full, " of oci:layout: ", ", or name another folder")
    assert "layout/index.json" not in left.stdout.splitlines()
    assert "layout/ingest/" not in left.stdout
    assert (missing.status, pushed.status, pulled.stdout) == (3, 0, "got\n"), pulled.stderr


def test_a_full_disk_of_the_output_folder_is_named_and_nothing_is_placed(disk: Disk) -> None:
    pull = ("ctxpack", "pull", disk.uri, "--output", "got")
    full, left, worked, copied = disk.run(pull, LIST, GROW, pull, LIST)
    must_be_full(full, "/disk/got: cannot be written", "nothing was changed there")
    assert left.stdout == ""
    assert (worked.status, worked.stdout) == (0, "got\n")
    assert sorted(copied.stdout.splitlines()) == sorted(
        f"got/{path.relative_to(disk.machine.work / 'processed_data')}"
        for path in (disk.machine.work / "processed_data").rglob("*")
        if path.is_file()
    )


def test_rm_works_on_a_full_disk(disk: Disk) -> None:
    seed = ("ctxpack", "seed", "--contract", "../contract.json", "--cache", "cache")
    fill = ("sh", "-c", "cat /dev/zero > filler")
    remove = ("ctxpack", "rm", disk.uri, "--cache", "cache")
    room = 2 * len(LARGE)
    seeded, filled, removed, left = disk.run(seed, fill, remove, LIST, size=room)
    assert seeded.status == 0, seeded.stderr
    assert filled.status != 0
    assert (removed.status, removed.stdout) == (0, f"Removed: {disk.uri}\n"), removed.stderr
    assert sorted(left.stdout.split()) == ["cache/CACHEDIR.TAG", "filler"]
