"""Whose packs are used: what a policy refuses is a miss in `run`, and exit 7 in `pull`, before a layer is fetched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from machine import Finished
from plain_target import PlainTarget, open_target, tag_of
from project import Project
from relay import Relay
from typist import Typist

FORGED = "forged\n"
OWN = "one\n"


class User:
    """Somebody with a project like everybody's, a machine, and a key by their name."""

    def __init__(self, folder: Path, target: PlainTarget, forks: Forks, name: str) -> None:
        self.name, self.target = name, target
        environment = target.environment | {"CTXPACK_KEY_PASSWORD": f"the password of {name}"}
        self.machine = ForkedMachine(forks, folder / name, target.location, environment)
        self.project = Project(self.machine)
        self.uri = self.project.uri()

    @property
    def key(self) -> Path:
        """The key file, made when it is first asked for."""
        path = self.machine.home / self.name
        if not path.with_suffix(".key").exists():
            self.machine.home.mkdir(parents=True, exist_ok=True)
            self.machine.succeed("keygen", path)
        return path.with_suffix(".key")

    @property
    def key_id(self) -> str:
        return str(self.json("trust", "show", self.name)["key_id"])

    def call(self, *arguments: str | Path) -> Finished:
        return self.project.call(*arguments)

    def succeed(self, *arguments: str | Path) -> str:
        return self.project.succeed(*arguments)

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.succeed(*arguments, "--json"))

    def forge(self, *sign: str) -> None:
        """Push other outputs than the command makes, under the same URI."""
        out = self.project.folder / "out"
        out.mkdir(exist_ok=True)
        (out / "r").write_text(FORGED)
        self.succeed("seed")
        signing = ("--sign", "--key", str(self.key)) if sign else ()
        self.succeed("push", self.uri, *signing)

    def publish(self) -> None:
        """Run, push and sign."""
        self.succeed("run", "--push", "--sign", "--key", self.key)

    def trust(self, *others: User, mode: str = "signed", threshold: int = 1) -> None:
        for other in others:
            self.succeed("trust", "add", other.key.with_suffix(".pub"), "--owner", other.name)
        self.succeed("trust", "mode", mode, "--threshold", str(threshold))

    def output(self) -> str:
        return (self.project.folder / "out" / "r").read_text()

    def forget(self) -> None:
        """Remove the pack from the cache, and the outputs."""
        self.succeed("rm", self.uri)
        shutil.rmtree(self.project.folder / "out", ignore_errors=True)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> PlainTarget:
    """A registry. (Over a layout: packages/ctxpack-pantry/tests/test_deciding.py, and the clones below.)"""
    return open_target("registry", request)


@pytest.fixture
def user(tmp_path: Path, target: PlainTarget, forks: Forks) -> Callable[[str], User]:
    return lambda name: User(tmp_path, target, forks, name)


@pytest.fixture(params=["nobody", "a stranger"])
def forged(request: pytest.FixtureRequest, user: Callable[[str], User]) -> User:
    """An attacker who was first, and signed the pack, or did not."""
    attacker = user("mallory")
    attacker.forge(*(["sign"] if request.param == "a stranger" else []))
    return attacker


def test_a_forged_pack_that_is_there_first_is_a_miss_in_run(user: Callable[[str], User], forged: User) -> None:
    victim = user("ann")
    victim.trust(victim)
    ran = victim.call("run")
    assert ran.status == 0, ran.stderr
    assert victim.output() == OWN
    assert victim.project.runs() == 1
    assert "push --replace" in ran.stderr
    pushed = victim.call("push", victim.uri)
    assert pushed.status == 8
    assert "push --replace" in pushed.stderr
    victim.succeed("push", "--replace", "--sign", "--key", victim.key, victim.uri)
    victim.forget()
    victim.succeed("pull", victim.uri, "-o", "got")
    assert (victim.machine.work / "got" / "r").read_text() == OWN


