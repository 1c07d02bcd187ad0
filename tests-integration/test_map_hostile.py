"""`ctxpack map` when something goes wrong: kills, changes meanwhile, damage, races, and a registry that lies."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from audit import audit_cache, digest_of
from faults import flipping, where
from forks import ForkedMachine, Forks
from machine import LIMIT, Machine, Started
from mapproject import ITEM, MapProject, counts
from plain_target import MANIFEST_TYPE, Repository
from relay import Answer, Forward, Relay, Request

from ctxpack_identity import PolicyRefused
from ctxpack_pantry import Pantry, load_settings
from ctxpack_pantry.policy import Candidate
from registry2 import RegistryServer

TEN = {f"{number % 3}/{number}.txt": f"text {number}" for number in range(10)}
OUTPUTS: dict[str, bytes | None] = {
    name.replace(".txt", ".out"): text.upper().encode() for name, text in sorted(TEN.items())
}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}


@pytest.fixture
def machine(forks: Forks, tmp_path: Path) -> ForkedMachine:
    return ForkedMachine(forks, tmp_path / "machine")


def lines(project: MapProject, name: str = "ran") -> list[str]:
    path = project.folder / name
    return path.read_text().splitlines() if path.exists() else []


def wait_for(moment: Callable[[], bool], started: Started | None = None) -> bool:
    """Wait until moment returns True; return False when the command ends before."""
    until = time.monotonic() + LIMIT
    while not moment():
        if started is not None and not started.running:
            return moment()
        assert time.monotonic() < until
        time.sleep(0.001)
    return True


def is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


# ---- kills

SLOW = 'sleep 0.02\nprintf "%s\\n" "$1" >> ended\n' + ITEM
SIXTY = {f"{number}.txt": f"text {number}" for number in range(60)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the outputs of sixty items."""
    project = MapProject(Machine(tmp_path_factory.mktemp("undisturbed")), SIXTY, item=SLOW)
    return project.digest(project.map("--jobs", "8")["uri"])


@pytest.mark.parametrize(("number", "kills"), [(signal.SIGKILL, 8), (signal.SIGINT, 2), (signal.SIGTERM, 2)])
def test_a_map_that_is_ended_again_and_again_makes_only_what_was_not_finished(
    tmp_path: Path, undisturbed: str, number: signal.Signals, kills: int
) -> None:
    project = MapProject(Machine(tmp_path / "machine"), SIXTY, item=SLOW)
    machine, killed = project.machine, 0
    for moment in sorted(random.Random(number).sample(range(1, 55), kills)):
        started = machine.start("map", "--jobs", "2", "--json")
        if not wait_for(lambda moment=moment: len(lines(project)) >= moment, started):  # type: ignore[misc]
            break
        os.kill(started.pid, number)
        done = started.finish()
        assert done.status in (STATUS[number], 0)
        killed += done.status != 0
        assert audit_cache(machine.cache) == [] or done.status == 0
    document = project.map()
    assert document["hit"] or document["finished"] > 0
    # Of what ran, only what was in flight at a kill ran again.
    assert len(lines(project)) <= 60 + 4 * killed
    assert set(lines(project)) == {f"in/{name}" for name in SIXTY}
    assert project.digest(document["uri"]) == undisturbed
    assert list(machine.cache.glob("v1/items/*")) == []
    assert list(machine.cache.glob("v1/staging/*")) == []


WAITING = "echo $$ >> pids\nif test ! -e go; then sleep 60 & echo $! >> pids; wait; fi\n" + ITEM


@pytest.mark.parametrize(
    ("number", "of_group"),
    [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, True), (signal.SIGTERM, False)],
)
def test_the_commands_end_with_the_map(tmp_path: Path, number: signal.Signals, of_group: bool) -> None:
    project = MapProject(Machine(tmp_path / "machine"), TEN, item=WAITING)
    started = project.machine.start("map", "--jobs", "2")
    wait_for(lambda: len(lines(project, "pids")) == 4, started)
    (os.killpg if of_group else os.kill)(started.pid, number)
    done = started.finish()
    assert (done.status, done.stdout) == (STATUS[number], "")
    wait_for(lambda: not any(map(is_alive, lines(project, "pids"))))
    project.write({"go": ""})
    assert project.map()["made"] == 10
    assert project.outputs() == OUTPUTS


