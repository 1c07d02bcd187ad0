"""Root may do everything, so these tests run as the user nobody if they are started as root."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import Cache
from ctxpack_identity.digest import digest_of
from ctxpack_identity.errors import LocalFailure

KEY = digest_of(b"a contract")
NOBODY = 65534

Fill = Callable[[str], None]
Run = Callable[[Callable[[], object]], Any]


@pytest.fixture
def run_unprivileged(tmp_path: Path, run: Run) -> Run:
    """Run a function as a user other than root, in a folder of that user."""
    if os.geteuid() == 0:
        os.chown(tmp_path, NOBODY, NOBODY)

    def child(function: Callable[[], object]) -> object:
        os.chdir(tmp_path)  # the user nobody may be unable to enter the folders above
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        assert os.geteuid() != 0
        return function()

    return lambda function: run(lambda: child(function))


def publish(cache: Cache, fill: Fill) -> str:
    with cache.staging() as folder:
        fill(folder)
        Path(folder, "artifacts").chmod(0o555)
        return cache.publish(KEY, folder)


def test_a_user_without_root_publishes_reads_and_removes(run_unprivileged: Run, tmp_path: Path, fill: Fill) -> None:
    def work() -> str:
        cache = Cache("cache")
        path = publish(cache, fill)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o555
        with pytest.raises(PermissionError):
            Path(path, "new").touch()
        with pytest.raises(PermissionError):
            Path(path, "manifest.json").write_text("changed")
        assert Path(path, "manifest.json").read_text() == "{}"
        assert publish(cache, fill) == path
        assert cache.remove(KEY)
        return " ".join(sorted(os.listdir("cache/v1/staging") + os.listdir("cache/v1/locks")))

    assert run_unprivileged(work) == (0, "")


def test_a_user_without_root_sweeps_read_only_folders(run_unprivileged: Run, tmp_path: Path, fill: Fill) -> None:
    def die() -> None:
        with Cache("cache").staging() as folder:
            fill(folder)
            Path(folder, "artifacts/deep").chmod(0o500)
            Path(folder, "artifacts").chmod(0)
            Path(folder).chmod(0o500)
            os._exit(9)

    assert run_unprivileged(die).status == 9
    assert run_unprivileged(lambda: Cache("cache").sweep()) == (0, "1")
    assert os.listdir(tmp_path / "cache" / "v1" / "staging") == []


@pytest.mark.parametrize(
    ("closed", "message"),
    [
        (".", "cache: cannot make the cache: permission denied; give yourself write access to this folder"),
        ("cache/v1/staging", "cannot make a staging folder: permission denied; give yourself write access"),
        ("cache/v1/locks", "cannot make a lock file: permission denied; give yourself write access"),
        ("cache/v1/packs", "cannot publish the pack: permission denied; give yourself write access"),
    ],
)
def test_a_folder_without_write_access_is_named(
    run_unprivileged: Run, tmp_path: Path, fill: Fill, closed: str, message: str
) -> None:
    def close() -> None:
        if closed != ".":
            with Cache("cache").staging():
                pass
        os.chmod(closed, 0o555)

    assert run_unprivileged(close).status == 0
    outcome = run_unprivileged(lambda: publish(Cache("cache"), fill))
    assert outcome.status == 1
    assert f"LocalFailure: {'' if closed == '.' else 'cache/v1/'}" in outcome.output
    assert message in outcome.output
    assert "or move the cache (CTXPACK_CACHE)" in outcome.output
    assert list(tmp_path.glob("cache/v1/staging/*")) == []


def test_a_cache_that_cannot_be_read_is_not_a_miss(run_unprivileged: Run, tmp_path: Path, fill: Fill) -> None:
    def work() -> None:
        cache = Cache("cache")
        publish(cache, fill)
        os.chmod("cache/v1/packs", 0)
        cache.find(KEY)

    assert "cannot look up a pack: permission denied" in run_unprivileged(work).output


def test_a_cache_that_cannot_be_written_is_read_and_confirmed_without_a_word(
    run_unprivileged: Run, tmp_path: Path, fill: Fill
) -> None:
    def work() -> str:
        cache = Cache("cache")
        publish(cache, fill)
        (kept,) = Path("cache/v1/prints").iterdir()
        kept.write_text("wrong")
        for folder in Path("cache").rglob("*/"):
            folder.chmod(0o555)
        Path("cache").chmod(0o555)
        cache.confirm(KEY, cache.fingerprint_of(KEY))
        (used,) = Path("cache/v1/used").iterdir()
        used.chmod(0o444)
        os.utime(used, (4e9, 4e9))
        cache.note_use(KEY)
        used.parent.chmod(0o755)
        used.unlink()
        used.parent.chmod(0o555)
        cache.note_use(KEY)
        assert not used.exists()
        with pytest.raises(LocalFailure, match="cannot set the damaged pack aside: permission denied"):
            cache.set_aside(KEY)
        return f"{kept.read_text()} {cache.is_as_published(KEY)} {cache.remove(digest_of(b'none'))}"

    assert run_unprivileged(work) == (0, "wrong False False")


def test_a_pack_that_cannot_be_removed_stays_whole(run_unprivileged: Run, tmp_path: Path, fill: Fill) -> None:
    def work() -> None:
        cache = Cache("cache")
        publish(cache, fill)
        os.chmod("cache/v1/packs", 0o555)
        cache.remove(KEY)

    assert "cannot remove the pack: permission denied" in run_unprivileged(work).output
    (pack,) = (tmp_path / "cache" / "v1" / "packs").iterdir()
    assert (pack / "artifacts" / "deep" / "text").read_text() == "words"
