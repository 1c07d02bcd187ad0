"""Copies of many files: other processes copy some of them, and nothing else differs."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from forged_pack import CONTRACT, canonical

from ctxpack_bundle import OutputTree, assemble
from ctxpack_bundle.copying import Copier
from ctxpack_bundle.copyqueue import CopyProcesses, CopyQueue
from ctxpack_bundle.outputtree import scan_branch
from ctxpack_bundle.sidehash import WORTHWHILE
from ctxpack_identity import InvalidInput, LocalFailure, TreeEntry
from ctxpack_identity.hashing import workers
from ctxpack_identity.hashing.scan import Found

FILES = 1200


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[CopyProcesses]:
    """Two of them."""
    monkeypatch.setattr(workers, "usable_cpus", lambda: 3)
    monkeypatch.setattr(workers, "_may_fork", lambda: True)
    with CopyProcesses(FILES) as started:
        assert len(started.children) == 2
        yield started


def found_below(folder: Path) -> list[Found]:
    return [*scan_branch("top", str(folder), excludes=None, follow=False)]


def written(folder: Path, count: int = FILES) -> list[Found]:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}").write_bytes(b"%d" % number * 9)
    (folder / "00100").chmod(0o755)
    (folder / "00200").write_bytes(bytes(range(256)) * (WORTHWHILE // 128))
    (folder / "00300e").mkdir()
    return found_below(folder)


def copied(found: list[Found], target: Path, processes: CopyProcesses, reports: list[int]) -> list[TreeEntry]:
    entries: list[TreeEntry] = []
    target.mkdir(exist_ok=True)
    with Copier() as copier:
        queue = CopyQueue(copier, processes.children, reports.append, entries.append)
        for one in found:
            queue.add(one, str(target / Path(one.location).name), follow=False)
        queue.finish()
    return entries


def test_entries_come_in_order_with_what_was_copied(tmp_path: Path, processes: CopyProcesses) -> None:
    found, reports = written(tmp_path / "top"), list[int]()
    entries = copied(found, tmp_path / "copies", processes, reports)
    assert [entry.path for entry in entries] == [one.path for one in found]
    assert sum(reports) == sum(entry.size for entry in entries)
    for entry in entries:
        copy = tmp_path / "copies" / entry.path.removeprefix("top/")
        if entry.is_empty_folder:
            assert copy.is_dir()
            continue
        data = copy.read_bytes()
        assert data == (tmp_path / entry.path).read_bytes()
        assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert entry.executable == bool(copy.stat().st_mode & 0o100) == (copy.name == "00100")


@pytest.mark.parametrize("number", [0, 700, FILES - 1])
def test_a_file_that_changed_is_named(tmp_path: Path, processes: CopyProcesses, number: int) -> None:
    found = written(tmp_path / "top")
    changed = tmp_path / "top" / f"{number:05}"
    changed.write_bytes(b"another content")
    with pytest.raises(InvalidInput) as caught:
        copied(found, tmp_path / "copies", processes, [])
    assert (caught.value.code, caught.value.where) == ("E_OUTPUT_CHANGED", str(changed))


def test_what_is_in_the_way_is_an_oserror(tmp_path: Path, processes: CopyProcesses) -> None:
    found = written(tmp_path / "top")
    (tmp_path / "copies").mkdir()
    for number in range(FILES):
        (tmp_path / "copies" / f"{number:05}").touch()
    with pytest.raises(FileExistsError):
        copied(found, tmp_path / "copies", processes, [])


def test_a_killed_process_is_an_error(tmp_path: Path, processes: CopyProcesses) -> None:
    found = written(tmp_path / "top")
    for child in processes.children:
        os.kill(child._id, signal.SIGKILL)
    with pytest.raises(LocalFailure, match="a process that hashes or copies files ended"):
        copied(found, tmp_path / "copies", processes, [])


def test_few_files_need_no_process() -> None:
    with CopyProcesses(10) as processes:
        assert not processes.children


def test_a_pack_is_the_same_whoever_copies(tmp_path: Path, processes: CopyProcesses) -> None:
    written(tmp_path / "top")
    packs = []
    for name, helping in (("alone", None), ("helped", processes)):
        (tmp_path / name).mkdir()
        outputs = {"out": OutputTree(str(tmp_path / "top"))}
        packs.append(assemble(str(tmp_path / name), outputs, contract=canonical(CONTRACT), processes=helping))
    assert packs[0] == packs[1]
    listings = {(tmp_path / name / "files.jsonl").read_bytes() for name in ("alone", "helped")}
    assert len(listings) == 1