BATCH = [sys.executable, "src/batch.py", "{batch}"]
HALF = """
import json, os, sys, time
done = open(os.environ["CTXPACK_DONE"], "a")
open("pids", "a").write(f"{os.getpid()}\\n")
for number, line in enumerate(open(sys.argv[1])):
    job = json.loads(line)
    open(job["out"], "w").write(open(job["item"]).read().upper())
    print(job["item"], file=open("ran", "a"), flush=True)
    if number == 4 and not os.path.exists("go"):
        open("half", "w").close()
        time.sleep(60)
    done.write(job["id"] + "\\n"); done.flush()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_a_batch_has_named_is_kept_when_the_map_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    project = MapProject(Machine(tmp_path / "machine"), TEN, command=BATCH)
    project.write({"src/batch.py": HALF})
    started = project.machine.start("map", "--jobs", "1")
    journals = project.machine.home / ".local/state/ctxpack/items"

    def noted() -> int:
        return sum(path.read_bytes().count(b'"item"') for path in journals.glob("*.jsonl"))

    wait_for(lambda: noted() == 4, started)
    assert (project.folder / "half").exists()
    os.kill(started.pid, number)
    started.finish()
    wait_for(lambda: not any(map(is_alive, lines(project, "pids"))))
    project.made()
    project.write({"go": ""})
    assert counts(project.map()) == {"finished": 4, "made": 6}
    assert len(project.made()) == 6
    assert project.outputs() == OUTPUTS


# ---- what changes meanwhile

ONCE = "if mkdir once 2> /dev/null; then {}; fi\n" + ITEM


def test_what_the_items_share_is_touched_so_all_are_made_again(machine: ForkedMachine) -> None:
    project = MapProject(machine, TEN, item=ONCE.format("touch lock.txt"))
    done = project.call("map")
    assert done.status == 0, done.stderr
    assert "what the items share was touched meanwhile, so some are made again" in done.stderr
    assert Counter(project.made_names()) == Counter([*TEN] * 2)
    assert project.outputs() == OUTPUTS


@pytest.mark.parametrize(
    "change",
    [
        "echo x >> lock.txt",
        "touch src/new",
        "rm lock.txt",
        "cp lock.txt l; echo x > lock.txt; sleep 0.02; rm src/item.sh",
        "echo 1 > other",
    ],
)
@pytest.mark.parametrize("fails", ["", "; exit 1"])
def test_when_what_the_items_share_changes_nothing_is_kept(machine: ForkedMachine, change: str, fails: str) -> None:
    project = MapProject(machine, TEN, item=ONCE.format(change + fails))
    project.write({"other": "0"})
    project.go_over(inputs=[{"name": "docs", "path": "in"}, {"name": "other", "path": "other"}])
    assert project.call("map", "--jobs", "1").status == 2
    assert not (project.folder / "out").exists()
    assert audit_cache(machine.cache) == []
    project.made()
    project.write({"lock.txt": "numpy==2.0.0\n", "other": "0", "src/item.sh": ONCE.format(change + fails)})
    (project.folder / "src/new").unlink(missing_ok=True)
    assert counts(project.map()) == {"made": 10}
    assert project.outputs() == OUTPUTS


def test_what_changes_back_is_made_again(machine: ForkedMachine) -> None:
    back = "cp -p lock.txt kept; echo x > lock.txt; cp lock.txt seen; cp -p kept lock.txt"
    project = MapProject(machine, TEN, item=ONCE.format(back))
    done = project.call("map", "--jobs", "1", "--json")
    assert "some are made again" in done.stderr
    assert len(project.made()) == 20


def test_what_changes_at_every_look_is_an_error(machine: ForkedMachine) -> None:
    project = MapProject(machine, TEN, item="touch lock.txt\n" + ITEM)
    done = project.call("map", "--json")
    assert done.status == 2
    assert json.loads(done.stderr.splitlines()[-1])["code"] == "E_INPUT_CHANGED"
    assert len(project.made()) == 30
    assert audit_cache(machine.cache) == []


def test_an_item_that_is_added_meanwhile_is_not_in_this_pack(machine: ForkedMachine) -> None:
    project = MapProject(machine, TEN, item=ONCE.format("echo new > in/new.txt"))
    uri = project.uri()
    assert project.map()["uri"] == uri
    assert project.outputs() == OUTPUTS
    again = project.map()
    assert counts(again) == {"cached": 10, "made": 1}
    assert again["uri"] != uri


# ---- damage

PART = 'case "$1" in *bad.txt) test -e ok || exit 7;; esac\n' + ITEM


def broken(project: MapProject, path: Path, how: str) -> None:
    """Damage a result."""
    if how == "mode":
        path.chmod(0o755)
        return
    path.parent.chmod(0o755)
    path.chmod(0o644)
    if how == "bit":
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        return
    path.unlink()
    if how == "link":
        path.symlink_to(project.folder / "in/1/1.txt")
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
        (path / "x").symlink_to("y")


DAMAGE = ["bit", "gone", "link", "fifo", "folder", "mode"]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_finished_result_that_was_changed_is_made_again(machine: ForkedMachine, how: str) -> None:
    project = MapProject(machine, TEN | {"bad.txt": "bad"}, item=PART)
    project.fail()
    project.made()
    [result] = machine.cache.glob("v1/items/**/1/1.out")
    broken(project, result, how)
    project.write({"ok": ""})
    assert counts(project.map()) == {"finished": 9, "made": 2}
    assert project.made_names() == ["1/1.txt", "bad.txt"]
    assert project.outputs() == OUTPUTS | {"bad.out": b"BAD"}
    assert len(audit_cache(machine.cache)) == 1


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_result_in_a_cached_pack_is_made_again(machine: ForkedMachine, how: str) -> None:
    project = MapProject(machine, TEN)
    uri = project.map()["uri"]
    project.made()
    project.remove("out")
    project.write({"in/new.txt": "new"})
    broken(project, machine.cache / f"v1/packs/{uri[13:]}/artifacts/1/1.out", how)
    done = project.call("map", "--json")
    assert done.status == 0, done.stderr
    assert "the result of '1/1.txt' is damaged or gone, and is made again" in done.stderr
    assert counts(json.loads(done.stdout)) == {"cached": 9, "made": 2}
    assert project.made_names() == ["1/1.txt", "new.txt"]
    assert project.outputs() == OUTPUTS | {"new.out": b"NEW"}


@pytest.mark.parametrize("name", ["manifest.json", "files.jsonl", "inputs/docs.jsonl"])
def test_a_cached_pack_whose_listings_are_damaged_gives_nothing(machine: ForkedMachine, name: str) -> None:
    project = MapProject(machine, TEN)
    uri = project.map()["uri"]
    project.made()
    project.remove("out")
    project.write({"in/new.txt": "new"})
    broken(project, machine.cache / f"v1/packs/{uri[13:]}" / name, "bit")
    done = project.call("map", "--json")
    assert done.status == 0, done.stderr
    assert counts(json.loads(done.stdout)) == {"made": 11}
    assert project.outputs() == OUTPUTS | {"new.out": b"NEW"}


def lie(folder: Path, name: str, first: int) -> None:
    """Let a listing of a cached pack say that two files have each other's content, and the pack manifest agree."""
    listed = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    one, other = listed[first : first + 2]
    one["sha256"], other["sha256"] = other["sha256"], one["sha256"]
    data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in listed)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    [listing] = [listing for listing in manifest["listings"] if listing["path"] == name]
    listing |= {"digest": digest_of(data), "size": len(data)}
    for path, content in ((name, data), ("manifest.json", json.dumps(manifest, separators=(",", ":")).encode())):
        (folder / path).parent.chmod(0o755)
        (folder / path).chmod(0o644)
        (folder / path).write_bytes(content)


