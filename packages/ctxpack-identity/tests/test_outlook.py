"""The total of a stage is counted beside the work, not before a second has passed, and it is right."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from contracts import TRANSFORM
from folders import write_folder
from hypothesis import given
from hypothesis import strategies as st
from memory_store import MemoryStore

from ctxpack_identity import Hashing, InvalidInput, hash_tree, parse_contract_file, resolve
from ctxpack_identity.hashing import deephash, filehash, filesystem, outlook, roots, scan, statcache, workers
from ctxpack_identity.hashing.filehash import Batch
from ctxpack_identity.hashing.outlook import AFTER, TURN, Outlook
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_identity.progress import OnBytes


class Recorder:
    """A Progress that keeps all calls, and knows what is true of them."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int | None]] = []

    def __call__(self, stage: str, advanced: int, total: int | None) -> None:
        self.steps.append((stage, advanced, total))

    @property
    def done(self) -> int:
        return sum(advanced for _, advanced, _ in self.steps)

    @property
    def totals(self) -> list[int | None]:
        return [total for *_, total in self.steps]

    def require_right(self, *, size: int) -> None:
        """Assert that size bytes were done, and that every total that was told was that, until the end."""
        assert {stage for stage, *_ in self.steps} <= {"hash"}
        assert self.done == size
        known = [total for total in self.totals if total is not None]
        assert set(known) <= {size}
        assert self.totals[len(self.totals) - len(known) :] == known, "once a total is known, it is told"
        assert not size or self.totals[-1] == size


class Clock:
    """Seconds, which pass when it is told so; and each time that it is looked at."""

    def __init__(self, step: float = 0) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Part:
    """A part of the work: the sizes of its items. read: how many of them were counted."""

    def __init__(self, *sizes: int) -> None:
        self.sizes, self.read = sizes, 0

    def __call__(self) -> Iterator[int]:
        for size in self.sizes:
            self.read += 1
            yield size


def no_more() -> Iterator[int]:
    return iter(())


# ---- the outlook alone


def test_nothing_is_counted_before_a_second_of_work() -> None:
    clock, recorder, later = Clock(), Recorder(), Part(5, 7)
    ahead = Outlook("hash", recorder, [None, later], clock=clock)
    ahead.enter(no_more)
    ahead.tick()
    assert ahead.pause() is None, "no work has begun"
    ahead.begin(10)
    assert ahead.pause() == AFTER
    clock.now += AFTER / 2
    ahead.tick()
    assert (ahead.pause(), ahead.total, later.read) == (AFTER / 2, None, 0)
    clock.now += AFTER / 2
    ahead.report(3)
    ahead.tick()
    assert (ahead.pause(), ahead.total, later.read) == (None, 22, 2)
    ahead.report(7)
    assert recorder.steps == [("hash", 3, None), ("hash", 7, 22)]


def test_counting_takes_turns_with_the_work() -> None:
    clock, later = Clock(), Part(*range(100))
    ahead = Outlook("hash", Recorder(), [None, later], clock=clock)
    ahead.enter(no_more)
    ahead.begin(1)
    clock.now += AFTER
    clock.step = TURN / 4  # each item takes so long
    ahead.tick()
    first = later.read
    assert 1 <= first <= 5
    clock.step = 0
    ahead.tick()
    assert later.read == first, "the work has its turn"
    clock.now += TURN
    clock.step = TURN / 4
    ahead.tick()
    assert first < later.read <= 2 * first + 1
    while ahead.total is None:
        ahead.count()
    assert ahead.total == 1 + sum(range(100))


def test_counting_stays_ahead_of_the_work() -> None:
    clock, sizes = Clock(), [3, 1, 4, 1, 5, 9, 2, 6]
    part = Part(*sizes)
    ahead = Outlook("hash", Recorder(), [None, part], clock=clock)
    ahead.enter(no_more)
    ahead.begin(1)
    clock.now += AFTER
    clock.step = TURN  # a turn is one item
    ahead.tick()
    ahead.leave()
    ahead.enter(None)
    for number, size in enumerate(sizes):
        ahead.begin(size)
        assert part.read >= number + 1
    assert ahead.total is None or ahead.total == 1 + sum(sizes)
    ahead.leave()
    assert ahead.total == 1 + sum(sizes)


