"""Whose claims count: the verbs of trust as a user meets them. (docs/trust.md is run as well.)"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from jsonschema import Draft202012Validator
from machine import Machine
from plain_target import KINDS, PlainTarget, open_target
from project import Project

from ctxpack_pantry import schema

PASSWORD = {"CTXPACK_KEY_PASSWORD": "of all"}


class User:
    """Somebody with a machine, a project like everybody's, and a key."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        self.project = Project(machine)
        self.key, self.pub = machine.work / f"{name}.key", machine.work / f"{name}.pub"
        machine.succeed("keygen", name)

    def __call__(self, *arguments: str | Path) -> str:
        return self.machine.succeed(*arguments)

    def status(self, *arguments: str | Path) -> int:
        return self.machine.run(*arguments).status

    def document(self, *arguments: str | Path) -> Any:
        """Return the document that a command prints, which its schema must accept."""
        document = json.loads(self.machine.run(*arguments, "--json").stdout)
        Draft202012Validator(schema(document["schema"].split("/")[1])).validate(document)
        return document

    def publish(self) -> str:
        """Run, push and sign; return the URI."""
        self("run", "--push", "--sign", "--key", self.key)
        return self.project.uri()

    def trusts(self, *others: User) -> None:
        for other in others:
            self("trust", "add", other.pub, "--owner", other.name)

    @property
    def key_id(self) -> str:
        self.machine.run("trust", "add", self.pub, "--owner", self.name)
        return str(self.document("trust", "show", self.name)["key_id"])


@pytest.fixture
def target(request: pytest.FixtureRequest) -> PlainTarget:
    """A layout, and for tests that say so each kind of target."""
    return open_target(getattr(request, "param", "layout"), request)


of_each_kind = pytest.mark.parametrize("target", KINDS, indirect=True)


@pytest.fixture
def user(tmp_path: Path, target: PlainTarget, forks: Forks) -> Callable[[str], User]:
    def make(name: str) -> User:
        machine = ForkedMachine(forks, tmp_path / name, target.location, target.environment | PASSWORD)
        return User(machine, name)

    return make


@of_each_kind
def test_two_owners_are_required_and_each_is_shown(user: Callable[[str], User], target: PlainTarget) -> None:
    ci, nightly, laptop = user("ci"), user("nightly"), user("laptop")
    uri = ci.publish()
    laptop.trusts(ci, nightly)
    laptop("trust", "mode", "signed", "--threshold", "2")
    assert laptop.status("pull", uri) == laptop.status("trust", "check", uri) == 7
    nightly("run", "--recompute", "--push", "--sign", "--key", nightly.key)
    verdict = laptop.document("trust", "check", uri)["verdict"]
    found = [(one["name"], one["kind"], one["counts"]) for one in verdict["claims"]]
    assert (verdict["admitted"], sorted(found)) == (True, [("ci", "run", True), ("nightly", "rebuild", True)])
    assert laptop.document("inspect", uri)["verdict"] == verdict
    assert not list(laptop.machine.cache.rglob("manifest.json"))
    laptop("pull", uri)
    assert "admitted (signed, 2 owners by default): signed by ci, nightly" in laptop("inspect", uri)
    commands = [shlex.split(one["cosign"]) for one in verdict["claims"]]
    if target.location.startswith("oci:"):
        assert commands == [[], []]
        return
    for one, command in zip(verdict["claims"], commands, strict=True):
        where = f"{target.location}@{verdict['image']}"
        about = ["--insecure-ignore-tlog=true", "--allow-http-registry", "-a", f"contract={uri}", where]
        assert command == ["cosign", "verify", "--key", f"{one['name']}.pub", *about]


def test_the_key_of_a_believed_pack_is_taken_from_its_claims(user: Callable[[str], User]) -> None:
    ci, other, laptop = user("ci"), user("other"), user("laptop")
    uri = ci.publish()
    added = laptop.document("trust", "add", "--from", uri, "--owner", "team", "--name", "ci")
    assert (added["key_id"], added["seen_on"], added["signers"][0]["owner"]) == (ci.key_id, uri, "team")
    laptop("trust", "mode", "signed")
    laptop("pull", uri)
    other("run", "--recompute", "--push", "--sign", "--key", other.key)
    refused = laptop.machine.run("trust", "add", "--from", uri, "--owner", "x")
    assert refused.status == 2
    assert "2 keys signed this pack" in refused.stderr
    assert ci.key_id in refused.stderr
    digits = other.key_id[:16]
    assert laptop.document("trust", "add", "--from", uri, "--owner", "x", "--key-id", digits)["added"] == "x"


