"""Processes that work on the same pack share the work or wait. None of them fails, and none sees half a pack."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

from audit import audit_artifact, audit_cache, leftovers
from examples import OUTPUTS, content_of, seed_pack, write_contract
from faults import where
from forks import ForkedMachine, Forks
from machine import Finished, Machine
from plain_target import Layout, PlainTarget, Repository, tag_of
from relay import Answer, Forward, Relay, Request

from registry2 import RegistryServer

OTHERS = OUTPUTS | {"sub/chunk 01.txt": b"something else\n"}


def outputs_digest(machine: Machine, uri: str) -> str:
    digest: str = json.loads(machine.succeed("inspect", uri, "--json"))["outputs"]["digest"]
    return digest


def test_four_pulls_of_one_pack_fetch_it_once(tmp_path: Path, registry: RegistryServer, forks: Forks) -> None:
    repository = Repository(registry)
    maker = ForkedMachine(forks, tmp_path / "maker", repository.location)
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    artifact = audit_artifact(repository, uri)
    assert artifact is not None
    with Relay(registry.address) as relay:
        user = ForkedMachine(forks, tmp_path / "user", repository.through(relay.address))
        started = [user.start("pull", uri) for _ in range(4)]
        folders = {(done.status, done.stdout) for done in [each.finish() for each in started]}
        fetched = Counter(request.path.rpartition("/")[2] for request in relay.seen("GET", "/blobs/"))
    assert folders == {(0, f"{user.cache}/v1/packs/{uri[-64:]}/artifacts\n")}
    assert audit_cache(user.cache) == [uri]
    assert leftovers(user.cache) == []
    layers = [layer["digest"] for layer in artifact.manifest["layers"]]
    assert {digest: fetched[digest] for digest in layers[1:]} == dict.fromkeys(layers[1:], 1)
    assert fetched[layers[0]] <= 2  # once for the pack manifest, once for the pack


def test_two_pushes_of_the_same_pack_at_once_both_succeed(tmp_path: Path, target: PlainTarget, forks: Forks) -> None:
    machines = [ForkedMachine(forks, tmp_path / name, target.location, target.environment) for name in ("one", "two")]
    uri, _ = (seed_pack(machine) for machine in machines)
    finished = [each.finish() for each in [machine.start("push", uri) for machine in machines]]
    assert [done.stderr for done in finished if done.status] == []
    assert audit_artifact(target, uri) is not None
    user = ForkedMachine(forks, tmp_path / "user", target.location, target.environment)
    assert content_of(Path(user.succeed("pull", uri))) == content_of(machines[0].work / "processed_data")


def test_of_two_pushes_of_different_outputs_at_once_one_wins_and_the_other_is_exit_8(
    tmp_path: Path, registry: RegistryServer, forks: Forks
) -> None:
    repository = Repository(registry)
    both_put, both_have_put = threading.Barrier(2, timeout=60), threading.Barrier(2, timeout=60)

    def together(request: Request, forward: Forward) -> Answer:
        both_put.wait()
        answer = forward(request)
        both_have_put.wait()
        return answer

    with Relay(registry.address, where(together, method="PUT", path="/manifests/ctx-")) as relay:
        machines = [ForkedMachine(forks, tmp_path / name, repository.through(relay.address)) for name in ("one", "two")]
        uri = seed_pack(machines[0])
        assert seed_pack(machines[1], files=OTHERS) == uri
        started = [machine.start("push", uri) for machine in machines]
        finished = [each.finish() for each in started]
    assert sorted(done.status for done in finished) == [0, 8]
    must_agree(tmp_path, repository, uri, machines, finished)


def test_pushes_of_different_outputs_at_once_never_mix_them(tmp_path: Path, target: PlainTarget, forks: Forks) -> None:
    machines = [ForkedMachine(forks, tmp_path / name, target.location, target.environment) for name in ("one", "two")]
    uri = seed_pack(machines[0])
    assert seed_pack(machines[1], files=OTHERS) == uri
    started = [machine.start("push", uri) for machine in machines]
    finished = [each.finish() for each in started]
    assert {done.status for done in finished} <= {0, 8}, finished
    must_agree(tmp_path, target, uri, machines, finished)


def must_agree(
    tmp_path: Path, target: PlainTarget, uri: str, machines: list[ForkedMachine], finished: list[Finished]
) -> None:
    """One push has won, the target holds its outputs, and the error of the other push names both digests."""
    assert audit_artifact(target, uri) is not None
    user = ForkedMachine(machines[0].forks, tmp_path / "user", target.location, target.environment)
    user.succeed("pull", uri)
    held = outputs_digest(user, uri)
    own = [outputs_digest(machine, uri) for machine in machines]
    assert 0 in {done.status for done, digest in zip(finished, own, strict=True) if digest == held}
    for done, digest in zip(finished, own, strict=True):
        assert done.status == 0 or f"expected outputs {held}, got {digest}" in done.stderr
    for machine, digest in zip(machines, own, strict=True):
        assert machine.run("push", uri, registry=target.location).status == (0 if digest == held else 8)


def test_two_runs_of_one_contract_run_the_command_once(tmp_path: Path, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    write_contract(machine.work)
    command = ["sh", "-c", "echo once >> ran; sleep 0.5; mkdir processed_data; echo index > processed_data/index"]
    started = [machine.start("run", "--", *command) for _ in range(2)]
    finished = [each.finish() for each in started]
    assert sorted(done.stdout.partition(" ")[0] for done in finished) == ["Hit:", "Seeded:"]
    assert [done.status for done in finished] == [0, 0]
    assert (machine.work / "ran").read_text() == "once\n"
    assert (machine.work / "processed_data" / "index").read_text() == "index\n"
    assert leftovers(machine.cache) == []


def test_packs_pushed_into_one_layout_at_once_are_all_there(tmp_path: Path, forks: Forks) -> None:
    layout = Layout(tmp_path / "layout")
    machine = ForkedMachine(forks, tmp_path / "machine", layout.location)
    uris = [seed_pack(machine, dpi=dpi, files={"text": b"%d" % dpi}) for dpi in range(6)]
    started = [machine.start("push", uri) for uri in uris]
    assert [done.status for done in [each.finish() for each in started]] == [0] * 6
    assert all(layout.manifest(tag_of(uri)) for uri in uris)


def test_seeding_pulling_removing_and_listing_at_once_never_shows_half_a_pack(
    tmp_path: Path, target: PlainTarget, forks: Forks
) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine", target.location, target.environment)
    uri = seed_pack(machine)
    machine.succeed("push", uri)
    whole = content_of(machine.work / "processed_data")
    failures: list[str] = []

    def work(number: int) -> None:
        for step in range(6):
            place = f"copy-{number}-{step}"
            commands = (["seed"], ["pull", uri], ["rm", uri], ["ls"], ["pull", uri, "-o", place])
            command = commands[(number + step) % 5]
            done = machine.run(*command)
            copied = machine.work / place
            if copied.exists() and content_of(copied) != whole:
                failures.append(f"{place} is not the pack")
            # A pack removed between look-up and copy makes the copy fail.
            removed = "-o" in command and done.status == 3 and "was removed from the cache meanwhile" in done.stderr
            if done.status != 0 and not removed and (command[0], done.status) != ("rm", 3):
                failures.append(f"{command}: {done}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert audit_cache(machine.cache) in ([], [uri])
    assert leftovers(machine.cache) == []
