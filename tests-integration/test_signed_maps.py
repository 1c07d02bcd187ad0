"""Items that a map takes from others' packs: who signs the map answers for them, so they are taken only if it may."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from machine import Finished
from mapproject import MapProject
from plain_target import PlainTarget, open_target

FILES = {"a.txt": "one", "b.txt": "two"}
MORE = FILES | {"c.txt": "three"}


class Mapper:
    """Somebody with the same documents and the same command as everybody, and a key."""

    def __init__(self, folder: Path, target: PlainTarget, forks: Forks, name: str) -> None:
        self.name, self.target = name, target
        environment = target.environment | {"CTXPACK_KEY_PASSWORD": "not secret"}
        self.machine = ForkedMachine(forks, folder / name, target.location, environment)
        self.project = MapProject(self.machine, FILES)
        self.machine.home.mkdir(parents=True, exist_ok=True)
        self.machine.succeed("keygen", self.machine.home / name)
        self.key = self.machine.home / f"{name}.key"

    def add(self) -> None:
        """Add a document, so that the others are items of an earlier map."""
        self.project.write({f"in/{name}": content for name, content in MORE.items()})

    def call(self, *arguments: str | Path) -> Finished:
        return self.project.call(*arguments)

    def trusts(self, *others: Mapper) -> None:
        for other in others:
            self.project.succeed("trust", "add", other.key.with_suffix(".pub"), "--owner", other.name)
        self.project.succeed("trust", "mode", "signed")

    def signed(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Map, push and sign; return the document, and the sources in the claim."""
        document = self.project.map("--push", "--sign", "--key", self.key)
        return document, self.sources(document["pushed"]["signed"])

    def sources(self, signed: dict[str, Any]) -> list[dict[str, Any]]:
        manifest = json.loads(self.target.manifest(signed["tag"]) or b"")
        bundle = json.loads(self.target.blob(manifest["layers"][0]["digest"]))
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        return [one for one in found if one["name"] == "items"]


@pytest.fixture
def target(request: pytest.FixtureRequest) -> PlainTarget:
    return open_target("registry", request)


@pytest.fixture
def mapper(tmp_path: Path, target: PlainTarget, forks: Forks) -> Callable[[str], Mapper]:
    return lambda name: Mapper(tmp_path, target, forks, name)


@pytest.fixture
def attacker(mapper: Callable[[str], Mapper]) -> Mapper:
    """Somebody who pushed a map of the first documents, whose results no command made."""
    attacker = mapper("mallory")
    out = attacker.project.folder / "out"
    out.mkdir()
    for name in FILES:
        (out / name).with_suffix(".out").write_text("FORGED")
    uri = attacker.project.succeed("seed", "--quiet")
    attacker.project.succeed("push", uri)
    return attacker


def test_a_map_that_signs_takes_no_items_that_nobody_vouches_for(
    mapper: Callable[[str], Mapper], attacker: Mapper
) -> None:
    ci = mapper("ci")
    ci.add()
    document, sources = ci.signed()
    assert (document["made"], document["fetched"], sources) == (3, 0, [])
    assert ci.project.outputs()["a.out"] == b"ONE"


def test_a_map_that_took_such_items_is_signed_as_what_counts_for_nobody(
    mapper: Callable[[str], Mapper], attacker: Mapper
) -> None:
    ci, laptop = mapper("ci"), mapper("laptop")
    ci.add()
    assert ci.project.map("--push")["fetched"] == 2  # without a policy, and without a word of whom to believe
    uri = ci.project.uri()
    pushed = ci.call("push", uri, "--sign", "--key", ci.key)
    assert pushed.status == 0, pushed.stderr
    assert "signed as seed, which counts towards no threshold" in pushed.stderr
    laptop.add()
    laptop.trusts(ci)
    assert laptop.call("pull", uri).status == 7


def test_an_own_map_that_took_such_items_gives_none_to_one_that_signs(
    mapper: Callable[[str], Mapper], attacker: Mapper
) -> None:
    ci = mapper("ci")
    ci.add()
    assert ci.project.map()["fetched"] == 2
    ci.project.write({"in/d.txt": "four"})
    document, sources = ci.signed()
    assert (document["made"], sources) == (4, [])


def test_items_of_a_signed_map_are_taken_and_the_claim_says_who_signed_it(mapper: Callable[[str], Mapper]) -> None:
    first, second, laptop = mapper("first"), mapper("second"), mapper("laptop")
    first_image = first.signed()[0]["pushed"]["image"]
    second.add()
    second.trusts(first)
    document, sources = second.signed()
    assert (document["fetched"], document["made"]) == (2, 1)
    key_id = json.loads(second.project.succeed("trust", "show", "first", "--json"))["key_id"]
    assert [("sha256:" + one["digest"]["sha256"], one["annotations"]) for one in sources] == [
        (first_image, {"admittedBy": [key_id]})
    ]

    laptop.add()
    laptop.trusts(second)
    uri = second.project.uri()
    assert laptop.call("pull", uri).status == 0
    laptop.project.succeed("trust", "deny", key_id)
    refused = laptop.call("pull", uri)
    assert refused.status == 7, refused.stderr
    assert "items" in refused.stderr


@pytest.mark.parametrize("kind", ["uri", "outputs", "image"])
def test_a_denial_goes_over_any_number_of_maps(mapper: Callable[[str], Mapper], kind: str) -> None:
    first, second, third, laptop = mapper("first"), mapper("second"), mapper("third"), mapper("laptop")
    made = first.signed()[0]
    second.add()
    second.trusts(first)
    second.signed()
    third.add()
    third.project.write({"in/d.txt": "four"})
    third.trusts(second, first)
    document, sources = third.signed()
    assert (document["fetched"], document["made"], len(sources)) == (3, 1, 2)

    laptop.trusts(third, first)
    for uri in (made["uri"], document["uri"]):
        laptop.project.succeed("pull", uri)
    outputs = json.loads(laptop.project.succeed("inspect", made["uri"], "--json"))["outputs"]["digest"]
    denied = {"uri": made["uri"], "outputs": outputs, "image": made["pushed"]["image"]}[kind]
    listed = json.loads(laptop.project.succeed("trust", "deny", denied, "--show-affected", "--json"))
    refused = [(pack["uri"], pack["why"], pack["refused"]) for pack in listed["affected"]["packs"]]
    assert refused == [(made["uri"], "denied", True), (document["uri"], "items", True)]
    for uri in (made["uri"], document["uri"]):
        laptop.project.call("rm", uri)
        answer = laptop.call("pull", uri)
        assert answer.status == laptop.call("trust", "check", uri).status == 7, answer.stderr


def test_one_s_own_earlier_map_is_a_source_that_says_own(mapper: Callable[[str], Mapper]) -> None:
    ci = mapper("ci")
    image = ci.signed()[0]["pushed"]["image"]
    ci.add()
    document, sources = ci.signed()
    assert (document["cached"], document["made"]) == (2, 1)
    assert [("sha256:" + one["digest"]["sha256"], one["annotations"]) for one in sources] == [
        (image, {"admittedBy": ["own"]})
    ]
