"""Content is flushed before publish renames it, and the name before publish returns."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import Cache, durability
from ctxpack_cache.durability import AHEAD, FlushAhead, flush, flush_tree, flush_tree_one_by_one
from ctxpack_identity.digest import digest_of, hex_of

KEY = digest_of(b"a contract")

Fill = Callable[[str], None]
Run = Callable[[Callable[[], object]], Any]
Eventually = Callable[[Callable[[], bool]], None]


def opened(run: Run, function: Callable[[], object], root: Path) -> list[str]:
    """Return what function opens and renames below root, in order."""
    log = root / "log"

    def work() -> None:
        steps: list[str] = []

        def hook(event: str, arguments: Any) -> None:
            if event in ("open", "os.rename", "os.chmod"):
                path = str(arguments[0])
                if path.startswith(str(root)):
                    steps.append(f"{event.removeprefix('os.')} {os.path.relpath(path, root)}")

        sys.addaudithook(hook)
        function()
        log.write_text("\n".join(steps))

    assert run(work) == (0, "None")
    return log.read_text().splitlines()


def test_publish_flushes_content_then_renames_then_flushes_the_name(tmp_path: Path, fill: Fill, run: Run) -> None:
    cache = Cache(tmp_path)
    with cache.staging() as folder:
        fill(folder)
        steps = opened(run, lambda: cache.publish(KEY, folder), tmp_path)
    staged = os.path.relpath(folder, tmp_path)
    pack = f"v1/packs/{hex_of(KEY)}"
    flushed = steps.index(f"rename {staged}") - 1
    assert steps[flushed] == f"open {staged}"
    assert all(step.startswith(f"chmod {staged}") for step in steps[:flushed])
    after = [f"rename {staged}", f"chmod {pack}", f"open {pack}", "open v1/packs"]
    assert steps[flushed + 1 :][: len(after)] == after
    assert "rename v1/staging/" in " ".join(steps[flushed + 1 + len(after) :])  # the print


def test_without_syncfs_every_file_and_folder_is_flushed(tmp_path: Path, fill: Fill, run: Run) -> None:
    fill(str(tmp_path))
    everything = {f"open {path.relative_to(tmp_path)}" for path in tmp_path.rglob("*")} | {"open ."}
    assert set(opened(run, lambda: flush_tree_one_by_one(str(tmp_path)), tmp_path)) == everything


def test_a_read_only_tree_can_be_flushed(tmp_path: Path, fill: Fill) -> None:
    fill(str(tmp_path))
    for path in tmp_path.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    flush_tree(str(tmp_path))
    flush_tree_one_by_one(str(tmp_path))
    for path in tmp_path.rglob("*/"):
        path.chmod(0o755)


def test_errors_of_a_flush_are_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        flush_tree(str(tmp_path / "gone"))
    with pytest.raises(OSError, match="Invalid argument"):
        flush("/dev/null")  # a device that cannot be flushed


def test_flush_ahead_flushes_inside_the_context_and_not_after(tmp_path: Path, fill: Fill, run: Run) -> None:
    fill(str(tmp_path))

    def fill_slowly() -> None:
        flush, flushed = durability._flush_filesystem, threading.Semaphore(0)

        def flush_and_say(folder: str) -> bool:
            done = flush(folder)
            flushed.release()
            return done

        durability._flush_filesystem = flush_and_say  # in this process, which ends after it
        with FlushAhead(str(tmp_path)):
            assert flushed.acquire(timeout=60)
            assert flushed.acquire(timeout=60)
        (tmp_path / "end").touch()
        time.sleep(3 * AHEAD)

    steps = opened(run, fill_slowly, tmp_path)
    assert steps.count("open .") >= 2
    assert steps[-1] == "open end"


def test_a_folder_filled_at_once_is_not_flushed_ahead(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "AHEAD", 60)

    def fill_quickly() -> None:
        with FlushAhead(str(tmp_path)):
            pass

    assert opened(run, fill_quickly, tmp_path) == []


def no_flush_runs() -> bool:
    return all(thread.name != "flush" for thread in threading.enumerate())


def test_an_error_of_flush_ahead_is_raised_at_the_end(tmp_path: Path, eventually: Eventually) -> None:
    def fill(gone: Path) -> None:
        with FlushAhead(str(gone)):
            eventually(no_flush_runs)

    with pytest.raises(FileNotFoundError):
        fill(tmp_path / "gone")


def test_an_error_of_the_body_is_raised_before_one_of_flush_ahead(tmp_path: Path, eventually: Eventually) -> None:
    def fail() -> None:
        with FlushAhead(str(tmp_path / "gone")):
            eventually(no_flush_runs)
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        fail()