def test_run_with_push_keeps_its_outputs_and_exits_8_when_it_may_not_adopt(
    user: Callable[[str], User], forged: User, target: PlainTarget
) -> None:
    victim = user("ann")
    victim.trust(victim)
    before = target.manifest(tag_of(victim.uri))
    ran = victim.call("run", "--push")
    assert ran.status == 8, ran.stderr
    assert "push --replace" in ran.stderr
    assert victim.output() == OWN
    assert target.manifest(tag_of(victim.uri)) == before
    pushed = victim.call("push", victim.uri)
    assert (pushed.status, "deterministic" in pushed.stderr) == (8, False), pushed.stderr
    assert "the policy does not admit them" in pushed.stderr
    assert "push --replace" in pushed.stderr
    assert victim.succeed("pull", victim.uri)  # one's own


def test_what_is_put_in_place_of_a_pack_that_the_policy_does_not_admit_says_so(
    user: Callable[[str], User], forged: User
) -> None:
    victim = user("ann")
    victim.succeed("pull", victim.uri)
    victim.trust(victim)
    shutil.rmtree(victim.project.folder / "out", ignore_errors=True)
    ran = victim.call("run")
    assert (ran.status, victim.output()) == (0, OWN), ran.stderr
    assert "and was replaced by" in ran.stderr
    assert "the policy did not admit it" in ran.stderr
    assert "deterministic" not in ran.stderr


def test_a_forged_pack_is_refused_by_pull_and_as_an_input(user: Callable[[str], User], forged: User) -> None:
    victim = user("ann")
    victim.trust(victim)
    for arguments in (
        ["pull", victim.uri],
        ["pull", victim.uri, "-o", "got", "--include", "*"],
        ["export", victim.uri, "--tar", "t"],
    ):
        refused = victim.call(*arguments, "--json")
        assert refused.status == 7, refused.stderr
        assert json.loads(refused.stdout or refused.stderr)["code"] == "E_NOT_ADMITTED"
    assert not (victim.machine.work / "got").exists()
    victim.project.declare(inputs=[{"name": "docs", "uri": victim.uri}])
    assert victim.call("id").status == 7
    assert not any((victim.machine.cache / "v1" / "packs").glob("*"))


def test_what_is_refused_can_be_looked_at(user: Callable[[str], User], forged: User) -> None:
    victim = user("ann")
    victim.trust(victim)
    looked = victim.call("inspect", victim.uri)
    assert looked.status == 0, looked.stderr
    assert "not admit" in looked.stdout + looked.stderr
    assert not any((victim.machine.cache / "v1" / "packs").glob("*"))


def test_a_pack_signed_by_whom_one_trusts_is_used(user: Callable[[str], User]) -> None:
    maker, reader = user("ci"), user("ann")
    maker.publish()
    reader.trust(maker)
    ran = reader.call("run")
    assert ran.status == 0, ran.stderr
    assert reader.project.runs() == 0
    assert reader.output() == OWN
    again = reader.call("run", "--offline")
    assert (again.status, reader.project.runs()) == (0, 0), again.stderr


def test_an_unsigned_pack_of_the_cache_counts_once_it_is_signed(user: Callable[[str], User]) -> None:
    maker, reader = user("ci"), user("ann")
    maker.succeed("run", "--push")
    reader.succeed("pull", reader.uri)
    reader.trust(maker)
    assert reader.call("pull", reader.uri).status == 7
    maker.succeed("sign", maker.uri, "--key", maker.key)
    pulled = reader.json("pull", reader.uri)
    assert pulled["received"] == 0  # the cache has it: only the claim was missing


def test_two_owners_are_needed_where_the_policy_says_so(user: Callable[[str], User]) -> None:
    first, second, reader = user("ci"), user("lab"), user("ann")
    first.publish()
    reader.trust(first, second, threshold=2)
    refused = reader.call("pull", reader.uri)
    assert refused.status == 7, refused.stderr
    second.succeed("run", "--recompute", "--push", "--sign", "--key", second.key)  # the same, so it signs what is there
    assert reader.succeed("pull", reader.uri)


