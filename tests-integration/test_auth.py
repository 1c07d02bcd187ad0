"""Who may do what, and where a password goes: to the registry it is for, and nowhere else."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from machine import Machine
from mischief import holding, where
from recipe import seed_pack
from relay import Answer, Asked, Forward, Relay
from shelf import RegistryShelf

from registry2 import RegistryServer

NOWHERE = "ctx://sha256:" + "0" * 64


def basic(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def docker_login(machine: Machine, host: str, username: str, password: str, file: str = ".docker/config.json") -> None:
    """Leave behind what ``docker login`` does without a credential helper."""
    path = machine.home / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {host: {"auth": basic(username, password)}}}), encoding="utf-8")


@pytest.fixture
def shelf(auth_registry: RegistryServer) -> RegistryShelf:
    return RegistryShelf(auth_registry)


@pytest.fixture
def stranger(tmp_path: Path, shelf: RegistryShelf) -> Machine:
    """A machine on which nobody has logged in."""
    return Machine(tmp_path / "stranger", shelf.location)


@pytest.mark.parametrize("file", [".docker/config.json", ".config/containers/auth.json"])
def test_what_docker_and_podman_login_stored_opens_the_registry(
    shelf: RegistryShelf, stranger: Machine, file: str
) -> None:
    server = shelf.server
    docker_login(stranger, server.address, server.username, server.password, file)
    uri = seed_pack(stranger)
    stranger.succeed("push", uri)
    stranger.succeed("rm", uri)
    stranger.succeed("pull", uri)


def test_the_environment_wins_over_what_was_stored(shelf: RegistryShelf, stranger: Machine) -> None:
    docker_login(stranger, shelf.server.address, shelf.server.username, "outdated")
    stranger.environment |= shelf.environment
    stranger.succeed("push", seed_pack(stranger))


def test_credentials_of_another_host_are_not_used(shelf: RegistryShelf, stranger: Machine) -> None:
    docker_login(stranger, "127.0.0.1:1", shelf.server.username, shelf.server.password)
    assert stranger.run("pull", NOWHERE).status == 4


@pytest.mark.parametrize("password", ["", "wrong horse"])
@pytest.mark.parametrize("command", ["pull", "inspect", "push", "run"])
def test_a_wrong_password_or_none_is_refused_and_never_a_miss(
    shelf: RegistryShelf, stranger: Machine, command: str, password: str
) -> None:
    if password:
        stranger.environment |= {"CTXPACK_USERNAME": shelf.server.username, "CTXPACK_PASSWORD": password}
    uri = seed_pack(stranger)
    if command == "run":
        stranger.succeed("rm", uri)
        done = stranger.run("run", "--", "touch", "computed")
    else:
        done = stranger.run(command, uri if command == "push" else NOWHERE)
    assert (done.status, done.stdout) == (4, "")
    assert "answered 401" in done.stderr
    assert shelf.location in done.stderr
    assert f"`docker login {shelf.server.address}`" in done.stderr
    assert "CTXPACK_PASSWORD" in done.stderr
    assert "wrong horse" not in done.stderr
    assert not (stranger.work / "computed").exists()


def test_half_a_pair_of_variables_is_named(stranger: Machine) -> None:
    stranger.environment["CTXPACK_USERNAME"] = "cook"
    done = stranger.run("pull", NOWHERE)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr == "ctxpack: error: CTXPACK_PASSWORD: not set; set both, or neither\n"


def test_a_password_shows_neither_in_output_nor_in_the_list_of_processes(
    shelf: RegistryShelf, stranger: Machine
) -> None:
    stranger.environment |= shelf.environment
    uri = seed_pack(stranger)
    secrets = (shelf.server.password, basic(shelf.server.username, shelf.server.password))
    with Relay(shelf.server.address) as relay:
        hold = relay.hold()
        relay.trick = where(holding(hold), method="PUT", path="/blobs/uploads/")
        started = stranger.start("push", uri, registry=shelf.through(relay.address))
        hold.until_reached()
        seen = Path(f"/proc/{started.pid}/cmdline").read_bytes().decode()
        hold.release()
        done = started.finish()
        assert f"Basic {secrets[1]}" in {asked.headers.get("authorization") for asked in relay.seen("PUT")}
    assert done.status == 0
    assert uri in seen
    assert not [secret for secret in secrets for text in (seen, done.stdout, done.stderr) if secret in text]


def test_a_registry_is_not_sent_a_password_before_it_asks(tmp_path: Path, registry: RegistryServer) -> None:
    open_shelf = RegistryShelf(registry)
    credentials = {"CTXPACK_USERNAME": "cook", "CTXPACK_PASSWORD": "for another registry"}
    with Relay(registry.address) as relay:
        machine = Machine(tmp_path / "machine", open_shelf.through(relay.address), credentials)
        machine.succeed("push", seed_pack(machine))
        assert [asked for asked in relay.seen() if "authorization" in asked.headers] == []


def test_a_redirect_to_another_server_does_not_take_the_password_along(shelf: RegistryShelf, stranger: Machine) -> None:
    stranger.environment |= shelf.environment
    uri = seed_pack(stranger)
    stranger.succeed("push", uri)
    stranger.succeed("rm", uri)
    with Relay() as storage, Relay(shelf.server.address) as relay:

        def serve(asked: Asked, forward: Forward) -> Answer:
            return Answer(200, {}, shelf.blob(asked.path.removeprefix("/signed/")))

        def redirect(asked: Asked, forward: Forward) -> Answer:
            answer = forward(asked)
            if answer.status == 401:
                return answer
            digest = asked.path.rpartition("/")[2]
            return Answer(307, {"Location": f"http://{storage.address}/signed/{digest}"})

        storage.trick = serve
        relay.trick = where(redirect, method="GET", path="/blobs/")
        stranger.succeed("pull", uri, registry=shelf.through(relay.address))
        assert len(storage.seen("GET", "/signed/")) > 4
        assert {header for asked in storage.seen() for header in asked.headers} <= {
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
        }
        assert any("authorization" in asked.headers for asked in relay.seen("GET", "/blobs/"))


def test_a_token_service_on_another_host_is_not_given_the_password(shelf: RegistryShelf, stranger: Machine) -> None:
    stranger.environment |= shelf.environment
    with Relay() as other, Relay() as relay:
        other.trick = lambda asked, forward: Answer(200, {}, b'{"token": "anonymous"}')
        # The same machine, but a host by another name: what a hijacked challenge would say.
        realm = f'Bearer realm="http://localhost:{other.port}/token",service="x"'
        relay.trick = lambda asked, forward: Answer(401, {"WWW-Authenticate": realm})
        done = stranger.run("pull", NOWHERE, registry=shelf.through(relay.address))
        (asked,) = other.seen()
    assert "authorization" not in asked.headers
    assert shelf.server.password not in asked.path
    assert done.status == 4
    assert "the credentials were not sent to localhost" in done.stderr


def test_a_challenge_by_another_server_is_not_answered(shelf: RegistryShelf, stranger: Machine) -> None:
    stranger.environment |= shelf.environment
    with Relay() as other, Relay() as relay:
        other.trick = lambda asked, forward: Answer(401, {"WWW-Authenticate": 'Basic realm="give"'})
        relay.trick = lambda asked, forward: Answer(307, {"Location": f"http://{other.address}{asked.path}"})
        done = stranger.run("pull", NOWHERE, registry=shelf.through(relay.address))
        assert [asked for asked in other.seen() if "authorization" in asked.headers] == []
        assert len(other.seen()) == 1
    assert done.status == 4
