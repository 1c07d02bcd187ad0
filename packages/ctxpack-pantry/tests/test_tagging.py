"""A tag is set in time, or not at all: of pushes of different outputs, at most one succeeds."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pantry_target import Call, FaultyTarget

from ctxpack_identity import Conflict, Digest, Unavailable, digest_of
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, Layout, describe
from ctxpack_pantry.tagging import LOOKS, set_tag

TAG = "ctx-1"
SETTLE = 0.5


class Clock:
    """Seconds that pass only when somebody sleeps, or when a call is said to take some."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Tags:
    """A registry's only tag. after: called with the number of each call, after it was answered."""

    name = "there"
    conditional_tags = False

    def __init__(self, named: Digest | None = None) -> None:
        self.named = named
        self.calls: list[str] = []
        self.after: Callable[[str, int], object] = lambda method, number: None

    def resolve_tag(self, tag: str) -> Digest | None:
        named = self.named
        self._called("look")
        return named

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        self.named = descriptor.digest
        self._called("tag")

    def _called(self, method: str) -> None:
        self.calls.append(method)
        self.after(method, self.calls.count(method))


OURS, THEIRS, OLD = (describe(data, IMAGE_MANIFEST_MEDIA_TYPE) for data in (b"1", b"2", b"3"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def decide(tags: Tags, clock: Clock, before: Digest | None = None, settle: float = SETTLE) -> Digest | None:
    target: object = tags
    return set_tag(
        target,  # type: ignore[arg-type]  # these calls only
        OURS,
        TAG,
        before=before,
        settle=settle,
        clock=clock,
        sleep=clock.sleep,
    )


@pytest.mark.parametrize(("settle", "waited"), [(SETTLE, SETTLE), (0.0, 0.0)])
def test_a_push_looks_sets_the_tag_waits_and_looks(clock: Clock, settle: float, waited: float) -> None:
    tags = Tags()
    assert decide(tags, clock, settle=settle) == OURS.digest
    assert tags.calls == ["look", "tag", "look"]
    assert clock.now == 100 + waited


def test_what_another_push_set_before_stays(clock: Clock) -> None:
    tags = Tags(THEIRS.digest)
    assert decide(tags, clock) == THEIRS.digest
    assert tags.calls == ["look"]


def test_what_another_push_sets_meanwhile_is_found(clock: Clock) -> None:
    tags = Tags()
    tags.after = lambda method, number: setattr(tags, "named", THEIRS.digest) if method == "tag" else None
    assert decide(tags, clock) == THEIRS.digest


def test_the_same_set_by_another_push_is_not_set_again_but_awaited(clock: Clock) -> None:
    tags = Tags(OURS.digest)
    assert decide(tags, clock) == OURS.digest
    assert tags.calls == ["look", "look"]
    assert clock.now == 100 + SETTLE


def test_a_tag_that_vanishes_is_none(clock: Clock) -> None:
    tags = Tags()
    tags.after = lambda method, number: setattr(tags, "named", None) if method == "tag" else None
    assert decide(tags, clock) is None


def test_only_what_was_seen_is_replaced(clock: Clock) -> None:
    assert decide(Tags(OLD.digest), clock, before=OLD.digest) == OURS.digest
    assert decide(Tags(THEIRS.digest), clock, before=OLD.digest) == THEIRS.digest
    assert decide(Tags(None), clock, before=OLD.digest) is None


def unsettled(tags: Tags, clock: Clock) -> None:
    expected = r"^there:ctx-1: unsettled: .* expected look and tag within 0\.5 s, the settle time, got "
    with pytest.raises(Unavailable, match=expected) as caught:
        decide(tags, clock)
    assert caught.value.code == "E_UNSETTLED"


def test_a_registry_that_shows_tags_too_slowly_each_time_leaves_it_unsettled(clock: Clock) -> None:
    tags = Tags()
    tags.after = lambda method, number: clock.sleep(SETTLE + 0.1)
    unsettled(tags, clock)
    assert tags.calls == ["look"] * LOOKS


@pytest.mark.parametrize("often", [1, LOOKS - 1])
def test_a_registry_that_is_slow_to_show_a_tag_now_and_then_is_asked_again(clock: Clock, often: int) -> None:
    tags = Tags()
    tags.after = lambda method, number: clock.sleep(9) if method == "look" and number <= often else None
    assert decide(tags, clock) == OURS.digest


def test_a_tag_that_is_set_too_late_may_have_replaced_another_and_is_unsettled(clock: Clock) -> None:
    tags = Tags()
    tags.after = lambda method, number: clock.sleep(SETTLE + 0.1) if method == "tag" else None
    unsettled(tags, clock)
    assert tags.calls == ["look", "tag", "look"]


def test_a_tag_that_is_set_too_late_and_names_another_again_has_lost(clock: Clock) -> None:
    tags = Tags()

    def act(method: str, number: int) -> None:
        if method == "tag":
            clock.sleep(SETTLE + 0.1)
            tags.named = THEIRS.digest

    tags.after = act
    assert decide(tags, clock) == THEIRS.digest


def test_immutable_tags_name_what_was_first(clock: Clock) -> None:
    tags = Tags(OLD.digest)

    def refuse(method: str, number: int) -> None:
        if method == "tag":
            tags.named = OLD.digest
            raise Conflict("immutable")

    tags.after = refuse
    with pytest.raises(Conflict, match="immutable"):
        decide(tags, clock, before=OLD.digest)
    tags = Tags()
    tags.after = lambda method, number: refuse_for_theirs(tags) if method == "tag" else None
    assert decide(tags, clock) == THEIRS.digest


def refuse_for_theirs(tags: Tags) -> None:
    tags.named = THEIRS.digest
    raise Conflict("immutable")


def test_a_layout_decides_by_itself_and_nobody_waits(tmp_path: Path, clock: Clock) -> None:
    layout = Layout(tmp_path / "layout")
    manifests = [b'{"a":1}', b'{"b":1}']
    ours, theirs = (describe(data, "application/vnd.oci.image.index.v1+json") for data in manifests)
    for descriptor, data in zip((ours, theirs), manifests, strict=True):
        layout.push(descriptor, data)

    def set_to(image: Descriptor, before: Digest | None) -> Digest | None:
        return set_tag(layout, image, TAG, before=before, settle=SETTLE, clock=clock, sleep=clock.sleep)

    assert set_to(ours, None) == ours.digest
    assert set_to(theirs, None) == ours.digest
    assert set_to(theirs, ours.digest) == theirs.digest
    assert clock.now == 100


class Simulation:
    """Threads on one clock, of which one runs at a time: time passes while all of them wait."""

    def __init__(self, threads: int) -> None:
        self.now = 0.0
        self._running = threads
        self._due: list[tuple[float, int]] = []
        self._turn = threading.Condition()

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float, thread: int) -> None:
        with self._turn:
            due = (self.now + seconds, thread)
            self._due.append(due)
            self._pause()
            self._turn.wait_for(lambda: due not in self._due)

    def end(self) -> None:
        with self._turn:
            self._pause()

    def _pause(self) -> None:
        self._running -= 1
        if not self._running and self._due:
            first = min(self._due)
            self._due.remove(first)
            self.now, self._running = first[0], 1
            self._turn.notify_all()


class Client:
    """One client of a registry with one tag. A call takes effect at some moment before its answer.

    delays: of each call, before and after that moment.
    """

    name = "there"
    conditional_tags = False

    def __init__(self, tags: Tags, simulation: Simulation, number: int, delays: list[tuple[float, float]]) -> None:
        self._tags, self._simulation, self._number = tags, simulation, number
        self._delays = itertools.cycle(delays)

    def sleep(self, seconds: float) -> None:
        self._simulation.wait(seconds, self._number)

    def resolve_tag(self, tag: str) -> Digest | None:
        before, after = next(self._delays)
        self.sleep(before)
        named = self._tags.named
        self.sleep(after)
        return named

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        before, after = next(self._delays)
        self.sleep(before)
        self._tags.named = descriptor.digest
        self.sleep(after)


delay = st.floats(0, 0.3)


@settings(max_examples=150, deadline=None)
@given(
    starts=st.lists(st.floats(0, 1.5), min_size=2, max_size=4),
    delays=st.lists(st.lists(st.tuples(delay, delay), min_size=1, max_size=9), min_size=4, max_size=4),
)
def test_at_most_one_push_succeeds_whatever_the_delays(
    starts: list[float], delays: list[list[tuple[float, float]]]
) -> None:
    simulation, tags = Simulation(len(starts)), Tags()
    images = [describe(str(number).encode(), IMAGE_MANIFEST_MEDIA_TYPE) for number in range(len(starts))]
    clients = [Client(tags, simulation, number, delays[number]) for number in range(len(starts))]
    succeeded: list[int] = []

    def push(number: int) -> None:
        client: object = clients[number]
        try:
            clients[number].sleep(starts[number])
            named = set_tag(
                client,  # type: ignore[arg-type]  # these calls only
                images[number],
                TAG,
                before=None,
                settle=SETTLE,
                clock=simulation.clock,
                sleep=clients[number].sleep,
            )
            if named == images[number].digest:
                succeeded.append(number)
        except Unavailable:
            pass
        finally:
            simulation.end()

    threads = [threading.Thread(target=push, args=[number]) for number in range(len(starts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(succeeded) <= 1


def test_a_conflict_is_no_answer_of_a_layout(tmp_path: Path) -> None:
    """A faulty target behaves as a registry: the tag is looked at twice."""
    target = FaultyTarget(tmp_path / "registry")
    data = b"{}"
    image = describe(data, "application/vnd.oci.image.index.v1+json")
    target.layout.push(image, data)
    assert set_tag(target, image, TAG, before=None, settle=0) == digest_of(data)
    assert target.calls == [Call("resolve_tag", TAG), Call("tag", TAG), Call("resolve_tag", TAG)]