def test_a_part_that_cannot_be_counted_is_waited_for() -> None:
    clock, last = Clock(), Part(4)
    ahead = Outlook("hash", Recorder(), [None, None, last], clock=clock)
    ahead.enter(no_more)
    ahead.begin(1)
    clock.now += AFTER
    ahead.tick()
    ahead.leave()
    assert ahead.pause() is None, "the second part is not there yet"
    ahead.enter(None)
    ahead.begin(2)
    assert ahead.pause() is None, "nobody knows what more it has"
    ahead.leave()
    assert ahead.pause() == 0
    ahead.tick()
    assert ahead.total == 7


def test_a_total_is_corrected_upward_by_what_is_found_later() -> None:
    clock, recorder = Clock(), Recorder()
    ahead = Outlook("hash", recorder, [None, Part(1)], clock=clock)
    ahead.enter(no_more)
    ahead.begin(1)
    clock.now += AFTER
    ahead.tick()
    ahead.leave()
    assert ahead.total == 2
    ahead.enter(no_more)
    ahead.begin(5)
    assert ahead.total == 6
    ahead.leave()
    ahead.report(6)
    ahead.finish()
    assert recorder.steps == [("hash", 6, 6)]


def test_a_count_that_fails_is_not_tried_again() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise InvalidInput("broken")

    clock = Clock()
    ahead = Outlook("hash", Recorder(), [None, fail], clock=clock)
    ahead.enter(no_more)
    ahead.begin(1)
    clock.now += AFTER
    ahead.tick()
    assert (ahead.total, ahead.pause()) == (None, None)


def test_a_total_that_is_given_is_told_at_once_and_nothing_is_counted() -> None:
    clock, recorder = Clock(), Recorder()
    ahead = Outlook("hash", recorder, [None], total=9, clock=clock)
    ahead.enter(lambda: pytest.fail("counted"))
    ahead.begin(9)
    clock.now += AFTER
    ahead.tick()
    assert ahead.pause() is None
    ahead.report(9)
    ahead.leave()
    ahead.finish()
    assert recorder.steps == [("hash", 9, 9)]


def test_the_last_report_has_the_total_even_if_nothing_is_left_to_report() -> None:
    recorder = Recorder()
    ahead = Outlook("hash", recorder, [None, None])
    ahead.enter(None)
    ahead.begin(3)
    ahead.report(3)
    ahead.leave()
    ahead.finish()
    assert recorder.steps == [("hash", 3, None)], "one part is left"
    ahead.enter(None)
    ahead.leave()
    ahead.finish()
    assert recorder.steps[1:] == [("hash", 0, 3)]


def test_nothing_is_reported_where_nothing_is_read() -> None:
    recorder = Recorder()
    ahead = Outlook("hash", recorder)
    ahead.enter(None)
    ahead.begin(0)
    ahead.leave()
    ahead.finish()
    assert recorder.steps == []


# ---- a walk over what is still to come