def test_what_was_only_fetched_is_not_blessed(user: Callable[[str], User], forged: User) -> None:
    """CI hits an attacker's pack; nobody else takes its word for it."""
    builder, reader = user("ci"), user("ann")
    builder.call("run", "--push", "--sign", "--key", builder.key)
    reader.trust(builder)
    assert reader.call("pull", reader.uri).status == 7
    vouched = builder.call("sign", builder.uri, "--vouch", "--key", builder.key)
    assert vouched.status == 0, vouched.stderr
    assert reader.call("pull", reader.uri).status == 7


def test_a_pack_of_another_repository_in_a_shared_cache_is_judged_by_the_repository_that_is_asked(
    user: Callable[[str], User], tmp_path: Path
) -> None:
    reader = user("ann")
    other = f"oci:{tmp_path / 'elsewhere'}"
    attacker = user("mallory")
    attacker.machine.environment["CTXPACK_REGISTRY"] = other
    attacker.forge()
    reader.succeed("trust", "mode", "accept-any", "--scope", other)
    reader.succeed("trust", "mode", "signed")
    reader.machine.succeed("pull", reader.uri, registry=other)
    assert reader.call("pull", reader.uri).status == 7
    ran = reader.call("run")
    assert (ran.status, reader.output()) == (0, OWN), ran.stderr


def test_the_policy_of_the_environment_only_makes_it_stricter(user: Callable[[str], User]) -> None:
    maker, reader = user("ci"), user("ann")
    maker.succeed("run", "--push")
    reader.machine.environment["CTXPACK_TRUST"] = "signed"
    assert reader.call("pull", reader.uri).status == 7
    reader.succeed("run")  # and its own is used
    assert reader.succeed("pull", reader.uri)
    reader.machine.environment["CTXPACK_TRUST"] = "accept-any"
    reader.trust(maker)
    reader.forget()
    os.rename(reader.machine.home / ".local" / "state" / "ctxpack" / "made", reader.machine.home / "made")
    assert reader.call("pull", reader.uri).status == 7
    reader.machine.environment["CTXPACK_TRUST"] = "any"
    assert reader.call("pull", reader.uri).status == 2


def test_tofu_pins_the_first_signer(user: Callable[[str], User]) -> None:
    first, second, reader = user("ci"), user("mallory"), user("ann")
    first.succeed("run", "--push")
    reader.succeed("trust", "mode", "tofu")
    assert reader.call("pull", reader.uri).status == 7  # unsigned
    first.succeed("sign", first.uri, "--key", first.key)
    assert reader.succeed("pull", reader.uri)
    reader.succeed("rm", reader.uri)
    second.project.write({"in/a.txt": "two\n"})
    second.publish()
    other = second.project.uri()
    refused = reader.call("pull", other)
    assert refused.status == 7, refused.stderr
    assert reader.succeed("pull", reader.uri)


def test_a_pinned_key_is_shown_and_can_be_forgotten(user: Callable[[str], User], target: PlainTarget) -> None:
    first, second, reader = user("ci"), user("mallory"), user("ann")
    first.publish()
    reader.succeed("trust", "mode", "tofu")
    reader.succeed("pull", reader.uri)
    [pin] = reader.json("trust", "list")["pins"]
    assert pin["scope"] == target.location.removeprefix("http://")
    assert f"pinned  {pin['key_id'][:16]}  {pin['scope']}" in reader.succeed("trust", "list")
    assert f"pinned for {pin['scope']}" in reader.succeed("trust", "show", pin["key_id"])
    second.project.write({"in/a.txt": "two\n"})
    second.publish()
    other = second.project.uri()
    refused = reader.call("pull", other)
    assert refused.status == 7
    assert f"`ctxpack trust remove --pin {pin['scope']}` forgets what is pinned" in refused.stderr
    reader.succeed("trust", "deny", pin["key_id"])
    assert "the policy denies the key that is pinned here" in reader.call("pull", other).stderr
    assert reader.call("trust", "remove", "--pin", "ghcr.io/another").status == 2
    reader.succeed("trust", "remove", "--pin", target.location)
    assert reader.json("trust", "list")["pins"] == []
    assert reader.succeed("pull", other)


