"""The limit of the system on file size acts as a full disk; test_every_step.py injects the other errors."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ctxpack_cache import Cache
from ctxpack_identity.digest import digest_of

KEY = digest_of(b"a contract")

Run = Callable[[Callable[[], object]], Any]


def limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_write_without_space_in_staging_is_a_local_failure(
    cache: Cache, tmp_path: Path, run: Run, leftovers: Callable[[Path], list[str]]
) -> None:
    def work() -> None:
        limit(4096)
        with cache.lock(KEY), cache.staging() as folder:
            Path(folder, "manifest.json").write_bytes(b"small")
            Path(folder, "big").write_bytes(bytes(5000))
            cache.publish(KEY, folder)

    output = run(work).output
    assert "LocalFailure" in output
    assert "cannot fill the staging folder: file larger than allowed; raise the file size limit (`ulimit -f`)" in output
    assert cache.find(KEY) is None
    assert leftovers(tmp_path / "cache") == []


def test_a_tag_cut_short_is_removed(cache: Cache, tmp_path: Path, run: Run) -> None:
    def work() -> None:
        limit(10)
        cache.staging()

    assert f"{tmp_path}/cache: cannot make the cache: file larger than allowed" in run(work).output
    assert not (tmp_path / "cache" / "CACHEDIR.TAG").exists()
    with cache.staging():
        assert (tmp_path / "cache" / "CACHEDIR.TAG").stat().st_size > 43


def test_remove_needs_no_space(cache: Cache, tmp_path: Path, run: Run, fill: Callable[[str], None]) -> None:
    """Otherwise nobody could empty a full disk."""
    with cache.staging() as folder:
        fill(folder)
        cache.publish(KEY, folder)

    def work() -> bool:
        limit(0)
        return cache.remove(KEY)

    assert run(work) == (0, "True")