names = st.sampled_from(["a", "a.b", "a0", "b", "é", "z"])
folders: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(names, st.binary(max_size=9), max_size=6),
    lambda inner: st.dictionaries(names, inner | st.binary(max_size=9), max_size=6),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A new folder for every example."""
    return lambda: tmp_path_factory.mktemp("outlook")


def names_in(step: scan.Folder | None) -> tuple[str, list[str], list[str]] | None:
    """Return what a step of a walk says but the result of stat(2), which has the time of the last look."""
    if step is None:
        return None
    return step.path, [name for name, _ in step.files], [name for name, _ in step.folders]


@given(folders)
def test_a_walk_ahead_yields_what_the_walk_will_yield(place: Callable[[], Path], content: dict[str, Any]) -> None:
    root = place() / "top"
    write_folder(root, content)
    expected = [names_in(step) for step in scan.walk(str(root))]
    walk = scan.Walk(str(root))
    for number, step in enumerate(walk, 1):
        assert names_in(step) == expected[number - 1]
        next(walk.ahead(), None)  # does not move the walk, nor another one
        assert [names_in(step) for step in walk.ahead()] == expected[number:]


def test_a_walk_ahead_refuses_cycles_of_followed_links(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", {"top": {"a": {}, "b": {"c": {}}}})
    (tmp_path / "in/top/b/c/up").symlink_to("../..")
    (tmp_path / "in/top/b/other").symlink_to("../a")
    walk = scan.Walk(str(tmp_path / "in/top"), follow=True)
    next(iter(walk))
    with pytest.raises(InvalidInput, match="form a cycle"):
        list(walk.ahead())


# ---- hashing with it


class Hashed(NamedTuple):
    """What hashing changes: when it counts, for how long, and how far it walks and batches ahead."""

    after: float
    turn: float
    pending: int
    files: int
    alone: int
    large: int


hashings = st.builds(
    Hashed,
    after=st.sampled_from([0, 1000]),
    pending=st.integers(1, 30),
    turn=st.sampled_from([0, 1000]),
    files=st.integers(1, 4),
    alone=st.sampled_from([0, 2, 1000]),
    large=st.sampled_from([0, 5, 1 << 20]),
)


def apply(how: Hashed, patch: pytest.MonkeyPatch) -> None:
    """Hash trees so from now on."""
    patch.setattr(outlook, "AFTER", how.after)
    patch.setattr(outlook, "TURN", how.turn)
    patch.setattr(deephash, "PENDING_FILES", how.pending)
    patch.setattr(deephash._LocalSource, "batch_files", how.files)
    patch.setattr(workers, "ALONE", how.alone)
    patch.setattr(workers, "LARGE", how.large)


@given(folders, hashings)
def test_the_total_of_a_tree_is_right_whenever_it_is_told(
    place: Callable[[], Path], content: dict[str, Any], how: Hashed
) -> None:
    root, recorder = place() / "top", Recorder()
    write_folder(root, content)
    with pytest.MonkeyPatch.context() as patch:
        apply(how, patch)
        tree = hash_tree(str(root), hashing=Hashing(progress=recorder))
    recorder.require_right(size=tree.size)


@given(st.lists(folders | st.binary(max_size=9), min_size=1, max_size=4), st.lists(folders, max_size=3), hashings)
def test_inputs_code_and_environment_have_one_total(
    place: Callable[[], Path], inputs: list[Any], code: list[dict[str, Any]], how: Hashed
) -> None:
    base, recorder = place(), Recorder()
    for number, item in enumerate(inputs):
        if isinstance(item, dict):
            write_folder(base / str(number), item)
        else:
            (base / str(number)).write_bytes(item)
    write_folder(base / "code", {f"{9 - number}": item for number, item in enumerate(code)} | {"main": {"x": b"12"}})
    write_folder(base / "lock", {"uv.lock": b"12345"})
    step: dict[str, Any] = {
        name: value for name, value in TRANSFORM.items() if name not in ("code_hash", "environment_hash")
    }
    step["code"] = [{"path": f"code/{9 - number}"} for number in range(len(code))] + [{"path": "code/main"}]
    step["environment"] = {"path": "lock"}
    text = json.dumps({"inputs": [{"name": f"i{n}", "path": str(n)} for n in range(len(inputs))], "transforms": [step]})
    sizes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        apply(how, patch)
        resolve(
            parse_contract_file(text),
            str(base),
            hashing=Hashing(progress=recorder),
            on_entry=lambda _, entry: sizes.append(entry.size),
        )
    recorder.require_right(size=sum(sizes))


@given(folders, st.sets(st.integers(0, 20)), hashings)
def test_what_is_known_is_neither_done_nor_in_the_total(
    place: Callable[[], Path], content: dict[str, Any], changed: set[int], how: Hashed
) -> None:
    base = place()
    root, recorder = base / "top", Recorder()
    write_folder(root, content)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in files:
        os.utime(path, (0, 0))
    with pytest.MonkeyPatch.context() as patch:
        apply(how, patch)
        patch.setattr(filesystem, "_file_system", lambda path: "ext4")
        patch.setattr(statcache, "WORTHWHILE", 1)
        patch.setattr(statcache, "RACY_NS", -(10**18))  # files of a test are young
        patch.setattr(statcache, "UNWRITTEN_BYTES", 1)  # what is hashed is known at once
        with StatCache(str(base / "index")) as known:
            whole = hash_tree(str(root), hashing=Hashing(known=known))
        size = 0
        for number, path in enumerate(files):
            if number in changed:
                path.write_bytes(b"other content")
                size += len(b"other content")
        with StatCache(str(base / "index")) as known:
            tree = hash_tree(str(root), hashing=Hashing(known=known, progress=recorder))
    assert (tree == whole) == (not size)
    recorder.require_right(size=size)


def test_the_total_is_known_long_before_the_end(tmp_path: Path) -> None:
    write_folder(tmp_path / "top", {f"{number:03}": {"a": b"12", "b": b"345"} for number in range(400)})
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        apply(Hashed(after=0, turn=1000, pending=10, files=2, alone=1 << 20, large=1 << 20), patch)
        hash_tree(str(tmp_path / "top"), hashing=Hashing(progress=recorder))
    assert recorder.totals.count(None) == 0
    recorder.require_right(size=2000)


def contract_of(base: Path, *paths: str) -> Any:
    inputs = [{"name": f"i{number}", "path": path} for number, path in enumerate(paths)]
    return parse_contract_file(json.dumps({"inputs": inputs, "transforms": [TRANSFORM]}))


def test_who_waits_for_a_large_file_counts_the_other_roots_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the file is read before the other root is counted."""
    write_folder(tmp_path / "in", {"large": bytes(1 << 20), "many": {str(number): b"12" for number in range(50)}})
    counted = threading.Event()
    read, count = filehash.hash_batch, deephash.unread_bytes

    def read_late(batch: Batch, on_bytes: OnBytes | None = None) -> list[str]:
        assert batch.files[0][0] != "large" or counted.wait(60)
        return read(batch, on_bytes)

    def note_end(root: str, **options: Any) -> Iterator[int]:
        yield from count(root, **options)
        counted.set()

    monkeypatch.setattr(filehash, "hash_batch", read_late)
    monkeypatch.setattr(roots, "unread_bytes", note_end)
    monkeypatch.setattr(outlook, "AFTER", 0)
    recorder = Recorder()
    resolve(contract_of(tmp_path, "large", "many"), str(tmp_path / "in"), hashing=Hashing(progress=recorder))
    recorder.require_right(size=(1 << 20) + 100)