@pytest.mark.parametrize("kind", ["key", "uri", "image", "outputs"])
def test_what_is_denied_is_not_used_whoever_made_it(
    user: Callable[[str], User], kind: str, target: PlainTarget
) -> None:
    maker, reader = user("ci"), user("ann")
    maker.publish()
    reader.trust(maker)
    assert reader.succeed("pull", reader.uri)
    shown = reader.json("inspect", reader.uri, "--registry", target.location)
    pushed = maker.json("push", maker.uri)
    denied = {
        "key": "ci",
        "uri": reader.uri,
        "image": pushed["image"],
        "outputs": shown["outputs"]["digest"],
    }[kind]
    reader.succeed("trust", "deny", denied, *(["--outputs"] if kind == "outputs" else []))
    refused = reader.call("pull", reader.uri)
    assert refused.status == 7, refused.stderr
    ran = reader.call("run")
    if kind == "uri" or kind == "outputs":  # it makes the same again
        assert ran.status == 7, ran.stderr
    else:
        assert (ran.status, reader.project.runs()) == (0, 1), ran.stderr


def test_one_s_own_result_can_be_denied(user: Callable[[str], User]) -> None:
    me = user("ann")
    me.succeed("run")
    me.succeed("trust", "deny", me.uri)
    assert me.call("pull", me.uri).status == 7
    assert me.call("run").status == 7


def test_one_s_own_result_with_denied_outputs_is_not_made_again_and_is_said_to_lie_there(
    user: Callable[[str], User],
) -> None:
    other, me = user("ci"), user("ann")
    other.succeed("run")
    outputs = other.json("inspect", other.uri)["outputs"]["digest"]
    me.succeed("trust", "deny", outputs, "--outputs")
    for first in (True, False):
        ran = me.call("run")
        assert (ran.status, me.project.runs()) == (7, 1), ran.stderr
        assert "--undo" in ran.stderr
        assert "push --sign" not in ran.stderr
        assert ("do not use it" in ran.stderr) == first
    me.call("run", "--recompute")
    assert me.project.runs() == 2