@pytest.mark.parametrize("name", ["files.jsonl", "inputs/docs.jsonl"])
@pytest.mark.parametrize("first", [0, 8])
def test_a_listing_that_lies_with_the_right_digest_gives_nothing(machine: ForkedMachine, name: str, first: int) -> None:
    project = MapProject(machine, TEN)
    uri = project.map()["uri"]
    project.made()
    project.remove("out")
    project.write({"in/new.txt": "new"})
    lie(machine.cache / f"v1/packs/{uri[13:]}", name, first)
    done = project.call("map", "--json")
    assert done.status == 0, done.stderr
    assert f"no items are taken from {uri}" in done.stderr
    assert counts(json.loads(done.stdout)) == {"made": 11}
    assert project.outputs() == OUTPUTS | {"new.out": b"NEW"}


def garbage(data: bytes) -> bytes:
    junk = b'\xff\0\n[]\nnull\n1\n"look"\n{}\n{"look":1}\n{"at":["x",1],"item":1,"result":2}\n' + b"[" * 100_000 + b"\n"
    return junk + data + junk


def cut(data: bytes) -> bytes:
    return data[:-20]


def other_results(data: bytes) -> bytes:
    return b"".join(
        line.replace(b'"result":"', b'"result":"' + b"0" * 64 + b'","x":"') + b"\n" for line in data.splitlines()
    )


