"""All commands, from contract file to pull, on every kind of target."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

import pytest
from audit import audit_artifact, audit_cache, digest_of, leftovers
from examples import LARGE, content_of, seed_pack, write_contract
from forks import ForkedMachine, Forks
from machine import Machine
from plain_target import Layout, PlainTarget, Repository, tag_of
from relay import Relay

from registry2 import RegistryServer


@pytest.fixture
def user(tmp_path: Path, target: PlainTarget, forks: Forks) -> Machine:
    """A machine that shares only the target with the maker."""
    return ForkedMachine(forks, tmp_path / "user", target.location, target.environment)


def test_a_pull_gives_the_bytes_that_another_machine_pushed(target: PlainTarget, maker: Machine, user: Machine) -> None:
    uri = seed_pack(maker)
    assert maker.succeed("id") == uri
    assert maker.succeed("push", uri) == f"Pushed: {uri}"
    folder = Path(user.succeed("pull", uri))
    made = content_of(maker.work / "processed_data")
    assert content_of(folder) == made
    assert made["tool.sh"] == (b"#!/bin/sh\n", True)
    assert made["nothing/here"] is None
    assert audit_cache(user.cache) == [uri]
    assert leftovers(user.cache) == []
    copy = user.succeed("pull", uri, "--output", "got")
    assert content_of(user.work / copy) == made


def test_a_pack_is_an_oci_artifact_whose_config_is_the_contract(target: PlainTarget, maker: Machine) -> None:
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    found = audit_artifact(target, uri)
    assert found is not None
    manifest = found.manifest
    assert manifest["artifactType"] == "application/vnd.ctxpack.pack.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.ctxpack.contract.v1+json"
    assert manifest["config"]["digest"] == uri.removeprefix("ctx://")
    first, table, *others = manifest["layers"]
    assert table["mediaType"] == "application/vnd.ctxpack.table.v1"
    assert {layer["mediaType"] for layer in (first, *others)} == {"application/vnd.ctxpack.layer.v1.tar+gzip"}
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in manifest["layers"]]
    assert titles[:4] == ["000.tar.gz", "001.table", "002.tar.gz", "003.tar.gz"]
    assert len({*titles}) == len(titles)
    assert len(found.pieces) > 50  # of 64 KiB on average
    canonical = maker.succeed("id", "--canonical").encode()
    assert target.blob(manifest["config"]["digest"]) == canonical
    assert digest_of(canonical) == uri.removeprefix("ctx://")


def test_inspect_shows_the_contract_of_a_pack_that_is_only_on_the_target(
    target: PlainTarget, maker: Machine, user: Machine
) -> None:
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    shown = json.loads(user.succeed("inspect", uri, "--json"))
    assert (shown["uri"], shown["found_in"]) == (uri, target.location)
    assert shown["contract"]["transforms"][0]["params"] == {"dpi": 300}
    assert shown["contract"]["inputs"]["raw_docs"]["digest"].startswith("sha256:")
    assert shown["outputs"]["files"] == 7
    assert {"created", "creator", "versions"} <= set(shown["provenance"])
    text = user.succeed("inspect", uri)
    assert shown["contract"]["transforms"][0]["code_hash"] in text
    assert shown["outputs"]["digest"] in text
    assert audit_cache(user.cache) == []


def test_a_second_push_sends_nothing(maker: Machine) -> None:
    uri = seed_pack(maker)
    one = json.loads(maker.succeed("push", uri, "--json"))
    two = json.loads(maker.succeed("push", uri, "--json"))
    assert one["sent"] > len(LARGE)
    assert (two["sent"], two["new"]) == (0, False)
    assert one["image"] == two["image"]


def test_run_uses_a_pack_that_another_machine_pushed(maker: Machine, user: Machine) -> None:
    write_contract(maker.work)
    command = ("sh", "-c", "echo once >> ran; mkdir processed_data; echo index > processed_data/index")
    uri = maker.succeed("run", "--push", "--", *command).removeprefix("Seeded: ")
    assert maker.succeed("run", "--", *command) == f"Hit: {uri}"
    assert (maker.work / "ran").read_text() == "once\n"
    write_contract(user.work, command=command)  # the same contract, whether the file has the command or `run`
    assert user.succeed("run") == f"Hit: {uri}"
    assert not (user.work / "ran").exists()
    assert (user.work / "processed_data" / "index").read_text() == "index\n"


def test_a_changed_parameter_is_another_pack_and_a_miss(maker: Machine, user: Machine) -> None:
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    write_contract(user.work, dpi=301)
    done = user.run("run", "--", "sh", "-c", "echo computing; exit 7")
    assert (done.status, done.stdout) == (7, "")
    assert "computing\n" in done.stderr


def test_a_pack_and_its_folder_are_the_same_input(maker: Machine, user: Machine) -> None:
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    write_contract(user.work, inputs=[{"name": "docs", "uri": uri}])
    by_uri = user.succeed("id")
    assert audit_cache(user.cache) == []  # the digest of the outputs is enough
    folder = user.succeed("pull", uri)
    write_contract(user.work, inputs=[{"name": "docs", "path": folder}])
    assert user.succeed("id") == by_uri
    write_contract(user.work, inputs=[{"name": "docs", "uri": uri}])
    (user.work / "processed_data").mkdir()
    made = user.succeed("seed").removeprefix("Seeded: ")
    assert made == by_uri
    shown = json.loads(user.succeed("inspect", made, "--json"))
    assert shown["provenance"]["inputs"] == {"docs": {"uri": uri}}


def test_every_command_prints_one_json_document(target: PlainTarget, maker: Machine, user: Machine) -> None:
    uri = seed_pack(maker)
    name = target.location
    digest = json.loads(maker.succeed("inspect", uri, "--json"))["outputs"]["digest"]
    expected: list[tuple[tuple[str, ...], dict[str, object]]] = [
        (("seed",), {"uri": uri, "new": False}),
        (("push", uri), {"uri": uri, "registry": name, "new": True}),
        (("inspect", uri, "--skip-cache"), {"uri": uri, "found_in": name}),
        (("id",), {"uri": uri}),
        (("run", "--push"), {"uri": uri, "hit": True}),
        (("pull", uri, "-o", "got"), {"uri": uri, "folder": "got"}),
        (("rm", uri), {"removed": [uri], "missing": []}),
        (("ls",), {"packs": []}),
    ]
    for (command, *rest), members in expected:
        flags = ["--json", *rest]
        document = json.loads(maker.succeed(command, *flags))
        schema = "inspection" if command == "inspect" else command
        assert document.pop("schema") == f"ctxpack/{schema}/v1"
        assert members.items() <= document.items()
    user.succeed("pull", uri)
    (listed,) = json.loads(user.succeed("ls", "--json"))["packs"]
    assert (listed["uri"], listed["files"]) == (uri, 7)
    assert json.loads(user.succeed("inspect", uri, "--json"))["outputs"]["digest"] == digest


def test_the_default_target_is_a_layout_in_the_data_folder(tmp_path: Path, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "alone")
    uri = seed_pack(machine)
    machine.succeed("push", uri)
    machine.succeed("rm", uri)
    machine.succeed("inspect", uri)
    layout = Layout(machine.home / ".local" / "share" / "ctxpack" / "registry")
    assert audit_artifact(layout, uri) is not None


def test_inspect_fetches_only_the_image_manifest_the_first_layer_and_the_list_of_claims(
    tmp_path: Path, registry: RegistryServer, forks: Forks
) -> None:
    repository = Repository(registry)
    uri = seed_pack(machine := ForkedMachine(forks, tmp_path / "maker", repository.location))
    machine.succeed("push", uri)
    artifact = audit_artifact(repository, uri)
    assert artifact is not None
    with Relay(registry.address) as relay:
        user = ForkedMachine(forks, tmp_path / "user", repository.through(relay.address))
        user.succeed("inspect", uri)
        fetched = [request.path.partition("?")[0].rpartition("/")[2] for request in relay.seen("GET")]
        written = [request for request in relay.seen() if request.method not in ("GET", "HEAD")]
    image = f"sha256:{hashlib.sha256(repository.manifest(tag_of(uri)) or b'').hexdigest()}"
    assert fetched[:2] == [tag_of(uri), artifact.manifest["layers"][0]["digest"]]
    # registry:2 has no list of referrers: its 404 is that of a registry (/v2/), so the tag of the list is asked for.
    assert fetched[2:] == [image, "", image.replace(":", "-")]
    assert written == []


def only(made: dict[str, tuple[bytes, bool] | None], *paths: str) -> dict[str, tuple[bytes, bool] | None]:
    """Return the part of made that --include keeps for these paths, each a file or an empty folder."""
    folders = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents} - {"."}
    return {path: made[path] for path in {*paths, *folders}}


def test_included_outputs_arrive_byte_for_byte(maker: Machine, user: Machine) -> None:
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    made = content_of(maker.work / "processed_data")
    patterns = [flag for pattern in ("größe/", "tool.sh", "/nothing") for flag in ("--include", pattern)]
    expected = only(made, "sub/größe/読む.txt", "tool.sh", "nothing/here")
    for machine in (maker, user):  # from the cache, and from the target
        assert machine.succeed("pull", uri, *patterns, "-o", "some") == "some"
        assert content_of(machine.work / "some") == expected
    assert audit_cache(user.cache) == []
    assert leftovers(user.cache) == []
    done = user.run("pull", uri, "--include", "*.pdf", "-o", "none")
    assert (done.status, done.stdout) == (2, "")
    assert not (user.work / "none").exists()


def test_included_outputs_cost_only_the_requests_for_their_layers(
    tmp_path: Path, registry: RegistryServer, forks: Forks
) -> None:
    repository = Repository(registry)
    uri = seed_pack(machine := ForkedMachine(forks, tmp_path / "maker", repository.location))
    machine.succeed("push", uri)
    artifact = audit_artifact(repository, uri)
    assert artifact is not None
    layers = {layer["digest"]: layer["size"] for layer in artifact.manifest["layers"]}
    first, table, *others = layers
    with Relay(registry.address) as relay:
        user = ForkedMachine(forks, tmp_path / "user", repository.through(relay.address))
        pulled = json.loads(user.succeed("pull", uri, "--include", "tool.sh", "-o", "some", "--json"))
        fetched = [request.path.rpartition("/")[2] for request in relay.seen("GET")]
        ranges = [request.headers.get("range") for request in relay.seen("GET")]
        written = [request for request in relay.seen() if request.method not in ("GET", "HEAD")]
    assert (fetched[0], {*fetched[1:3]}) == (tag_of(uri), {first, table})
    assert fetched[3:] == [others[0], others[-1]]  # the listing is at the start of the rest, tool.sh at the end
    assert [one is None for one in ranges] == [True, True, True, False, False]
    assert pulled["received"] < layers[first] + layers[table] + 400_000
    assert (pulled["files"], pulled["size"], pulled["folder"]) == (1, len(b"#!/bin/sh\n"), "some")
    assert written == []


def test_a_second_push_is_one_request_without_a_body(tmp_path: Path, registry: RegistryServer, forks: Forks) -> None:
    repository = Repository(registry)
    with Relay(registry.address) as relay:
        machine = ForkedMachine(forks, tmp_path / "maker", repository.through(relay.address))
        uri = seed_pack(machine)
        machine.succeed("push", uri)
        assert sum(len(request.body) for request in relay.seen("PUT")) > len(LARGE)
        relay.forget()
        machine.succeed("push", uri)
        assert [request.method for request in relay.seen()] == ["GET"]


def test_a_pack_in_the_cache_is_pulled_without_a_request(
    tmp_path: Path, registry: RegistryServer, forks: Forks
) -> None:
    repository = Repository(registry)
    with Relay(registry.address) as relay:
        machine = ForkedMachine(forks, tmp_path / "maker", repository.through(relay.address))
        uri = seed_pack(machine)
        machine.succeed("pull", uri)
        machine.succeed("run")
        assert relay.seen() == []
