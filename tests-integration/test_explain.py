"""``ctxpack explain`` across machines: why a URI differs, with few requests, and only listings fetched."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from jsonschema import Draft202012Validator
from machine import Machine
from project import Project
from relay import Relay

from ctxpack_pantry import schema
from registry2 import RegistryServer

VALIDATOR = Draft202012Validator(schema("explain"))
LOCK = {"path": "lock.txt", "text": True}


@pytest.fixture
def project(tmp_path: Path, registry: RegistryServer, forks: Forks) -> Project:
    """A project on a machine that pushes to a repository of its own."""
    name = re.sub(r"[^a-z0-9]", "", tmp_path.name.lower())
    return Project(ForkedMachine(forks, tmp_path / "maker", f"{registry.address}/explain/{name}"))


@pytest.fixture
def reader(tmp_path: Path, project: Project, forks: Forks) -> Machine:
    """Another machine with the same registry, and an empty cache."""
    return ForkedMachine(forks, tmp_path / "reader", project.machine.environment["CTXPACK_REGISTRY"])


def made(project: Project) -> str:
    """Run the project as it is, push the pack, and return its URI."""
    return project.succeed("run", "-q", "--push", "--force")


def facts(text: str) -> list[str]:
    """Return the lines after those that name the two sides."""
    return text.splitlines()[3:]


def document(machine: Machine, *arguments: str, folder: Path | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.succeed("explain", "--json", *arguments, folder=folder))
    VALIDATOR.validate(found)
    return found


def change_all(project: Project) -> list[str]:
    """Change a bit of everything, and return what explain must say of it."""
    project.write({"in/b.txt": "two\n", "in/new/c.txt": "three\n", "src/make.sh": "mkdir -p out; ls in > out/r\n"})
    (project.folder / "in/a.txt").rename(project.folder / "in/z.txt")
    project.write({"lock.txt": "numpy==2.1.0\ntorch==2.4.0\n"})
    project.declare(environment=LOCK, params={"dpi": 600}, salt="again", variables={"MODE": "fast"})
    return [
        "code of t: make.sh changed, 52 B → 28 B",
        "environment of t: package numpy: 2.0.0 → 2.1.0",
        "environment of t: package torch: none → 2.4.0",
        "environment of t: the file changed, 13 B → 26 B",
        "input docs: b.txt added, 4 B",
        "input docs: new/c.txt added, 6 B",
        "input docs: a.txt → z.txt renamed, 4 B",
        "t: /params/dpi none → 600",
        '/salt "" → "again"',
        '/variables/MODE none → "fast"',
    ]


def test_long_values_are_shown_where_they_differ(tmp_path: Path) -> None:
    project = Project(Machine(tmp_path / "maker"))
    command = ["sh", "src/make.sh", "--language", "en", "--layout", "columns", "--dpi"]
    project.declare(params={"prompt": "x" * 200 + "1", "n": "1"}, command=[*command, "300"])
    project.succeed("run")
    project.declare(params={"prompt": "x" * 200 + "2", "n": 1}, command=[*command, "600"])
    assert facts(project.succeed("explain")) == [
        't: /params/n "1" → 1',
        f't: /params/prompt …{"x" * 19}1" → …{"x" * 19}2"',
        '/command/7 "300" → "600"',
    ]
    assert 'miss: params /n "1" → 1 and 1 more; command changed since ctx://' in project.call("run", "--force").stderr


def test_cached_registry_only_and_contract_file_say_the_same(project: Project, reader: Machine) -> None:
    project.declare(environment=LOCK)
    old = made(project)
    expected = change_all(project)
    assert facts(project.succeed("explain")) == expected
    new = made(project)
    assert facts(project.succeed("explain", old, new)) == expected
    assert facts(project.succeed("explain", old, "contract.json")) == expected
    assert facts(reader.succeed("explain", old, new)) == expected
    assert facts(reader.succeed("explain", old, "contract.json", folder=project.folder)) == expected
    assert facts(reader.succeed("explain", old, str(project.folder / "contract.json"))) == expected
    assert reader.succeed("ls") == ""


def test_the_registrys_list_names_the_nearest_pack(project: Project, reader: Machine) -> None:
    old = made(project)
    project.write({"src/make.sh": "mkdir -p out; ls in > out/r\n"})
    found = document(reader, "contract.json", folder=project.folder)
    assert found["old"] == {"uri": old, "found_in": found["old"]["found_in"], "is_contract_file": False}
    assert found["nearest"]
    new = made(project)
    assert document(reader, new)["old"]["uri"] == old
    there = document(reader, "contract.json", folder=project.folder)
    assert (there["old"]["uri"], there["nearest"], there["transforms"]) == (new, False, [])


def test_nothing_is_near(project: Project) -> None:
    done = project.call("explain")
    assert (done.status, done.stdout) == (3, "")
    assert "no pack is near: looked at 0 cached packs" in done.stderr
    assert "0 of the registry's list of kin" in done.stderr


def test_a_pack_of_many_files_costs_few_requests_and_only_its_listings(
    project: Project, reader: Machine, registry: RegistryServer
) -> None:
    project.write({f"in/d{number % 40:02}/f{number:04}.txt": f"{number}" * 50 for number in range(4000)})
    project.write({"src/make.sh": "mkdir -p out; head -c 8000000 /dev/urandom > out/r\n"})
    old = made(project)
    project.write({"in/d07/f0007.txt": "changed"})
    contract = str(project.folder / "contract.json")
    with Relay(registry.address) as relay:
        repository = project.machine.environment["CTXPACK_REGISTRY"].partition("/")[2]
        relayed = f"{relay.address}/{repository}"
        text = reader.succeed("explain", old, contract, registry=relayed)
        assert facts(text) == ["input docs: d07/f0007.txt changed, 50 B → 7 B"]
        requests = relay.seen("GET") + relay.seen("HEAD")
        assert len(requests) <= 5, [(one.method, one.path) for one in requests]
        relay.forget()
        assert facts(project.machine.succeed("explain", old, contract, registry=relayed)) == facts(text)
        assert relay.seen() == []  # named and cached


def test_packs_of_one_uri_with_other_outputs(project: Project, reader: Machine) -> None:
    project.write(
        {"src/make.sh": "mkdir -p out; cat in/a.txt > out/r; date +%s%N > out/when; echo x > out/$(cat out/when)\n"}
    )
    uri = made(project)
    elsewhere = Project(reader)
    elsewhere.write({"src/make.sh": (project.folder / "src/make.sh").read_text()})
    assert elsewhere.succeed("run", "-q", "--offline") == uri
    assert elsewhere.call("push", uri).status == 8
    for arguments in ([uri], [uri, uri], ["contract.json"]):
        [changed, renamed] = facts(elsewhere.succeed("explain", *arguments))
        assert changed == "outputs: when changed, 20 B"
        assert re.fullmatch(r"outputs: \d+ → \d+ renamed, 2 B", renamed)
    found = document(reader, uri)
    assert found["outputs"]["files"]["changed"]["files"] == [{"path": "when", "size": 20, "old_size": 20}]
    assert found["transforms"] == found["inputs"] == found["changes"] == []


def test_lock_files_of_every_kind_and_one_that_is_none(project: Project) -> None:
    old = {
        "requirements.txt": "idna==3.7 \\\n    --hash=sha256:aa\n",
        "uv.lock": 'version = 1\n[[package]]\nname = "idna"\nversion = "3.7"\n',
        "package-lock.json": json.dumps({"packages": {"node_modules/idna": {"version": "3.7"}}}),
        "words.lock": "idna 3.7\n",
    }
    for name, text in old.items():
        project.write({name: text})
        project.declare(environment={"path": name, "text": True})
        uri = made(project)
        project.write({name: text.replace("3.7", "3.8")})
        found = facts(project.succeed("explain", uri, "contract.json"))
        packages = ["environment of t: package idna: 3.7 → 3.8"] if name != "words.lock" else []
        assert found == [*packages, f"environment of t: the file changed, {len(text)} B"]