def negative(data: bytes) -> bytes:
    return (
        data.replace(b",0]", b",-1]")
        .replace(b'",1]', b'","../1"]')
        .replace(b",2]", b",1e400]")
        .replace(b",3]", b",true]")
    )


def without_looks(data: bytes) -> bytes:
    return b"\n".join(line for line in data.splitlines() if b"look" not in line)


@pytest.mark.parametrize(
    ("change", "most"),
    [(garbage, 1), (cut, 12), (other_results, 11), (negative, 5), (without_looks, 11), (lambda data: b"", 11)],
)
def test_a_journal_with_garbage_costs_time_only(
    machine: ForkedMachine, change: Callable[[bytes], bytes], most: int
) -> None:
    project = MapProject(machine, TEN | {"bad.txt": "bad"}, item=PART)
    project.fail()
    project.made()
    project.write({"ok": ""})
    [journal] = (machine.home / ".local/state/ctxpack/items").glob("*.jsonl")
    journal.write_bytes(change(journal.read_bytes()))
    project.map()
    assert "bad.txt" in project.made_names()
    assert project.outputs() == OUTPUTS | {"bad.out": b"BAD"}
    assert not journal.exists()


def test_a_result_that_the_journal_does_not_name_does_not_exist(machine: ForkedMachine) -> None:
    """Else whoever can write into a shared cache could give results to its other users."""
    project = MapProject(machine, TEN | {"bad.txt": "bad"}, item=PART)
    project.fail()
    project.made()
    shutil.rmtree(machine.home / ".local/state")
    for result in machine.cache.glob("v1/items/**/*.out"):
        result.write_text("planted")
    project.write({"ok": ""})
    assert counts(project.map()) == {"made": 11}
    assert project.outputs() == OUTPUTS | {"bad.out": b"BAD"}


# ---- two at once


def test_of_two_maps_of_one_contract_one_waits(machine: ForkedMachine) -> None:
    project = MapProject(machine, SIXTY, item="sleep 0.005\n" + ITEM)
    first, second = machine.forks.together(machine.call("map", "--json"), machine.call("map", "--json"))
    assert (first.status, second.status) == (0, 0), first.stderr + second.stderr
    found = [json.loads(done.stdout) for done in (first, second)]
    assert sorted(one["hit"] for one in found) == [False, True]
    assert len(project.made()) == 60


def test_two_maps_of_other_files_share_what_is_alike(machine: ForkedMachine, tmp_path: Path) -> None:
    one = MapProject(machine, TEN | {"one.txt": "one"}, item="sleep 0.01\n" + ITEM, folder=tmp_path / "one")
    two = MapProject(machine, TEN | {"two.txt": "two"}, item="sleep 0.01\n" + ITEM, folder=tmp_path / "two")
    ends = machine.forks.together(*(machine.call("map", "--json", folder=each.folder) for each in (one, two)))
    assert [done.status for done in ends] == [0, 0], ends
    assert sorted(json.loads(done.stdout)["made"] for done in ends) == [1, 11]
    assert len(one.made() + two.made()) == 12
    assert one.outputs() == OUTPUTS | {"one.out": b"ONE"}
    assert two.outputs() == OUTPUTS | {"two.out": b"TWO"}


# ---- a registry that lies


