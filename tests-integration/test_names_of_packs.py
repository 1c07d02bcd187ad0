"""A pack gets a name on one machine, and another machine pulls it by that name, or by what its lock file pins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forks import ForkedMachine, Forks
from machine import Finished, Machine
from plain_target import INDEX_TYPE, PlainTarget, Repository, open_target, tag_of
from project import Project

from ctxpack_identity import canonical_json
from registry2 import RegistryServer

NO_DIGEST = "sha256:" + "0" * 64


@pytest.fixture(params=["registry", "layout"])
def target(request: pytest.FixtureRequest) -> PlainTarget:
    return open_target(request.param, request)


@pytest.fixture
def project(maker: Machine) -> Project:
    return Project(maker)


@pytest.fixture
def user(tmp_path: Path, target: PlainTarget, forks: Forks) -> Machine:
    """A second machine, which shares only the target with the maker."""
    return ForkedMachine(forks, tmp_path / "user", target.location, target.environment)


def publish(project: Project, text: str) -> str:
    """Make a pack of this input, push it, and return its URI."""
    project.write({"in/a.txt": text})
    return project.succeed("run", "--push", "--force", "-q")


def refused(done: Finished, status: int) -> str:
    """Return the message of a command that failed with this status, and printed nothing."""
    assert (done.status, done.stdout) == (status, ""), done.stderr
    return done.stderr.splitlines()[-1]


def test_a_name_leads_another_machine_to_the_pack(
    project: Project, user: Machine, target: PlainTarget, maker: Machine
) -> None:
    uri = publish(project, "one\n")
    refused_name = refused(user.run("pull", "rag-index"), 3)
    assert "no such name: rag-index" in refused_name
    assert maker.succeed("tag", uri, "rag-index") == f"Tagged: rag-index is {uri}"
    assert target.manifest("name-rag-index") == target.manifest(tag_of(uri)) is not None
    done = user.run("pull", "rag-index", "-o", "out")
    assert (done.status, done.stdout) == (0, "out\n")
    assert f"ctxpack: rag-index is {uri}\n" in done.stderr
    assert (user.work / "out/r").read_text() == "one\n"
    assert user.succeed("inspect", "rag-index").splitlines()[0] == uri
    assert not (user.work / "ctxpack.lock").exists()


def test_a_pinned_name_keeps_its_pack_when_the_name_is_moved(
    project: Project, user: Machine, maker: Machine, tmp_path: Path, forks: Forks
) -> None:
    old = publish(project, "one\n")
    maker.succeed("tag", old, "rag-index")
    assert "is not pinned" in refused(user.run("pull", "--locked", "rag-index"), 2)
    user.succeed("pull", "rag-index", "--lock", "-o", "old")
    new = publish(project, "two\n")
    moved = maker.run("tag", new, "rag-index")
    assert moved.stdout == f"Tagged: rag-index is {new}\n"
    assert f"ctxpack: rag-index was {old} before\n" in moved.stderr
    for option in ((), ("--locked",)):
        place = f"again{len(option)}"
        user.succeed("pull", "rag-index", *option, "-o", place)
        assert (user.work / place / "r").read_text() == "one\n"

    # A clone of the user's folder on a third machine, which has nothing cached.
    third = ForkedMachine(
        forks, tmp_path / "third", environment=user.environment | {"CTXPACK_CACHE": str(tmp_path / "third/cache")}
    )
    (third.work / "ctxpack.lock").write_bytes((user.work / "ctxpack.lock").read_bytes())
    (third.work / "below").mkdir()
    third.succeed("pull", "rag-index", "--locked", "-o", "out", folder=third.work / "below")
    assert (third.work / "below/out/r").read_text() == "one\n"

    user.succeed("pull", "rag-index", "--lock", "-o", "new")
    assert (user.work / "new/r").read_text() == "two\n"
    lock = (user.work / "ctxpack.lock").read_bytes()
    document = json.loads(lock)
    assert canonical_json(document) == lock
    assert document["names"]["rag-index"]["uri"] == new


def test_other_outputs_than_the_pinned_ones_are_refused(project: Project, user: Machine, maker: Machine) -> None:
    uri = publish(project, "one\n")
    maker.succeed("tag", uri, "rag-index")
    user.succeed("pull", "rag-index", "--lock")
    lock = user.work / "ctxpack.lock"
    document = json.loads(lock.read_bytes())
    document["names"]["rag-index"]["outputs"] = NO_DIGEST
    lock.write_bytes(canonical_json(document))
    user.succeed("rm", uri)
    for options in (("-o", "out"), ("-o", "out", "--include", "r"), ("--locked",)):
        message = refused(user.run("pull", "rag-index", *options), 5)
        assert f"the pack has not the outputs that are pinned for rag-index: expected {NO_DIGEST}" in message
        assert "`ctxpack pull rag-index --lock`" in message
    assert not (user.work / "out").exists()
    assert user.succeed("verify", uri).startswith("Sound: ")  # it is in the cache, and not damaged
    user.succeed("pull", "rag-index", "--lock", "-o", "out")
    assert json.loads(lock.read_bytes())["names"]["rag-index"]["outputs"] != NO_DIGEST


def test_a_name_whose_pack_was_replaced_says_so(project: Project, user: Machine, maker: Machine) -> None:
    project.declare(command=["sh", "src/make.sh"], variables={}, code_hash="opaque", code=None)
    uri = publish(project, "one\n")
    maker.succeed("tag", uri, "rag-index")
    project.write({"src/make.sh": "mkdir -p out; echo other > out/r\n"})
    assert project.succeed("run", "--recompute", "--push", "--replace", "--force", "-q") == uri
    done = user.run("pull", "rag-index", "-o", "out")
    assert done.status == 0
    assert "ctxpack: rag-index was given to sha256:" in done.stderr
    assert (user.work / "out/r").read_text() == "other\n"


def test_a_name_that_goes_with_its_pack(project: Project, user: Machine, maker: Machine) -> None:
    uri = publish(project, "one\n")
    maker.succeed("tag", uri, "rag-index")
    digits = uri[-64:-50]
    assert maker.succeed("rm", "--registry", digits) == f"Removed: {uri}"
    assert "no such name" in refused(user.run("pull", "rag-index"), 3)


def test_digits_are_completed_from_the_cache_and_never_from_the_registry(project: Project, user: Machine) -> None:
    uri = publish(project, "one\n")
    digits = uri[-64:-52]
    assert "no cached pack begins with" in refused(user.run("pull", digits), 3)
    user.succeed("pull", uri)
    assert user.succeed("pull", digits) == user.succeed("pull", uri)


def test_a_name_on_something_foreign_is_a_clear_error(registry: RegistryServer, tmp_path: Path, forks: Forks) -> None:
    target = Repository(registry)
    user = ForkedMachine(forks, tmp_path / "user", target.location, target.environment)
    index = canonical_json({"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2})
    target.put_manifest("name-rag-index", index, INDEX_TYPE)
    message = refused(user.run("pull", "rag-index"), 5)
    assert "the name rag-index stands for no pack: wrong media type" in message
    assert "`ctxpack tag URI rag-index` lets it name a pack" in message
    project = Project(user)
    uri = publish(project, "one\n")
    moved = user.run("tag", uri, "rag-index")
    assert moved.stdout == f"Tagged: rag-index is {uri}\n"
    assert "ctxpack: rag-index was sha256:" in moved.stderr
    assert user.succeed("pull", "rag-index", "-q") == user.succeed("pull", uri, "-q")
