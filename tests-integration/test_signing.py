"""Who signs what, as users do it: CI runs and signs, another runs it again and signs, a stranger does what he can."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from jsonschema import Draft202012Validator
from machine import Finished
from plain_target import PlainTarget, Repository, open_target, tag_of
from project import Project

from ctxpack_pantry import schema
from ctxpack_trust import parse_public_key

FORGED = "forged\n"
PASSWORD = "the password of everybody 3Vb"


class User:
    """Somebody with a project like everybody's, a machine of their own, and the key NAME.key in the folder keys."""

    def __init__(self, folder: Path, keys: Path, forks: Forks, target: PlainTarget, name: str) -> None:
        self.name, self.target = name, target
        environment = target.environment | {"CTXPACK_KEY_PASSWORD": PASSWORD}
        self.machine = ForkedMachine(forks, folder / name, target.location, environment)
        self.project = Project(self.machine)
        self.uri = self.project.uri()
        self.keys = keys
        self.make_key(name)

    def make_key(self, name: str) -> None:
        if not self.public(name).exists():
            self.machine.succeed("keygen", self.keys / name)

    def private(self, name: str = "") -> Path:
        return self.keys / f"{name or self.name}.key"

    def public(self, name: str = "") -> Path:
        return self.keys / f"{name or self.name}.pub"

    def key_id(self, name: str = "") -> str:
        path = self.public(name)
        return parse_public_key(path.read_bytes(), where=str(path)).key_id

    def call(self, *arguments: str | Path) -> Finished:
        done = self.project.call(*arguments)
        assert PASSWORD not in done.stdout + done.stderr
        return done

    def signs(self, *arguments: str | Path, key: str = "") -> Finished:
        """Run a command with the key."""
        return self.call(*arguments, "--key", self.private(key))

    def json(self, *arguments: str | Path) -> Any:
        """Return the document that a command prints, which follows its schema. Raises: AssertionError if it fails."""
        done = self.call(*arguments, "--json")
        assert done.status == 0, done.stderr
        document = json.loads(done.stdout)
        Draft202012Validator(schema(document["schema"].split("/")[1])).validate(document)
        return document

    def trusts(self, *others: User, threshold: int = 1) -> None:
        """Want the signatures of as many owners."""
        for other in others:
            self.project.succeed("trust", "add", other.public(), "--owner", other.name)
        self.project.succeed("trust", "mode", "signed", "--threshold", str(threshold))

    def makes(self, content: str) -> None:
        """Seed other outputs than the command makes, under the same URI."""
        (self.project.folder / "out").mkdir(exist_ok=True)
        (self.project.folder / "out/r").write_text(content)
        self.project.succeed("seed")

    def image(self) -> str:
        """Return the digest of the image manifest that has the tag of the project's URI."""
        found = self.target.manifest(tag_of(self.uri))
        assert found is not None
        return "sha256:" + hashlib.sha256(found).hexdigest()

    def claim(self, of: User, key: str = "") -> bytes | None:
        """Return the image manifest of the claim by somebody's key about that pack."""
        digits = self.image().removeprefix("sha256:")
        return self.target.manifest(f"claim-{digits}-{of.key_id(key)[:16]}")


@pytest.fixture(params=["registry", "layout"])
def target(request: pytest.FixtureRequest) -> PlainTarget:
    return open_target(request.param, request)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of all tests: it takes a second to make one."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def user(tmp_path: Path, keys: Path, forks: Forks, target: PlainTarget) -> Callable[[str], User]:
    """Return somebody new who uses the target."""
    return lambda name: User(tmp_path, keys, forks, target, name)


@pytest.fixture
def ci(user: Callable[[str], User]) -> User:
    return user("ci")


def succeeded(done: Finished) -> Finished:
    assert done.status == 0, done.stderr
    return done


def failed(done: Finished, status: int) -> str:
    """Return the message of a command that failed with this status."""
    assert (done.status, done.stdout) == (status, ""), done.stdout + done.stderr
    return done.stderr.splitlines()[-1]


def test_ci_runs_and_signs_and_a_laptop_that_wants_its_signature_gets_the_pack(
    ci: User, user: Callable[[str], User]
) -> None:
    laptop = user("laptop")
    laptop.trusts(ci)
    done = succeeded(ci.signs("run", "--push", "--sign"))
    assert f"ctxpack: signed by {ci.key_id()[:16]}, as run here\n" in done.stderr
    claim = ci.claim(ci)
    assert claim is not None
    assert json.loads(claim)["subject"]["digest"] == ci.image()
    assert succeeded(laptop.call("run")).stdout == f"Hit: {ci.uri}\n"
    assert (laptop.project.folder / "out/r").read_text() == "one\n"
    assert laptop.project.runs() == 0


