"""A command ended by any signal at any moment leaves no half pack visible, and the next command works."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from audit import audit_artifact, audit_cache, leftovers, unfinished
from examples import LARGE, content_of, seed_pack, write_contract
from faults import holding, holding_body, nth, where
from forks import ForkedMachine, Forks
from machine import Machine, Started, without_first_contact
from plain_target import Layout, Repository
from relay import Relay, Rule

from registry2 import RegistryServer

PROMPT = 10.0  # seconds from Ctrl-C to the prompt, also when a registry stalls; two on a machine that is not loaded
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
SMALL = {"index.bin": LARGE[:1000], "sub/text": b"text\n"}
MANY = {f"sub {number % 7}/{number}.txt": b"%d\n" % number for number in range(400)} | {"large.bin": LARGE[: 2 << 20]}


class Maker(NamedTuple):
    """A machine with a small pack, and the number of requests that its push and a pull make."""

    machine: Machine
    uri: str
    server: RegistryServer
    repository: Repository
    pushing: int
    pulling: int


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory, registry: RegistryServer, forks: Forks) -> Maker:
    folder = tmp_path_factory.mktemp("maker")
    machine, repository = ForkedMachine(forks, folder / "maker"), Repository(registry)
    uri = seed_pack(machine, files=SMALL)
    with Relay(registry.address) as relay:
        location = repository.through(relay.address)
        machine.succeed("push", uri, registry=location)
        pushing = len(relay.seen())
        ForkedMachine(forks, folder / "user", location).succeed("pull", uri)
        return Maker(machine, uri, registry, repository, pushing, len(relay.seen()) - pushing)


def until(moment: Callable[[], bool], started: Started) -> bool:
    """Wait until moment returns True or the command ends; return whether moment did."""
    while started.running:
        if moment():
            return True
        time.sleep(0.0005)
    return False


def count(folder: Path, pattern: str = "**/*") -> int:
    """Return how many paths below folder match. Other processes may make and remove them meanwhile."""
    try:
        return sum(1 for _ in folder.glob(pattern))
    except OSError:
        return 0


def has_open(pid: int, folder: Path) -> bool:
    """Whether a process has a file below folder open."""
    with suppress(OSError):  # the process has ended, or the file is closed by now
        descriptors = Path(f"/proc/{pid}/fd").iterdir()
        return any(os.readlink(descriptor).startswith(f"{folder}/") for descriptor in descriptors)
    return False


def test_a_push_killed_at_a_request_leaves_no_tag_or_a_whole_pack(maker: Maker) -> None:
    assert maker.pushing > 15
    # The requests for blobs are alike, so every third of them; then each of the last six, which make the tag.
    for number in sorted({*range(0, maker.pushing, 3), *range(maker.pushing - 6, maker.pushing)}):
        repository = Repository(maker.server)
        with Relay(maker.server.address) as relay:
            hold = relay.hold()
            relay.rule = nth(number, holding(hold))
            started = maker.machine.start("push", maker.uri, registry=repository.through(relay.address))
            hold.until_reached()
            assert started.end_with(signal.SIGKILL).status == -signal.SIGKILL
        audit_artifact(repository, maker.uri)
        maker.machine.succeed("push", maker.uri, registry=repository.location)
        assert audit_artifact(repository, maker.uri) is not None


def test_a_pull_killed_at_any_request_leaves_nothing_visible(maker: Maker, tmp_path: Path, forks: Forks) -> None:
    assert maker.pulling > 3
    user = ForkedMachine(forks, tmp_path / "user")
    moments: list[Callable[..., Rule]] = [holding, holding_body]
    for number in range(1, maker.pulling):
        with Relay(maker.server.address) as relay:
            hold = relay.hold()
            relay.rule = nth(number, moments[number % 2](hold))
            started = user.start("pull", maker.uri, registry=maker.repository.through(relay.address))
            hold.until_reached()
            started.end_with(signal.SIGKILL)
        assert audit_cache(user.cache) == []
    assert leftovers(user.cache) != []
    user.succeed("pull", maker.uri, registry=maker.repository.location)
    assert audit_cache(user.cache) == [maker.uri]
    assert leftovers(user.cache) == []


@pytest.mark.parametrize(
    ("number", "command", "method", "path", "moment"),
    [
        (signal.SIGINT, "push", "GET", "/manifests/ctx-", holding),
        (signal.SIGINT, "push", "HEAD", "/blobs/", holding),
        (signal.SIGINT, "push", "POST", "/blobs/uploads/", holding),
        (signal.SIGINT, "push", "PUT", "/blobs/uploads/", holding),
        (signal.SIGINT, "push", "PUT", "/manifests/ctx-", holding),
        (signal.SIGINT, "pull", "GET", "/manifests/ctx-", holding),
        (signal.SIGINT, "pull", "GET", "/manifests/ctx-", holding_body),
        (signal.SIGINT, "pull", "GET", "/blobs/", holding),
        (signal.SIGINT, "pull", "GET", "/blobs/", holding_body),
        (signal.SIGINT, "inspect", "GET", "/blobs/", holding),
        (signal.SIGINT, "run", "GET", "/manifests/ctx-", holding),
        (signal.SIGTERM, "push", "PUT", "/blobs/uploads/", holding),
        (signal.SIGTERM, "pull", "GET", "/blobs/", holding_body),
        (signal.SIGTERM, "run", "GET", "/manifests/ctx-", holding),
    ],
)
def test_a_command_is_interrupted_at_once_while_the_registry_stalls(
    maker: Maker,
    tmp_path: Path,
    number: signal.Signals,
    command: str,
    method: str,
    path: str,
    moment: Callable[..., Rule],
    forks: Forks,
) -> None:
    repository = maker.repository if command != "push" else Repository(maker.server)
    machine = maker.machine if command == "push" else ForkedMachine(forks, tmp_path / "user")
    with Relay(maker.server.address) as relay:
        hold = relay.hold()
        relay.rule = where(moment(hold), method=method, path=path)
        arguments = [command, maker.uri]
        if command == "run":
            write_contract(machine.work)
            arguments = ["run", "--", "touch", "computed"]
        started = machine.start(*arguments, registry=repository.through(relay.address))
        hold.until_reached()
        done = started.end_with(number)
    assert (done.status, done.stdout) == (STATUS[number], "")
    assert done.seconds < PROMPT
    said = without_first_contact(done.stderr)
    assert said == ("\nctxpack: interrupted\n" if number == signal.SIGINT else "")
    assert leftovers(machine.cache) == []
    assert audit_cache(machine.cache) == ([maker.uri] if command == "push" else [])
    assert not (machine.work / "computed").exists()
    if command == "push":
        audit_artifact(repository, maker.uri)


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "as the staging folder appears": lambda cache: count(cache / "v1/staging", "*") > 0,
    "as the first file is there": lambda cache: count(cache / "v1/staging", "*/artifacts/**/*") > 0,
    "among the files": lambda cache: count(cache / "v1/staging", "*/artifacts/**/*") > 150,
    "after the last file": lambda cache: count(cache / "v1/staging", "*/manifest.json") > 0,
    "as the pack appears": lambda cache: count(cache / "v1/packs", "*") > 0,
}


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("seed", signal.SIGKILL),
        ("seed", signal.SIGINT),
        ("pull", signal.SIGKILL),
        ("pull", signal.SIGTERM),
        ("run", signal.SIGKILL),
        ("run", signal.SIGINT),
    ],
)
def test_a_command_ended_while_it_writes_leaves_a_whole_pack_or_none(
    tmp_path: Path, command: str, number: signal.Signals, forks: Forks
) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    uri = seed_pack(machine, files=MANY)
    machine.succeed("push", uri)
    machine.succeed("rm", uri)
    arguments = {"seed": ["seed"], "pull": ["pull", uri], "run": ["run"]}[command]
    reached = 0
    for moment in MOMENTS.values():
        started = machine.start(*arguments)
        came = until(lambda moment=moment: moment(machine.cache), started)  # type: ignore[misc]
        reached += came
        done = started.end_with(number) if came else started.finish()
        assert done.status in (0, STATUS.get(number, -number))
        found = audit_cache(machine.cache)
        assert found in ([], [uri])
        if done.status == 0:
            assert found == [uri]
        if number != signal.SIGKILL:
            assert done.seconds < PROMPT
            assert unfinished(machine.cache) == []
        machine.run("rm", uri)
    assert reached >= 3
    machine.succeed(*arguments)
    assert audit_cache(machine.cache) == [uri]
    assert leftovers(machine.cache) == []


def test_a_push_into_a_layout_killed_in_the_middle_leaves_no_tag_or_a_whole_pack(tmp_path: Path, forks: Forks) -> None:
    layout = Layout(tmp_path / "layout")
    machine = ForkedMachine(forks, tmp_path / "machine", layout.location)
    uri = seed_pack(machine, files=MANY)
    for blobs in range(6):
        started = machine.start("push", uri)
        until(lambda blobs=blobs: count(layout.folder / "blobs", "sha256/*") >= blobs, started)  # type: ignore[misc]
        started.end_with(signal.SIGKILL)
        audit_artifact(layout, uri)
    machine.succeed("push", uri)
    assert audit_artifact(layout, uri) is not None


@pytest.mark.parametrize("number", [signal.SIGKILL, *STATUS])
def test_outputs_are_placed_whole_or_not_at_all(tmp_path: Path, number: signal.Signals, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    uri = seed_pack(machine, files=MANY)
    whole = content_of(machine.work / "processed_data")
    got = machine.work / "got"
    got.mkdir()
    for files in (1, 100, 300):
        started = machine.start("pull", uri, "-o", "got")
        until(lambda files=files: count(machine.work, ".got.*/**/*") >= files, started)  # type: ignore[misc]
        done = started.end_with(number)
        assert content_of(got) in ({}, whole)
        if number != signal.SIGKILL:
            assert done.status in (0, STATUS[number])
            assert [path for path in machine.work.iterdir() if path.name.startswith(".got.")] == []
    machine.succeed("pull", uri, "-o", "got")
    assert content_of(got) == whole


@pytest.mark.parametrize("number", [signal.SIGKILL, *STATUS])
def test_a_run_ended_while_its_command_runs_seeds_nothing(tmp_path: Path, number: signal.Signals, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    write_contract(machine.work)
    slow = "mkdir -p processed_data; touch processed_data/half; exec sleep 60"
    started = machine.start("run", "--", "sh", "-c", slow)
    assert until((machine.work / "processed_data" / "half").exists, started)
    done = started.end_with(number)
    assert (done.status, done.stdout) == (STATUS.get(number, -number), "")
    assert audit_cache(machine.cache) == []
    quick = "mkdir processed_data; echo whole > processed_data/half"
    assert machine.succeed("run", "--", "sh", "-c", quick).startswith("Seeded: ")
    assert leftovers(machine.cache) == []


def test_terminating_a_run_ends_its_command_too(tmp_path: Path, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    write_contract(machine.work)
    started = machine.start("run", "--", "sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 60")
    assert until((machine.work / "pid").exists, started)
    os.kill(started.pid, signal.SIGTERM)
    assert started.finish().status == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int((machine.work / "pid").read_text()), 0)


@pytest.mark.parametrize("number", STATUS)
def test_a_command_that_waits_for_another_process_can_be_interrupted(
    maker: Maker, tmp_path: Path, number: signal.Signals, forks: Forks
) -> None:
    user = ForkedMachine(forks, tmp_path / "user")
    with Relay(maker.server.address) as relay:
        hold = relay.hold()
        relay.rule = where(holding(hold), path="/blobs/")
        location = maker.repository.through(relay.address)
        working = user.start("pull", maker.uri, registry=location)
        hold.until_reached()
        waiting = user.start("pull", maker.uri, registry=location)
        assert until(lambda: has_open(waiting.pid, user.cache / "v1" / "locks"), waiting)
        done = waiting.end_with(number)
        assert done.status == STATUS[number]
        assert done.seconds < PROMPT
        hold.release()
        assert working.finish().status == 0
    assert audit_cache(user.cache) == [maker.uri]
    assert leftovers(user.cache) == []