def test_an_error_that_the_count_meets_is_left_to_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "in", {"one": {"a": b"1", "b": b"2"}, "two": {"a": b"3"}})
    (tmp_path / "in/two/link").symlink_to("a")
    monkeypatch.setattr(outlook, "AFTER", 0)
    recorder = Recorder()
    with pytest.raises(InvalidInput, match="symbolic link"):
        resolve(contract_of(tmp_path, "one", "two"), str(tmp_path / "in"), hashing=Hashing(progress=recorder))
    assert (recorder.done, set(recorder.totals)) == (2, {None})


def test_files_that_come_meanwhile_are_added_to_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "in", {"one": {"a": b"1"}, "two": {"a": b"22"}})
    monkeypatch.setattr(outlook, "AFTER", 0)
    recorder = Recorder()

    def grow(root: roots.HashedRoot, folder: scan.Folder) -> None:
        if root.listing == "inputs/i0":
            (tmp_path / "in/two/b").write_bytes(b"333")

    contract = contract_of(tmp_path, "one", "two")
    resolve(contract, str(tmp_path / "in"), hashing=Hashing(progress=recorder), on_folder=grow)
    assert (recorder.totals[0], recorder.totals[-1], recorder.done) == (3, 6, 6)


def test_a_store_is_listed_once(store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is known when all of it is listed; what comes after it can be counted then."""
    write_folder(tmp_path / "in", {"a": {"x": b"1"}, "c": {"y": b"22"}})
    store.objects.update({"b/docs/one": b"333", "b/docs/d/two": b"4444"})
    monkeypatch.setattr(outlook, "AFTER", 0)
    recorder = Recorder()
    contract = contract_of(tmp_path, "a", "store://b/docs", "c")
    resolve(contract, str(tmp_path / "in"), hashing=Hashing(progress=recorder))
    recorder.require_right(size=10)
    assert [path for what, path in store.asked if what == "list"] == ["b/docs", "b/docs/d"]


def test_an_executor_needs_no_total_and_gets_one(
    tmp_path: Path, executor: Executor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "in", {"one": {str(number): b"1" for number in range(300)}, "two": {"a": {"b": b"22"}}})
    monkeypatch.setattr(outlook, "AFTER", 0)
    recorder = Recorder()
    hashing = Hashing(executor=executor, progress=recorder)
    resolve(contract_of(tmp_path, "one", "two"), str(tmp_path / "in"), hashing=hashing)
    recorder.require_right(size=302)


def test_no_thread_is_started_to_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that hashing may still fork."""
    write_folder(tmp_path / "in", {"one": {f"{number:02}": {"f": b"1"} for number in range(40)}, "two": {"a": b"22"}})
    monkeypatch.setattr(outlook, "AFTER", 0)
    before = threading.active_count()
    seen: list[int] = []
    progress = lambda stage, advanced, total: seen.append(threading.active_count())  # noqa: E731
    resolve(contract_of(tmp_path, "one", "two"), str(tmp_path / "in"), hashing=Hashing(progress=progress))
    assert set(seen) == {before}
