"""Faults of the network and of a busy registry are retried, a bounded number of times and in bounded time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit import audit_artifact, audit_cache, leftovers
from examples import LARGE, seed_pack
from faults import first, flipped, holding, holding_body, refusing, resetting, where, wrong_length
from forks import ForkedMachine, Forks
from machine import Machine
from plain_target import Repository
from relay import Answer, Forward, Relay, Request, Rule

from ctxpack_identity import Unavailable, parse_uri
from ctxpack_oci.location import RegistryLocation
from ctxpack_oci.patience import Patience
from ctxpack_oci.registry import Registry
from ctxpack_pantry import Pantry, Settings
from ctxpack_pantry.settings import Setting
from registry2 import RegistryServer

SMALL = {"index.bin": LARGE[:1000], "sub/text": b"text\n"}

UPLOAD_BEGINS = ("POST", "/uploads/")
PUSH = [("GET", "/manifests/ctx-"), ("HEAD", "/blobs/"), UPLOAD_BEGINS, ("PUT", "/uploads/")]
PUSH += [("PUT", "/manifests/sha256:"), ("PUT", "/manifests/ctx-")]
PULL = [("GET", "/manifests/ctx-"), ("GET", "/blobs/")]


@pytest.fixture
def relay(registry: RegistryServer) -> Iterator[Relay]:
    with Relay(registry.address) as running:
        yield running


@pytest.fixture
def repository(registry: RegistryServer) -> Repository:
    return Repository(registry)


@pytest.fixture
def machine(tmp_path: Path, repository: Repository, relay: Relay, forks: Forks) -> Machine:
    """A machine that talks to the registry through the relay."""
    return ForkedMachine(forks, tmp_path / "machine", repository.through(relay.address))


def at_each(places: list[tuple[str, str]], make_rule: Callable[[], Rule]) -> Rule:
    """Apply a rule of its own, made by make_rule, to each kind of request."""
    chosen = [(method, path, make_rule()) for method, path in places]

    def applied(request: Request, forward: Forward) -> Answer:
        for method, path, one in chosen:
            if method == request.method and path in request.path:
                return one(request, forward)
        return forward(request)

    return applied


def refused_twice() -> Rule:
    """Return a rule: 429, then 503, then what the registry answers."""
    return first(1, refusing(429), then=first(1, refusing(503)))


def test_every_kind_of_request_is_retried_after_429_and_503(
    machine: Machine, relay: Relay, repository: Repository
) -> None:
    uri = seed_pack(machine, files=SMALL)
    machine.succeed("push", uri, registry=f"{relay.address}/team/undisturbed")
    usual = {place: len(relay.seen(*place)) for place in PUSH}
    relay.forget()
    relay.rule = at_each(PUSH, refused_twice)
    machine.succeed("push", uri)
    again = {place: len(relay.seen(*place)) - usual[place] for place in PUSH}
    assert again == dict.fromkeys(PUSH, 2) | {UPLOAD_BEGINS: 4}  # an upload refused at its end starts again with POST
    assert audit_artifact(repository, uri) is not None
    machine.succeed("rm", uri)
    relay.rule = at_each(PULL, refused_twice)
    machine.succeed("pull", uri)
    assert audit_cache(machine.cache) == [uri]


def test_retry_after_is_obeyed(machine: Machine, relay: Relay) -> None:
    times: list[float] = []

    def busy(request: Request, forward: Forward) -> Answer:
        times.append(time.monotonic())
        return refusing(429, Retry_After="2")(request, forward) if len(times) == 1 else forward(request)

    relay.rule = where(busy, method="GET", path="/manifests/")
    uri = seed_pack(machine, files=SMALL)
    machine.succeed("push", uri)
    assert times[1] - times[0] >= 2.0


def test_five_refusals_are_exit_6(machine: Machine, relay: Relay) -> None:
    uri = seed_pack(machine, files=SMALL)
    machine.succeed("push", uri)
    machine.succeed("rm", uri)
    relay.forget()
    relay.rule = where(refusing(503), method="GET", path="/manifests/")
    done = machine.run("pull", uri)
    assert (done.status, done.stdout) == (6, "")
    assert "answered 503 (TOOMANYREQUESTS: slow down) (5 attempts); try again later" in done.stderr
    assert [request.method for request in relay.seen()] == ["GET"] * 5
    assert 3 < done.seconds < 60
    assert audit_cache(machine.cache) == []
    assert leftovers(machine.cache) == []


def test_a_connection_lost_in_the_body_of_an_answer_is_retried(machine: Machine, relay: Relay) -> None:
    uri = seed_pack(machine)
    machine.succeed("push", uri)
    for rule in (resetting, wrong_length(1)):
        machine.succeed("rm", uri)
        relay.rule = at_each(PULL[1:], lambda rule=rule: first(1, rule))  # type: ignore[misc]
        machine.succeed("pull", uri)
        assert audit_cache(machine.cache) == [uri]


def test_a_connection_lost_after_an_upload_is_retried(machine: Machine, relay: Relay, repository: Repository) -> None:
    def lost(request: Request, forward: Forward) -> Answer:
        forward(request)  # the registry has it, but the client gets no answer
        return Answer(201, {}, b"x", pause_at=0)

    relay.rule = at_each(PUSH[2:], lambda: first(1, lost))
    uri = seed_pack(machine)
    machine.succeed("push", uri)
    assert audit_artifact(repository, uri) is not None


def test_a_bit_changed_on_the_way_to_the_registry_is_found(
    machine: Machine, relay: Relay, repository: Repository
) -> None:
    uri = seed_pack(machine, files=SMALL)
    relay.rule = lambda request, forward: forward(
        request._replace(body=flipped(request.body, -1)) if request.sends_blob else request
    )
    done = machine.run("push", uri)
    assert (done.status, done.stdout) == (5, "")
    assert "digest differs from what the registry received: expected sha256:" in done.stderr
    assert audit_artifact(repository, uri) is None


def test_a_manifest_is_put_again_while_another_push_writes_its_blobs(
    machine: Machine, relay: Relay, repository: Repository
) -> None:
    """When two pushes send the same blobs at once, registry:2 answers so about once in thirty times."""
    code = b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}'
    relay.rule = at_each(PUSH[4:], lambda: first(1, lambda request, forward: Answer(400, {}, code)))
    uri = seed_pack(machine, files=SMALL)
    machine.succeed("push", uri)
    assert audit_artifact(repository, uri) is not None


@pytest.mark.parametrize("moment", [holding, holding_body])
def test_a_registry_that_stops_answering_is_unavailable(
    machine: Machine, relay: Relay, repository: Repository, moment: Callable[..., Rule]
) -> None:
    """The limits of the command are minutes, so this test gives the same code smaller ones."""
    uri = seed_pack(machine, files=SMALL)
    machine.succeed("push", uri)
    relay.rule = where(moment(relay.hold()), method="GET", path="/blobs/")
    must_be_unavailable(machine, relay, repository, uri, Patience(read=1, attempts=2, first_wait=0.01))
    asked = Counter(request.path for request in relay.seen("GET", "/blobs/"))
    assert max(asked.values()) == 2, "the first layers are asked for at the same time, each twice"


def test_a_registry_that_is_busy_for_too_long_is_unavailable(
    machine: Machine, relay: Relay, repository: Repository
) -> None:
    uri = seed_pack(machine, files=SMALL)
    machine.succeed("push", uri)

    now = [0.0]

    def busy(request: Request, forward: Forward) -> Answer:
        now.append(now[-1] + 0.05)
        return Answer(503, {"Retry-After": "0"})

    relay.rule = where(busy, method="GET", path="/blobs/")
    patience = Patience(total=0.5, attempts=1000, first_wait=0.01, slowest_rate=1 << 40, clock=lambda: now[-1])
    must_be_unavailable(machine, relay, repository, uri, patience)
    assert 2 < len(relay.seen("GET", "/blobs/")) < 50


def must_be_unavailable(machine: Machine, relay: Relay, repository: Repository, uri: str, patience: Patience) -> None:
    relay.forget()
    location = RegistryLocation(scheme="http", host=relay.address, repository=repository.name)
    target = Registry(location, patience=patience)
    cache = machine.cache.with_name("another cache")
    begun = time.monotonic()
    settings = Settings(Setting(location.repository, "test"), Setting(str(cache), "test"))
    with pytest.raises(Unavailable):
        Pantry(settings, target=target).pull(parse_uri(uri))
    target.close()
    assert time.monotonic() - begun < 30
    assert audit_cache(cache) == []
    assert leftovers(cache) == []