class TestARegistryThatOnlyAFolderNames:
    @pytest.fixture
    def clone(self, tmp_path: Path, user: Callable[[str], User]) -> User:
        """A clone with a forged pack in it, and a ctxpack.toml that names it as the registry."""
        attacker = user("mallory")
        attacker.machine.environment["CTXPACK_REGISTRY"] = f"oci:{attacker.machine.work / 'packs'}"
        attacker.forge()
        shutil.rmtree(attacker.machine.work / "out")
        victim = user("ann")
        shutil.copytree(attacker.machine.work / "packs", victim.machine.work / "packs")
        (victim.machine.work / "ctxpack.toml").write_text('registry = "oci:packs"\n')
        del victim.machine.environment["CTXPACK_REGISTRY"]
        return victim

    def test_no_pack_of_it_is_used(self, clone: User) -> None:
        refused = clone.call("pull", clone.uri)
        assert refused.status == 7, refused.stderr
        assert "ctxpack.toml" in refused.stderr
        assert "trust mode accept-any --scope" in refused.stderr
        ran = clone.call("run")
        assert (ran.status, clone.output()) == (0, OWN), ran.stderr

    def test_one_s_own_pack_is_a_hit_there(self, clone: User) -> None:
        clone.succeed("run")
        clone.succeed("run")
        assert clone.project.runs() == 1

    def test_a_rule_about_it_is_consent(self, clone: User) -> None:
        clone.succeed("trust", "mode", "accept-any", "--scope", f"oci:{clone.machine.work / 'packs'}")
        clone.succeed("run")
        assert (clone.output(), clone.project.runs()) == (FORGED, 0)

    @pytest.mark.parametrize(("answer", "status"), [("yes\n", 0), ("no\n", 7), ("\n", 7), ("\x04", 7)])
    def test_somebody_at_a_terminal_is_asked_and_only_yes_is_consent(
        self, clone: User, answer: str, status: int
    ) -> None:
        typist = Typist(clone.machine, "pull", clone.uri, watched=True)
        try:
            typist.expect(b"Yes or no?")
            assert b"Use packs from it, whoever made them?" in typist.shown
            typist.type(answer)
            ended, stdout, _ = typist.finish()
        finally:
            typist.close()
        assert (ended, bool(stdout)) == (status, status == 0), typist.shown
        assert clone.call("pull", clone.uri).status == status  # the answer is kept, as a rule of the policy

    @pytest.mark.parametrize("least", ["", "signed"])
    def test_consent_asks_for_nothing_less_than_elsewhere(self, clone: User, least: str) -> None:
        clone.succeed("trust", "mode", "tofu")
        if least:
            clone.machine.environment["CTXPACK_TRUST"] = least
        assert "`ctxpack trust mode tofu --scope oci:" in clone.call("pull", clone.uri).stderr
        typist = Typist(clone.machine, "pull", clone.uri, watched=True)
        try:
            typist.expect(b"Yes or no?")
            who = b"signers that you trust" if least else b"whoever signed the first one"
            assert b"Use packs from it, if %b signed them?" % who in typist.shown
            typist.type("yes\n")
            ended, *_ = typist.finish()
        finally:
            typist.close()
        assert ended == 7, "nobody signed it"
        [rule] = clone.json("trust", "list")["scopes"]
        assert rule["mode"] == "tofu"

    def test_a_check_says_why_as_pull_does(self, clone: User) -> None:
        for command in ("trust check", "inspect"):
            said = clone.call(*command.split(), clone.uri).stdout
            assert f"{clone.machine.work / 'ctxpack.toml'} names this registry, so no pack of it is used" in said
            assert "not admitted (accept-any by default): only " in said

    def test_naming_it_oneself_is_consent(self, clone: User) -> None:
        assert clone.succeed("pull", clone.uri, "--registry", "oci:packs")


class TestAFolderThatNamesItOverPlainHttp:
    """Whoever is on the way to a registry may answer in its place: what the user says of it is meant for https."""

    LOCATION = "http://reg.example.test"

    @pytest.fixture
    def clone(self, target: PlainTarget, user: Callable[[str], User]) -> Iterator[User]:
        attacker, victim = user("mallory"), user("ann")
        attacker.forge()
        repository = target.location.partition("/")[2]
        (victim.machine.work / "ctxpack.toml").write_text(f'registry = "{self.LOCATION}/{repository}"\n')
        del victim.machine.environment["CTXPACK_REGISTRY"]
        with Relay(target.location.partition("/")[0]) as proxy:
            victim.machine.environment["http_proxy"] = f"http://{proxy.address}"
            yield victim

    def user_says(self, clone: User, registry: str) -> None:
        path = clone.machine.home / ".config" / "ctxpack" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'registry = "{registry}/team"\n')

    def test_what_the_user_named_with_https_is_no_consent(self, clone: User) -> None:
        self.user_says(clone, "reg.example.test")
        clone.succeed("trust", "mode", "accept-any", "--scope", "reg.example.test")
        refused = clone.call("pull", clone.uri)
        assert (refused.status, refused.stdout) == (7, ""), refused.stderr
        assert f"registry {self.LOCATION}/team/" in refused.stderr
        assert "names this registry over plain HTTP, so no pack of it is used" in refused.stderr
        assert f"or name it yourself: --registry {self.LOCATION}/team/" in refused.stderr

    def test_nobody_is_asked(self, clone: User) -> None:
        typist = Typist(clone.machine, "pull", clone.uri, watched=True)
        try:
            assert typist.finish()[0] == 7
        finally:
            typist.close()
        assert b"Yes or no?" not in typist.shown

    def test_what_the_user_named_so_is_consent(self, clone: User) -> None:
        self.user_says(clone, self.LOCATION)
        clone.succeed("pull", clone.uri)

    def test_a_rule_that_asks_for_claims_holds_over_plain_http_too(
        self, user: Callable[[str], User], clone: User
    ) -> None:
        clone.succeed("trust", "mode", "signed", "--scope", "reg.example.test")
        assert "needs a claim" in clone.call("pull", clone.uri).stderr
        maker = user("ci")
        maker.succeed("run", "--recompute")
        maker.succeed("push", "--replace", "--sign", "--key", maker.key, maker.uri)
        clone.succeed("trust", "add", maker.key.with_suffix(".pub"), "--owner", "ci")
        clone.succeed("pull", clone.uri)