class Pushed:
    """A pack of ten items on a registry; another machine, whose tree differs in one item, maps through a relay."""

    def __init__(self, tmp_path: Path, server: RegistryServer, relay: Relay, forks: Forks) -> None:
        self.repository = Repository(server)
        self.maker = MapProject(ForkedMachine(forks, tmp_path / "maker", self.repository.location), TEN)
        document = self.maker.map("--push")
        self.uri, self.image = document["uri"], document["pushed"]["image"]
        self.relay = relay
        self.user_folder, self.forks = tmp_path / "user", forks

    def kin(self) -> tuple[str, dict[str, Any]]:
        """Return the tag of the list of kin, and the list."""
        tags = json.loads(self.repository._get("tags/list") or b"")["tags"]
        [tag] = [tag for tag in tags if tag.startswith("ctx-kin-")]
        manifest = json.loads(self.repository.manifest(tag) or b"")
        return tag, json.loads(self.repository.blob(manifest["layers"][0]["digest"]))

    def put_kin(self, data: bytes) -> None:
        tag, _ = self.kin()
        manifest = json.loads(self.repository.manifest(tag) or b"")
        manifest["layers"][0] |= {"digest": digest_of(data), "size": len(data)}
        self.repository.put_blob(digest_of(data), data)
        self.repository.put_manifest(tag, json.dumps(manifest).encode())

    def check(self, made: int) -> str:
        """Let the other machine map; return what it said. made: how many items must be made; -1 for any number."""
        user = MapProject(ForkedMachine(self.forks, self.user_folder, self.repository.through(self.relay.address)), TEN)
        user.write({"in/0/0.txt": "other"})
        done = user.call("map", "--json")
        assert done.status == 0, done.stderr
        document = json.loads(done.stdout)
        assert made in (-1, document["made"]), done.stderr
        assert document["made"] + document["fetched"] == 10
        assert len(user.made()) == document["made"]
        assert user.outputs() == OUTPUTS | {"0/0.out": b"OTHER"}
        assert audit_cache(user.machine.cache) == [document["uri"]]
        return done.stderr


@pytest.fixture
def pushed(tmp_path: Path, registry: RegistryServer, forks: Forks) -> Iterator[Pushed]:
    with Relay(registry.address) as relay:
        yield Pushed(tmp_path, registry, relay, forks)


def test_an_honest_registry_saves_nine(pushed: Pushed) -> None:
    pushed.check(1)


def kin_entry(uri: str, image: str) -> dict[str, str]:
    return {"image": image, "pushed": "2026-01-01T00:00:00Z", "uri": uri}


NOBODY = "ctx://sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("packs", "made"),
    [
        ([], 10),
        ([(NOBODY, "")], 10),
        ([(NOBODY, ""), ("URI", "")], 1),
        ([("URI", "sha256:" + "0" * 64)], 1),
        ([("URI", "")] * 2, 10),  # one entry for each URI
        ([("URI", "")] * 17, 10),
        ([("OTHER", "IMAGE"), ("URI", "")], 1),
        ([("OTHER", "")], 10),
    ],
)
def test_a_list_of_kin_that_lies_costs_time_only(pushed: Pushed, packs: list[tuple[str, str]], made: int) -> None:
    pushed.maker.write({"src/item.sh": ITEM + "# other\n"})
    other = pushed.maker.map("--push")["uri"]
    names = {"URI": pushed.uri, "OTHER": other}
    entries = [kin_entry(names.get(uri, uri), image or pushed.image) for uri, image in packs]
    for entry in entries:
        entry["image"] = entry["image"].replace("IMAGE", pushed.image)
    pushed.put_kin(json.dumps({"packs": entries, "schema": "ctxpack/kin-list/v1"}, separators=(",", ":")).encode())
    pushed.check(made)


