"""Pushes of different outputs of one contract: at most one is told that it succeeded, and the tag names its outputs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from audit import audit_artifact, digest_of
from examples import seed_pack
from faults import first, where
from forks import ForkedMachine, Forks, Running
from machine import Finished, Machine
from plain_target import KINDS, Layout, PlainTarget, Repository, open_target, tag_of
from project import Project
from relay import Answer, Forward, Hold, Relay, Request, Rule

from registry2 import RegistryServer

ROUNDS = 20
RIVALS = ("ada", "bob", "cyd", "dan")
LONG = "4"  # seconds: a settle time in which another command begins and ends, also on a loaded machine


class Racer(ForkedMachine):
    """A machine that waits for the settle time as users do, and the digest of its outputs by URI."""

    def __init__(self, forks: Forks, folder: Path, registry: str = "", *, settle: str = "") -> None:
        super().__init__(forks, folder, registry, {"WHO": folder.name})
        del self.environment["CTXPACK_SETTLE"]
        if settle:
            self.environment["CTXPACK_SETTLE"] = settle
        self.name = folder.name

    def seed(self, number: int = 0) -> str:
        """Seed outputs that no other racer has, for the contract of this number; return its URI."""
        return seed_pack(self, dpi=number, files={"who": self.name.encode(), "round": b"%d" % number})


@pytest.fixture(scope="module")
def racers(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Racer], list[str]]:
    """Four machines, and the contracts whose packs they have, each with other outputs."""
    folder = tmp_path_factory.mktemp("racers")
    racers = [Racer(forks, folder / name) for name in RIVALS]
    uris = [[racer.seed(number) for number in range(ROUNDS)] for racer in racers]
    assert uris.count(uris[0]) == len(racers)
    return racers, uris[0]


@pytest.fixture
def pair(forks: Forks, tmp_path: Path, registry: RegistryServer) -> tuple[Racer, Racer, Repository, str]:
    """Two machines with other outputs of one contract, an empty repository, and the URI."""
    repository = Repository(registry)
    ours, theirs = (Racer(forks, tmp_path / name, repository.location) for name in ("ours", "theirs"))
    uri = ours.seed()
    assert theirs.seed() == uri
    return ours, theirs, repository, uri


def outputs_of(machine: Machine, uri: str) -> str:
    """Return the digest of the outputs that a machine has in its cache."""
    digest: str = json.loads(machine.succeed("inspect", uri, "--json"))["outputs"]["digest"]
    return digest


def names(target: PlainTarget, uri: str, machine: Machine) -> bool:
    """Return whether the tag of uri names the outputs that machine has. The pack on target must be whole."""
    artifact = audit_artifact(target, uri)
    return artifact is not None and outputs_of(machine, uri).encode() in artifact.pieces[0]


def must_say_what_to_do(lost: Finished, uri: str) -> None:
    assert lost.status == 8, lost
    for advice in ("ctxpack push --replace URI", "ctxpack rm --registry URI", "`salt`", tag_of(uri)):
        assert advice in lost.stderr


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_of_four_simultaneous_pushes_never_two_succeed(
    racers: tuple[list[Racer], list[str]], forks: Forks, request: pytest.FixtureRequest, kind: str
) -> None:
    machines, uris = racers
    target = open_target(kind, request)
    won = 0
    for pair in zip(uris[::2], uris[1::2], strict=True):  # two rounds at a time
        calls = [racer.call("push", uri, registry=target.location) for uri in pair for racer in machines]
        finished = forks.together(*calls)
        for uri, round in zip(pair, (finished[: len(RIVALS)], finished[len(RIVALS) :]), strict=True):
            winners = [racer for racer, done in zip(machines, round, strict=True) if done.status == 0]
            assert len(winners) <= 1, [done.stderr for done in round]
            assert all(names(target, uri, racer) for racer in winners)
            assert audit_artifact(target, uri) is not None
            won += len(winners)
            for lost in round:
                if lost.status == 6 and kind == "registry":
                    assert "unsettled" in lost.stderr
                elif lost.status != 0:
                    must_say_what_to_do(lost, uri)
    assert won == ROUNDS if kind == "layout" else won > 0


MAKE = ("sh", "-c", 'mkdir -p out; echo "$WHO" > out/who')


def projects(forks: Forks, folder: Path, location: str, number: int = 0) -> tuple[list[Racer], str]:
    """Return four machines, on which the command of one contract makes other outputs each, and its URI."""
    racers = [Racer(forks, folder / f"{name}{number}", location) for name in RIVALS]
    for racer in racers:
        Project(racer).declare(command=list(MAKE), params={"number": number})
    uris = {racer.succeed("id") for racer in racers}
    assert len(uris) == 1
    return racers, uris.pop()


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_four_runs_that_push_different_results_at_once_agree_in_the_end(
    forks: Forks, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    target = open_target(kind, request)
    for number in range(3):
        racers, uri = projects(forks, tmp_path, target.location, number)
        for racer in racers:
            racer.environment["CTXPACK_SETTLE"] = "2"  # enough for a loaded machine: nobody is to be unsettled
        finished = forks.together(*[racer.call("run", "--push") for racer in racers])
        assert [done.stderr for done in finished if done.status] == []
        held = {(racer.work / "out" / "who").read_text() for racer in racers}
        assert len(held) == 1, [done.stderr for done in finished]
        assert all(names(target, uri, racer) for racer in racers)
        for racer, done in zip(racers, finished, strict=True):
            mine = held == {f"{racer.name}\n"}
            adopted = f"Adopted: {uri}\n"
            assert done.stdout == adopted or mine or done.stdout == f"Hit: {uri}\n"
            assert done.stdout != adopted or (
                "not deterministic" in done.stderr and "--on-conflict=fail" in done.stderr
            )


@pytest.mark.parametrize("kind", ["registry", "layout"])
@pytest.mark.parametrize("options", [("--on-conflict=fail",), ("--recompute",)])
def test_runs_that_may_not_adopt_keep_their_own_outputs_and_are_exit_8(
    forks: Forks, tmp_path: Path, request: pytest.FixtureRequest, kind: str, options: tuple[str, ...]
) -> None:
    target = open_target(kind, request)
    racers, uri = projects(forks, tmp_path, target.location)
    for racer in racers:  # so that each of them has something of its own, whoever is faster
        racer.succeed("run")
    finished = forks.together(*[racer.call("run", "--push", *options) for racer in racers])
    winners = [racer for racer, done in zip(racers, finished, strict=True) if done.status == 0]
    assert len(winners) <= 1
    assert all(names(target, uri, racer) for racer in winners)
    for racer, done in zip(racers, finished, strict=True):
        assert (racer.work / "out" / "who").read_text() == f"{racer.name}\n"
        if done.status == 8:
            must_say_what_to_do(done, uri)
        else:
            assert done.status == 0 or (done.status == 6 and "unsettled" in done.stderr)


@pytest.mark.parametrize("kind", KINDS)
def test_recompute_push_replace_puts_the_new_outputs_under_the_tag(
    forks: Forks, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    target = open_target(kind, request)
    (ours, theirs, *_), uri = projects(forks, tmp_path, target.location)
    for racer in (ours, theirs):
        racer.environment |= target.environment
    theirs.succeed("run", "--push")
    before = digest_of(target.manifest(tag_of(uri)) or b"")
    ours.succeed("run", "--offline")
    done = ours.run("run", "--recompute", "--push", "--replace", "--json")
    assert done.status == 0, done.stderr
    pushed = json.loads(done.stdout)["pushed"]
    assert pushed["replaced"] == {"image": before, "outputs": outputs_of(theirs, uri)}
    assert pushed["image"] == digest_of(target.manifest(tag_of(uri)) or b"") != before
    assert pushed["outputs"] == outputs_of(ours, uri)
    assert names(target, uri, ours)


PACK_TAG = "/manifests/ctx-[0-9a-f]{64}$"
LOOK, TAG = ("HEAD", PACK_TAG), ("PUT", PACK_TAG)


def late(seconds: float, request: Request, forward: Forward) -> Answer:
    """Forward a request, and answer so much later."""
    answer = forward(request)
    time.sleep(seconds)
    return answer


def later(seconds: float) -> Rule:
    return lambda request, forward: late(seconds, request, forward)


def held(hold: Hold, *, done: bool) -> Rule:
    """Wait at hold before a request is forwarded, or, if done, before it is answered."""

    def rule(request: Request, forward: Forward) -> Answer:
        answer = forward(request) if done else None
        hold.wait()
        return answer or forward(request)

    return rule


def on(kind: tuple[str, str], rule: Rule) -> Rule:
    return where(rule, method=kind[0], path=kind[1])


@pytest.mark.parametrize("slow", [LOOK, TAG], ids=["look", "tag"])
def test_a_registry_that_always_answers_too_late_is_unsettled(
    pair: tuple[Racer, Racer, Repository, str], slow: tuple[str, str]
) -> None:
    ours, _, repository, uri = pair
    ours.environment["CTXPACK_SETTLE"] = "0.05"
    with Relay(repository.server.address, on(slow, later(0.1))) as relay:
        done = ours.run("push", uri, "--json", registry=repository.through(relay.address))
        # A look is made again; a tag that was set late cannot be taken back.
        assert len(relay.seen(*slow)) == (3 if slow == LOOK else 1)
    assert (done.status, done.stdout) == (6, "")
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["code"] == "E_UNSETTLED"
    assert "0.05 s" in error["expected"]
    assert "CTXPACK_SETTLE" in error["fix"]


def test_a_look_that_was_late_once_does_no_harm(pair: tuple[Racer, Racer, Repository, str]) -> None:
    ours, _, repository, uri = pair
    ours.environment["CTXPACK_SETTLE"] = "1"
    with Relay(repository.server.address, on(LOOK, first(1, later(1.1)))) as relay:
        ours.succeed("push", uri, registry=repository.through(relay.address))
        assert len(relay.seen(*TAG)) == 1
    assert names(repository, uri, ours)


def test_a_tag_that_was_late_is_unsettled_and_the_next_push_confirms_it(
    pair: tuple[Racer, Racer, Repository, str],
) -> None:
    ours, _, repository, uri = pair
    ours.environment["CTXPACK_SETTLE"] = "1"
    with Relay(repository.server.address, on(TAG, first(1, later(1.1)))) as relay:
        done = ours.run("push", uri, registry=repository.through(relay.address))
    assert (done.status, "unsettled" in done.stderr) == (6, True)
    ours.succeed("push", uri)
    assert names(repository, uri, ours)


def test_without_a_settle_time_nothing_is_ever_too_late(pair: tuple[Racer, Racer, Repository, str]) -> None:
    ours, _, repository, uri = pair
    ours.environment["CTXPACK_SETTLE"] = "0"
    with Relay(repository.server.address, on(LOOK, later(0.1))) as relay:
        ours.succeed("push", uri, registry=repository.through(relay.address))
        assert [len(relay.seen(*kind)) for kind in (LOOK, TAG)] == [2, 1]
    assert names(repository, uri, ours)


def test_a_layout_needs_no_settle_time(forks: Forks, tmp_path: Path) -> None:
    machine = Racer(forks, tmp_path / "ours", Layout(tmp_path / "layout").location, settle="60")
    assert machine.run("push", machine.seed()).seconds < 60


@pytest.mark.parametrize(
    ("kind", "done"),
    [(LOOK, False), (LOOK, True), (TAG, False), (TAG, True)],
    ids=["before the look", "after the look", "before the tag", "after the tag"],
)
def test_a_rival_that_pushes_while_ours_waits_for_an_answer(
    pair: tuple[Racer, Racer, Repository, str], kind: tuple[str, str], done: bool
) -> None:
    ours, theirs, repository, uri = pair
    with Relay(repository.server.address) as relay:
        hold = relay.hold()
        relay.rule = on(kind, first(1, held(hold, done=done)))
        started = ours.begin("push", uri, registry=repository.through(relay.address))
        hold.until_reached()
        rival = theirs.run("push", uri)
        hold.release()
        own = started.finish()
    assert {own.status, rival.status} <= {0, 6, 8}
    told = [machine for machine, one in ((ours, own), (theirs, rival)) if one.status == 0]
    assert len(told) <= 1, (own.stderr, rival.stderr)
    # A tag that was written after the rival had been told 0 has overwritten its tag: no protocol can help that.
    assert all(names(repository, uri, machine) for machine in told) or (kind, done) == (TAG, False)


def test_a_rival_that_looked_before_our_tag_and_writes_after_it_wins(
    pair: tuple[Racer, Racer, Repository, str],
) -> None:
    ours, theirs, repository, uri = pair
    for machine in (ours, theirs):
        machine.environment["CTXPACK_SETTLE"] = LONG
    with Relay(repository.server.address) as relay, Relay(repository.server.address) as our_relay:
        hold, our_tag = relay.hold(), our_relay.hold()
        our_tag.release()
        relay.rule = on(TAG, held(hold, done=False))
        our_relay.rule = on(TAG, held(our_tag, done=True))
        rival = theirs.begin("push", uri, registry=repository.through(relay.address))
        hold.until_reached()
        started = ours.begin("push", uri, registry=repository.through(our_relay.address))
        our_tag.until_reached()
        hold.release()
        finished = [started.finish(), rival.finish()]
    assert sorted(one.status for one in finished) == [0, 8], finished
    assert names(repository, uri, theirs)


class Undecided(NamedTuple):
    """A race of two pushes. relay: to the registry; hold: of the rival's tag; pushes: both, the rival's last."""

    relay: Relay
    hold: Hold
    pushes: list[Running]

    def decide(self, late: Running, before: int) -> list[int]:
        """Let the rival set its tag, once late has looked at the other one; return how late and both pushes ended.

        before: how many requests about the tag were there before late began.
        """
        until_quiet(self.relay, before)
        self.hold.release()
        return [one.finish().status for one in (late, *self.pushes)]


@contextmanager
def undecided(ours: Racer, theirs: Racer, repository: Repository, uri: str) -> Iterator[Undecided]:
    """A race in which theirs has found no tag, and ours has set it since, and still waits."""
    with Relay(repository.server.address) as relay:
        hold = relay.hold()
        relay.rule = on(TAG, held(hold, done=False))
        rival = theirs.begin("push", uri, registry=repository.through(relay.address))
        hold.until_reached()
        started = ours.begin("push", uri)
        until_tagged(repository, uri)
        yield Undecided(relay, hold, [started, rival])


def test_outputs_that_were_pulled_before_the_race_was_decided_are_no_success_either(
    pair: tuple[Racer, Racer, Repository, str], forks: Forks, tmp_path: Path
) -> None:
    """A pull notes what the tag names. The push of that pack must wait nevertheless, as long as it can change."""
    ours, theirs, repository, uri = pair
    user = Racer(forks, tmp_path / "user", repository.location, settle=LONG)
    for machine in (ours, theirs):
        machine.environment["CTXPACK_SETTLE"] = LONG
    with undecided(ours, theirs, repository, uri) as race:
        through = repository.through(race.relay.address)
        user.succeed("pull", uri, registry=through)
        before = len(race.relay.seen("", PACK_TAG))
        assert race.decide(user.begin("push", uri, registry=through), before) == [8, 8, 0]


def test_a_run_that_adopts_before_the_race_was_decided_adopts_again(
    pair: tuple[Racer, Racer, Repository, str], forks: Forks, tmp_path: Path
) -> None:
    repository = pair[2]
    (ours, theirs, user, _), uri = projects(forks, tmp_path, repository.location)
    for machine in (ours, theirs, user):
        machine.environment["CTXPACK_SETTLE"] = LONG
        machine.succeed("run", "--offline")
    with undecided(ours, theirs, repository, uri) as race:
        before = len(race.relay.seen("", PACK_TAG))
        running = user.begin("run", "--push", registry=repository.through(race.relay.address))
        assert race.decide(running, before) == [0, 8, 0]
    assert (user.work / "out" / "who").read_text() == f"{theirs.name}\n"
    assert names(repository, uri, user)


def until_tagged(repository: Repository, uri: str) -> None:
    while repository.manifest(tag_of(uri)) is None:
        time.sleep(0.01)


def until_quiet(relay: Relay, before: int) -> None:
    """Wait until a command has looked at a tag, and waits for time to pass or has ended. before: looks of others."""
    looks, since = before, time.monotonic()
    while looks == before or time.monotonic() - since < 0.5:
        if len(relay.seen("", PACK_TAG)) != looks:
            looks, since = len(relay.seen("", PACK_TAG)), time.monotonic()
        time.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_that_another_cache_has_pushed_are_not_sent_again(
    forks: Forks, tmp_path: Path, registry: RegistryServer, request: pytest.FixtureRequest, kind: str
) -> None:
    target = open_target(kind, request)
    machines = [ForkedMachine(forks, tmp_path / name, target.location, target.environment) for name in ("one", "two")]
    for machine in machines:
        project = Project(machine)
        project.declare(labels={"made by": machine.work.parent.name})  # so the image manifests differ
        uri = project.uri()
        machine.succeed("run")
    one, two = machines
    one.succeed("push", uri)
    image = digest_of(target.manifest(tag_of(uri)) or b"")
    pushed = json.loads(two.succeed("push", uri, "--json"))
    assert (pushed["sent"], pushed["new"], pushed["image"]) == (0, False, image)
    assert "replaced" not in pushed
    done = two.run("push", uri)
    assert (done.status, "had it already; nothing was sent" in done.stderr) == (0, True)
    if isinstance(target, Repository):
        with Relay(target.server.address) as relay:
            two.succeed("push", uri, registry=target.through(relay.address))
            assert {one.method for one in relay.seen()} <= {"GET", "HEAD"}
    assert digest_of(target.manifest(tag_of(uri)) or b"") == image
    theirs, mine = ((machine.cache / "v1" / "packs" / uri[-64:] / "manifest.json").read_bytes() for machine in machines)
    assert theirs != mine
