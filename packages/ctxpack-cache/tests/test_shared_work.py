"""Several processes find, make, read or remove the same pack at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import Cache
from ctxpack_identity.digest import digest_of

KEY = digest_of(b"a contract")

Fill = Callable[[str], None]
Spawn = Callable[[Callable[[], object]], Any]
Contents = Callable[[str], dict[str, str]]
Leftovers = Callable[[Path], list[str]]
Eventually = Callable[[Callable[[], bool]], None]


def pull(cache: Cache, fill: Fill) -> str:
    """Pull as pantry does; return whether this process found the pack, waited for it or made it."""
    if cache.find(KEY):
        return "found"
    with cache.lock(KEY):
        if cache.find(KEY):
            return "waited"
        with cache.staging() as folder:
            fill(folder)
            time.sleep(0.2)
            cache.publish(KEY, folder)
            return "worked"


def test_of_several_pulls_of_one_key_one_does_the_work(
    cache: Cache, tmp_path: Path, fill: Fill, spawn: Spawn, leftovers: Leftovers
) -> None:
    children = [spawn(lambda: pull(cache, fill)) for _ in range(4)]
    results = sorted(child.outcome().output for child in children)
    assert results.count("worked") == 1
    assert set(results) <= {"found", "waited", "worked"}
    assert pull(cache, fill) == "found"
    assert leftovers(tmp_path / "cache") == []


def test_when_the_working_process_is_killed_the_next_one_works(
    cache: Cache, tmp_path: Path, fill: Fill, spawn: Spawn, eventually: Eventually, leftovers: Leftovers
) -> None:
    waiting = tmp_path / "waiting"

    def stuck() -> None:
        with cache.lock(KEY), cache.staging() as folder:
            fill(folder)
            time.sleep(60)

    def next_one() -> str:
        with cache.lock(KEY, on_wait=waiting.touch):
            pass
        return pull(cache, fill)

    first = spawn(stuck)
    eventually(lambda: any(tmp_path.glob("cache/v1/staging/*/artifacts/program")))
    second = spawn(next_one)
    eventually(waiting.exists)
    first.kill()
    assert second.outcome() == (0, "worked")
    assert leftovers(tmp_path / "cache") == []


def test_publications_without_a_lock_leave_one_whole_pack(
    cache: Cache, tmp_path: Path, spawn: Spawn, contents: Contents, leftovers: Leftovers
) -> None:
    start = tmp_path / "start"

    def work(author: str) -> str:
        with cache.staging() as folder:
            for name in "abcdef":
                Path(folder, name).write_text(author)
            while not start.exists():
                time.sleep(0.001)
            return cache.publish(KEY, folder)

    for _ in range(10):
        start.unlink(missing_ok=True)
        children = [spawn(partial(work, author)) for author in ("one", "two", "three")]
        start.touch()
        paths = {child.outcome().output for child in children}
        path = cache.find(KEY)
        assert path is not None
        assert paths == {path}
        assert set(contents(path)) == set("abcdef")
        assert len(set(contents(path).values())) == 1
        assert leftovers(tmp_path / "cache") == []
        assert cache.remove(KEY)


def test_a_reader_never_sees_half_a_pack_while_it_is_published_and_removed(
    cache: Cache, tmp_path: Path, spawn: Spawn, leftovers: Leftovers
) -> None:
    names = {f"file{number}" for number in range(20)}
    stop = tmp_path / "stop"

    def publish_and_remove() -> None:
        while not stop.exists():
            with cache.staging() as folder:
                for name in names:
                    Path(folder, name).write_text(name)
                cache.publish(KEY, folder)
            time.sleep(0.005)
            assert cache.remove(KEY)

    def read() -> bool:
        path = cache.find(KEY)
        try:
            texts = {name: Path(path, name).read_text() for name in names} if path else {}
        except FileNotFoundError:
            return False  # removed meanwhile: an error, never wrong bytes
        assert texts == {name: name for name in names} or path is None
        return path is not None

    writer = spawn(publish_and_remove)
    changes, before = 0, False
    deadline = time.monotonic() + 60
    while changes < 20 and time.monotonic() < deadline:
        now = read()
        changes += now is not before
        before = now
    stop.touch()
    outcome = writer.outcome()
    assert outcome.status == 0, outcome.output
    assert changes == 20
    assert leftovers(tmp_path / "cache") == []


def test_an_open_file_of_a_removed_pack_stays_readable(cache: Cache, fill: Fill) -> None:
    with cache.staging() as folder:
        fill(folder)
        path = cache.publish(KEY, folder)
    with open(os.path.join(path, "artifacts", "deep", "text")) as file:
        assert cache.remove(KEY)
        assert file.read() == "words"


def test_of_several_removals_of_one_pack_one_removes_it(cache: Cache, fill: Fill, spawn: Spawn) -> None:
    for _ in range(10):
        with cache.staging() as folder:
            fill(folder)
            cache.publish(KEY, folder)
        children = [spawn(lambda: cache.remove(KEY)) for _ in range(3)]
        assert sorted(child.outcome() for child in children) == [(0, "False"), (0, "False"), (0, "True")]


def test_several_sweeps_of_one_folder_all_succeed(
    cache: Cache, tmp_path: Path, fill: Fill, spawn: Spawn, leftovers: Leftovers
) -> None:
    def die() -> None:
        with cache.staging() as folder:
            fill(folder)
            os._exit(9)

    for _ in range(10):
        assert spawn(die).outcome().status == 9
        children = [spawn(cache.sweep) for _ in range(3)]
        swept = [child.outcome() for child in children]
        assert [outcome.status for outcome in swept] == [0, 0, 0], swept
        assert leftovers(tmp_path / "cache") == []


def test_the_size_of_a_pack_removed_meanwhile_is_an_error(cache: Cache, fill: Fill) -> None:
    with cache.staging() as folder:
        fill(folder)
        cache.publish(KEY, folder)
    (pack,) = cache.packs()
    cache.remove(KEY)
    with pytest.raises(Exception, match="the pack was removed from the cache"):
        cache.size_of(pack)