@of_each_kind
def test_a_mode_holds_for_its_scope_alone(user: Callable[[str], User], target: PlainTarget) -> None:
    ci, laptop = user("ci"), user("laptop")
    ci("run", "--push")
    uri = ci.project.uri()
    above = target.location.rpartition("/")[0]
    laptop("trust", "mode", "signed", "--scope", f"{above}/another")
    assert laptop.status("trust", "check", uri) == 0
    laptop("trust", "mode", "signed", "--scope", above)
    assert laptop.status("trust", "check", uri) == laptop.status("pull", uri) == 7
    laptop("trust", "mode", "accept-any", "--scope", target.location)
    laptop("pull", uri)
    laptop("trust", "remove", "--scope", target.location)
    assert laptop.status("pull", uri) == 7  # also the cached one
    assert laptop.document("trust", "list")["scopes"][0]["mode"] == "signed"


def test_a_stolen_key_is_denied_with_all_that_came_of_it(user: Callable[[str], User]) -> None:
    thief, laptop = user("thief"), user("laptop")
    uri = thief.publish()
    laptop.trusts(thief)
    laptop("trust", "mode", "signed")
    laptop("pull", uri, "-o", "placed")
    laptop.project.declare(inputs=[{"name": "docs", "uri": uri}], command=["sh", "-c", "mkdir out; echo mine > out/r"])
    laptop("run")
    derived = laptop.project.uri()
    denied = laptop.document("trust", "deny", "thief", "--dry-run")
    assert (denied["kind"], denied["changed"], denied["signers"]) == ("key", False, ["thief"])
    laptop("pull", uri)
    denied = laptop.document("trust", "deny", thief.pub, "--show-affected")
    signed, made = denied["affected"]["packs"]
    assert (signed["uri"], signed["why"], signed["refused"]) == (uri, "signed", True)
    assert signed["places"] == [str((laptop.machine.work / "placed").resolve())]
    assert (made["uri"], made["why"], made["through"]) == (derived, "input", uri)
    assert laptop.status("pull", uri) == 7
    assert laptop.status("id") == 7  # it has that pack as an input
    laptop("trust", "deny", "thief", "--undo")
    laptop("pull", uri)


def test_outputs_and_image_manifests_are_denied_whoever_made_them(user: Callable[[str], User]) -> None:
    ci, laptop = user("ci"), user("laptop")
    uri = ci.publish()
    inspected = laptop.document("inspect", uri)
    laptop.trusts(ci)
    for digest, option in ((inspected["outputs"]["digest"], "--outputs"), (inspected["image"]["digest"], "--image")):
        laptop("trust", "deny", digest, option)
        assert laptop.status("pull", uri) == laptop.status("trust", "check", uri) == 7
        ci("trust", "deny", digest)  # its cache knows what it is of
        assert ci.status("pull", uri) == 7
        assert ci.status("inspect", uri) == 0
        for one in (laptop, ci):
            one("trust", "deny", digest, option, "--undo")
            one("pull", uri)


def test_a_cached_pack_is_inspected_when_the_registry_is_gone(user: Callable[[str], User]) -> None:
    ci, laptop = user("ci"), user("laptop")
    uri = ci.publish()
    laptop.trusts(ci)
    laptop("trust", "mode", "signed")
    laptop("pull", uri)
    away = {"CTXPACK_REGISTRY": "127.0.0.1:1/nothing/here"}
    laptop.machine.environment |= away
    document = laptop.document("inspect", uri)
    assert document["found_in"].startswith(str(laptop.machine.cache))
    assert [one["name"] for one in document["verdict"]["claims"]] == ["ci"]
    ci.machine.environment |= away
    assert ci.document("inspect", uri)["verdict"]["by"] == ["own"]


def test_a_claim_of_nobody_known_is_shown_and_counts_nothing(user: Callable[[str], User]) -> None:
    stranger, laptop = user("stranger"), user("laptop")
    uri = stranger.publish()
    laptop("trust", "mode", "signed")
    text = laptop("inspect", uri)
    assert f"{stranger.key_id[:16]}  run, does not count: you do not trust this key" in text
    assert "not admitted (signed by default)" in text
    assert laptop.status("pull", uri) == 7


def test_a_variable_that_is_not_set_names_no_scope(user: Callable[[str], User]) -> None:
    me = user("ann")
    me("trust", "mode", "signed")
    before = me.document("trust", "list")
    for command in ("mode", "accept-any"), ("remove",), ("add", me.pub, "--owner", "ann"):
        refused = me.machine.run("trust", *command, "--scope", "")
        assert (refused.status, refused.stdout) == (2, "")
        assert "not a scope: " in refused.stderr
    assert me.document("trust", "list") == before
    refused = me.machine.run("trust", "mode", "signed", "--threshold", "1001")
    assert (refused.status, "a threshold is 1 to 1000: got 1001" in refused.stderr) == (2, True)


def test_a_dry_run_denies_nothing(user: Callable[[str], User]) -> None:
    me = user("ann")
    uri = f"ctx://sha256:{'0' * 64}"
    assert me.document("trust", "deny", uri, "--dry-run")["denied"] is False
    assert me.document("trust", "list")["denied"]["uris"] == []
    assert me.document("trust", "deny", uri)["denied"] is True
    assert me.document("trust", "deny", uri, "--undo", "--dry-run")["denied"] is True