def test_a_run_and_a_claim_say_in_json_what_was_signed(ci: User) -> None:
    ran = ci.json("run", "--push", "--sign", "--key", ci.private())
    signed = ran["pushed"]["signed"]
    assert signed == {
        "schema": "ctxpack/sign/v1",
        "uri": ci.uri,
        "registry": ran["pushed"]["registry"],
        "image": ci.image(),
        "key_id": ci.key_id(),
        "kind": "run",
        "tag": f"claim-{ci.image().removeprefix('sha256:')}-{ci.key_id()[:16]}",
        "new": True,
    }
    assert ci.json("sign", ci.uri, "--key", ci.private()) == signed | {"new": False}
    assert ci.json("push", ci.uri, "--sign", "--key", ci.private())["signed"] == signed | {"new": False}
    ci.make_key("new")
    document = ci.json("sign", "--all", "--signed-by", ci.public(), "--key", ci.private("new"))
    assert [one["key_id"] for one in document["signed"]] == [ci.key_id("new")]
    assert document["unsigned"] == []


def test_ci_that_hits_an_attackers_pack_does_not_bless_it(ci: User, user: Callable[[str], User]) -> None:
    """A URI is predictable, so an attacker can be first."""
    mallory, laptop = user("mallory"), user("laptop")
    mallory.makes(FORGED)
    succeeded(mallory.signs("push", mallory.uri, "--sign"))
    done = succeeded(ci.signs("run", "--push", "--sign"))
    assert done.stdout == f"Hit: {ci.uri}\n"
    assert f"ctxpack: not signed: {ci.uri} was not made here" in done.stderr
    for command in (("push", ci.uri, "--sign"), ("sign", ci.uri)):
        message = failed(ci.signs(*command), 7)
        assert "was not made here by this user" in message
        assert "`ctxpack sign --vouch URI` vouches for it" in message
    assert ci.claim(ci) is None
    done = succeeded(ci.signs("sign", ci.uri, "--vouch"))
    assert "as vouched for, which counts towards no threshold" in done.stderr
    laptop.trusts(ci)
    failed(laptop.call("pull", ci.uri), 7)
    assert succeeded(laptop.call("run")).stdout == f"Seeded: {ci.uri}\n"
    assert (laptop.project.folder / "out/r").read_text() == "one\n"


def test_a_threshold_of_two_is_met_by_running_it_twice(ci: User, user: Callable[[str], User]) -> None:
    second, laptop = user("second"), user("laptop")
    laptop.trusts(ci, second, threshold=2)
    succeeded(ci.signs("run", "--push", "--sign"))
    image = ci.image()
    failed(laptop.call("pull", ci.uri), 7)
    second.trusts(ci, second, threshold=2)  # so it does not use the pack that is there, but makes it again
    done = succeeded(second.signs("run", "--push", "--sign"))
    assert done.stdout == f"Seeded: {ci.uri}\n"
    assert f"ctxpack: signed by {second.key_id()[:16]}, as made again here\n" in done.stderr
    assert ci.image() == image
    succeeded(laptop.call("pull", ci.uri))


@pytest.mark.parametrize("target", ["registry"], indirect=True)  # by plain HTTP; a layout's tags are in one file
def test_a_strangers_claim_under_the_tag_of_a_signer_is_no_claim_of_the_signer(
    ci: User, user: Callable[[str], User], target: PlainTarget
) -> None:
    mallory, laptop = user("mallory"), user("laptop")
    assert isinstance(target, Repository)
    laptop.trusts(ci)
    succeeded(ci.call("run", "--push"))
    mallory.makes("one\n")
    succeeded(mallory.signs("push", mallory.uri, "--sign"))
    stranger = ci.claim(mallory)
    assert stranger is not None
    target.put_manifest(f"claim-{ci.image().removeprefix('sha256:')}-{ci.key_id()[:16]}", stranger)
    failed(laptop.call("pull", ci.uri), 7)
    done = succeeded(ci.signs("sign", ci.uri))
    assert "replaced, since it is no claim by this key about this pack" in done.stderr
    succeeded(laptop.call("pull", ci.uri))
    target.put_manifest(f"claim-{ci.image().removeprefix('sha256:')}-{ci.key_id()[:16]}", stranger)
    laptop.project.succeed("rm", ci.uri)
    succeeded(laptop.call("pull", ci.uri))  # ci's is still among the referrers


