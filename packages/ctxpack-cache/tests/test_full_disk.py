"""The real limit of the system on the size of a file stands for the full disk; test_every_step.py injects the rest."""

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


def test_a_file_cut_short_in_staging(
    cache: Cache, tmp_path: Path, run: Run, leftovers: Callable[[Path], list[str]]
) -> None:
    def work() -> None:
        limit(4096)
        with cache.lock(KEY), cache.staging() as folder:
            Path(folder, "manifest.json").write_bytes(b"small")
            Path(folder, "big").write_bytes(bytes(5000))
            cache.publish(KEY, folder)

    said = run(work).said
    assert "LocalFailure" in said
    assert ": cannot fill the staging folder: file larger than allowed; raise the file size limit (`ulimit -f`)" in said
    assert cache.find(KEY) is None
    assert leftovers(tmp_path / "cache") == []


def test_not_even_the_tag_fits(cache: Cache, tmp_path: Path, run: Run) -> None:
    def work() -> None:
        limit(10)
        cache.staging()

    assert f"{tmp_path}/cache: cannot make the cache: file larger than allowed" in run(work).said
    assert not (tmp_path / "cache" / "CACHEDIR.TAG").exists()
    with cache.staging():
        assert (tmp_path / "cache" / "CACHEDIR.TAG").stat().st_size > 43


def test_removing_writes_nothing(cache: Cache, tmp_path: Path, run: Run, fill: Callable[[str], None]) -> None:
    """A full disk is emptied with remove, so it must need no room."""
    with cache.staging() as folder:
        fill(folder)
        cache.publish(KEY, folder)

    def work() -> bool:
        limit(0)
        return cache.remove(KEY)

    assert run(work) == (0, "True")