@pytest.mark.parametrize("first", [0, 8])
def test_a_pack_of_a_registry_whose_listing_lies_costs_time_only(pushed: Pushed, tmp_path: Path, first: int) -> None:
    """A newer pack says that it has all items, and two of them have each other's content."""
    machine = ForkedMachine(pushed.forks, tmp_path / "liar", pushed.repository.location)
    liar = MapProject(machine, TEN | {"more.txt": "more"})
    uri = liar.map("--offline")["uri"]
    lie(machine.cache / f"v1/packs/{uri[13:]}", "inputs/docs.jsonl", first)
    assert liar.call("push", uri).status == 0
    assert [entry["uri"] for entry in pushed.kin()[1]["packs"]] == [uri, pushed.uri]
    assert f"no items are taken from {uri}" in pushed.check(1)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 50_000, b"\xff", b'{"packs":[{"uri":"x"}]}', b" " * (1 << 17)])
def test_garbage_in_place_of_the_list_of_kin_costs_time_only(pushed: Pushed, data: bytes) -> None:
    pushed.put_kin(data)
    pushed.check(10)


def test_the_tag_of_a_pack_that_names_another_one_costs_time_only(pushed: Pushed) -> None:
    pushed.maker.write({"src/item.sh": ITEM + "# other\n"})
    other = pushed.maker.map("--push")["uri"]
    theirs = pushed.repository.manifest("ctx-" + other[13:])
    pushed.repository.put_manifest("ctx-" + pushed.uri[13:], theirs or b"", MANIFEST_TYPE)
    pushed.put_kin(
        json.dumps(
            {"packs": [kin_entry(pushed.uri, pushed.image)], "schema": "ctxpack/kin-list/v1"}, separators=(",", ":")
        ).encode()
    )
    assert f"no items are taken from {pushed.uri}" in pushed.check(10)


def test_missing_tags_and_layers_cost_time_only(pushed: Pushed) -> None:
    pushed.relay.rule = where(lambda request, forward: Answer(404), path="/manifests/ctx-[0-9a-f]{64}")
    pushed.check(10)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("position", [20, -20])
def test_damaged_layers_cost_time_only(pushed: Pushed, layer: int, position: int) -> None:
    manifest = json.loads(pushed.repository.manifest("ctx-" + pushed.uri[13:]) or b"")
    digest = manifest["layers"][layer]["digest"]
    pushed.relay.rule = where(flipping(position), method="GET", path=digest)
    assert f"no items are taken from {pushed.uri}" in pushed.check(10)


def test_a_registry_that_does_not_answer_is_an_error_and_offline_goes_on(pushed: Pushed) -> None:
    def refuse(request: Request, forward: Forward) -> Answer:
        return Answer(401, {"WWW-Authenticate": "Basic realm=x"})

    location = pushed.repository.through(pushed.relay.address)
    user = MapProject(ForkedMachine(pushed.forks, pushed.user_folder, location), TEN)
    user.write({"in/0/0.txt": "other"})
    pushed.relay.rule = where(refuse, path="/(manifests|blobs)/")
    assert user.call("map").status == 4
    assert user.made() == []
    assert counts(user.map("--offline")) == {"made": 10}


def test_packs_that_a_policy_refuses_give_nothing(
    pushed: Pushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = MapProject(Machine(pushed.user_folder), TEN)
    user.write({"in/0/0.txt": "other"})
    for name, value in user.machine.environment.items():
        if name.startswith("XDG_") or name in ("HOME", "CTXPACK_SETTLE"):
            monkeypatch.setenv(name, value)
    said: list[str] = []

    def refuse(candidate: Candidate) -> None:
        if candidate.uri == pushed.uri:
            raise PolicyRefused("not by us", where=candidate.uri)

    contract = str(user.folder / "contract.json")
    settings = load_settings(cache=str(user.machine.cache), registry=pushed.repository.location)
    for text in ("other", "another"):
        user.write({"in/0/0.txt": text})
        if text == "another":  # now of a pack that is in the cache
            user.machine.succeed("pull", pushed.uri, registry=pushed.repository.location)
        with Pantry(settings, notice=said.append, policy=refuse) as pantry:
            mapped = pantry.map(contract, command=(), force=True)
        assert (mapped.made, mapped.cached, mapped.fetched) == (10, 0, 0)
        assert any(text.startswith(f"no items are taken from {pushed.uri}: ") for text in said)
        said.clear()
        user.machine.succeed("rm", mapped.uri)
    with Pantry(settings, notice=said.append) as pantry:
        user.write({"in/0/0.txt": "a third"})
        assert pantry.map(contract, force=True).cached == 9