def test_what_is_to_be_signed_is_known_before_the_command_runs(ci: User) -> None:
    assert "--sign is about a push" in failed(ci.signs("run", "--sign"), 2)
    assert "--key says with what to sign" in failed(ci.signs("run", "--push"), 2)
    assert "no key to sign with" in failed(ci.call("run", "--push", "--sign"), 2)
    assert "say --all --signed-by" in failed(ci.signs("sign"), 2)
    assert "go together" in failed(ci.signs("sign", "--all"), 2)
    assert "leave out PACK" in failed(ci.signs("sign", ci.uri, "--all", "--signed-by", "x.pub"), 2)
    ci.machine.environment["CTXPACK_KEY_PASSWORD"] = "another"
    assert "the password is wrong" in failed(ci.signs("run", "--push", "--sign"), 2)
    del ci.machine.environment["CTXPACK_KEY_PASSWORD"]
    assert "password" in failed(ci.signs("run", "--push", "--sign"), 2)
    assert ci.project.runs() == 0


def test_the_settings_say_what_is_signed_by_default(ci: User, target: PlainTarget) -> None:
    folder = ci.machine.home / ".config/ctxpack"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'key = "{ci.private()}"\nsign = ["{target.location}"]\n')
    succeeded(ci.call("run"))
    succeeded(ci.call("push", ci.uri, "--no-sign"))
    assert ci.claim(ci) is None
    assert f"signed by {ci.key_id()[:16]}" in succeeded(ci.call("push", ci.uri)).stderr
    assert ci.claim(ci) is not None


def test_by_default_a_push_of_what_was_not_made_here_is_not_signed_and_no_failure(
    ci: User, user: Callable[[str], User], target: PlainTarget
) -> None:
    other = user("other")
    folder = other.machine.home / ".config/ctxpack"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'key = "{other.private()}"\nsign = ["{target.location}"]\n')
    succeeded(ci.call("run", "--push"))
    succeeded(other.call("pull", ci.uri))
    assert "not signed: " in succeeded(other.call("push", ci.uri)).stderr
    assert ci.claim(other) is None


def test_a_key_is_rotated(ci: User, user: Callable[[str], User]) -> None:
    laptop = user("laptop")
    succeeded(ci.signs("run", "--push", "--sign"))
    ci.make_key("next")
    laptop.project.succeed("trust", "add", ci.public("next"), "--owner", "ci")
    laptop.project.succeed("trust", "mode", "signed")
    failed(laptop.call("pull", ci.uri), 7)
    done = succeeded(ci.signs("sign", "--all", "--signed-by", ci.public(), key="next"))
    assert done.stdout == f"Signed: {ci.uri}\n"
    assert "1 signed now, 0 before, 0 not" in done.stderr
    succeeded(laptop.call("pull", ci.uri))
    # Who neither made it nor trusts both keys as one owner's repeats nothing.
    laptop.make_key("laptop")
    done = succeeded(laptop.signs("sign", "--all", "--signed-by", ci.key_id()))
    assert done.stdout == ""
    assert "your policy does not say that both keys are one owner's" in done.stderr


def test_eight_signers_at_once_are_all_kept(ci: User, forks: Forks) -> None:
    succeeded(ci.call("run", "--push"))
    names = [f"signer{number}" for number in range(8)]
    for name in names:
        ci.make_key(name)
    calls = [ci.machine.call("sign", ci.uri, "--key", ci.private(name), folder=ci.project.folder) for name in names]
    for done in forks.together(*calls):
        succeeded(done)
    assert [name for name in names if ci.claim(ci, name) is None] == []


@pytest.mark.parametrize("target", ["layout"], indirect=True)  # whose files are here to be damaged
def test_a_damaged_pack_is_not_signed(ci: User, user: Callable[[str], User], target: PlainTarget) -> None:
    """A signer reads every chunk."""
    succeeded(ci.call("run", "--push"))
    second = user("second")
    second.makes("one\n")
    manifest = target.manifest(tag_of(ci.uri))
    assert manifest is not None
    layer = json.loads(manifest)["layers"][-1]["digest"]
    path = Path(target.location.removeprefix("oci:")) / "blobs/sha256" / layer.removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    failed(second.signs("push", second.uri, "--sign"), 5)
    failed(second.signs("sign", second.uri, "--vouch"), 5)
    assert ci.claim(second) is None