def test_the_first_pack_from_a_registry_is_said_once(user: Callable[[str], User]) -> None:
    maker, reader = user("ci"), user("ann")
    maker.publish()
    first, again = reader.call("pull", reader.uri), reader.call("pull", reader.uri, "--force", "-o", "x")
    assert f"trust add --from {reader.uri}" in first.stderr
    assert "trust add" not in again.stderr
    reader.succeed("rm", reader.uri)
    assert "trust add" not in reader.call("pull", reader.uri).stderr


def test_another_image_manifest_than_the_last_one_is_said(user: Callable[[str], User]) -> None:
    maker, other, reader = user("ci"), user("mallory"), user("ann")
    maker.succeed("run", "--push")
    reader.succeed("pull", reader.uri)
    reader.succeed("rm", reader.uri)
    out = other.project.folder / "out"
    out.mkdir()
    (out / "r").write_text(FORGED)
    other.succeed("seed")
    other.succeed("push", "--replace", other.uri)
    pulled = reader.call("pull", reader.uri)
    assert "another image manifest" in pulled.stderr


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema":"ctxpack/policy/v2"}', '{"schema":"ctxpack/policy/v1","modes":{}}']
)
def test_a_policy_that_cannot_be_read_admits_nothing(user: Callable[[str], User], content: str) -> None:
    me = user("ann")
    me.succeed("run")
    policy = me.machine.home / ".config" / "ctxpack" / "policy.json"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(content)
    done = me.call("pull", me.uri)
    assert done.status == 2, done.stderr
    assert "policy.json" in done.stderr


def test_a_policy_that_a_link_promises_and_that_is_gone_admits_nothing(user: Callable[[str], User]) -> None:
    me = user("ann")
    me.succeed("run")
    me.trust(me)
    policy = me.machine.home / ".config" / "ctxpack" / "policy.json"
    moved = policy.rename(me.machine.home / "dotfiles")
    policy.symlink_to(moved)
    me.succeed("trust", "mode", "reject")
    assert policy.is_symlink()
    moved.unlink()
    for command in ("pull", me.uri), ("trust", "list"), ("trust", "mode", "accept-any"):
        done = me.call(*command)
        assert done.status == 2, done.stderr
        assert f"{policy}: the policy is lost: this link leads nowhere" in done.stderr


@pytest.mark.parametrize("mode", [0o666, 0o660])
def test_a_policy_that_others_may_write_admits_nothing(user: Callable[[str], User], mode: int) -> None:
    me = user("ann")
    me.succeed("run")
    me.trust(me)
    policy = me.machine.home / ".config" / "ctxpack" / "policy.json"
    policy.chmod(mode)
    done = me.call("pull", me.uri)
    assert done.status == 2, done.stderr
    assert "chmod" in done.stderr
