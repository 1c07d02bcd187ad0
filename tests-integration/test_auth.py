"""Authentication: a password is needed, and it goes to the registry that it is for and to no other host."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from examples import NOWHERE, ask_registry, seed_pack
from faults import holding, where
from forks import ForkedMachine, Forks
from machine import Machine
from plain_target import Repository
from relay import Answer, Forward, Relay, Request

from registry2 import RegistryServer


def basic(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def docker_login(machine: Machine, host: str, username: str, password: str, file: str = ".docker/config.json") -> None:
    """Write what ``docker login`` stores when there is no credential helper."""
    path = machine.home / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {host: {"auth": basic(username, password)}}}), encoding="utf-8")


@pytest.fixture
def repository(auth_registry: RegistryServer) -> Repository:
    return Repository(auth_registry)


@pytest.fixture
def machine(tmp_path: Path, repository: Repository, forks: Forks) -> Machine:
    """A machine without credentials."""
    return ForkedMachine(forks, tmp_path / "machine", repository.location)


@pytest.mark.parametrize("file", [".docker/config.json", ".config/containers/auth.json"])
def test_the_stored_login_of_docker_and_of_podman_is_used(repository: Repository, machine: Machine, file: str) -> None:
    server = repository.server
    docker_login(machine, server.address, server.username, server.password, file)
    uri = seed_pack(machine)
    machine.succeed("push", uri)
    machine.succeed("rm", uri)
    machine.succeed("pull", uri)


def test_the_environment_wins_over_a_stored_login(repository: Repository, machine: Machine) -> None:
    docker_login(machine, repository.server.address, repository.server.username, "outdated")
    machine.environment |= repository.environment
    machine.succeed("push", seed_pack(machine))


def test_credentials_of_another_host_are_not_used(repository: Repository, machine: Machine) -> None:
    docker_login(machine, "127.0.0.1:1", repository.server.username, repository.server.password)
    assert machine.run("pull", NOWHERE).status == 4


@pytest.mark.parametrize("password", ["", "wrong horse"])
@pytest.mark.parametrize("command", ["pull", "inspect", "push", "run"])
def test_a_wrong_or_missing_password_is_exit_4_and_never_a_miss(
    repository: Repository, machine: Machine, command: str, password: str
) -> None:
    if password:
        machine.environment |= {"CTXPACK_USERNAME": repository.server.username, "CTXPACK_PASSWORD": password}
    done = ask_registry(machine, command)
    assert (done.status, done.stdout) == (4, "")
    assert "answered 401" in done.stderr
    assert repository.location in done.stderr
    assert f"`docker login {repository.server.address}`" in done.stderr
    assert "CTXPACK_PASSWORD" in done.stderr
    assert "wrong horse" not in done.stderr
    assert not (machine.work / "computed").exists()


def test_a_user_name_without_a_password_is_an_error(machine: Machine) -> None:
    machine.environment["CTXPACK_USERNAME"] = "cook"
    done = machine.run("pull", NOWHERE)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr == "ctxpack: error: CTXPACK_PASSWORD: not set; set both, or neither\n"


def test_a_password_appears_neither_in_output_nor_in_the_list_of_processes(
    repository: Repository, machine: Machine
) -> None:
    machine.environment |= repository.environment
    uri = seed_pack(machine)
    secrets = (repository.server.password, basic(repository.server.username, repository.server.password))
    with Relay(repository.server.address) as relay:
        hold = relay.hold()
        relay.rule = where(holding(hold), method="PUT", path="/blobs/uploads/")
        started = machine.start("push", uri, registry=repository.through(relay.address))
        hold.until_reached()
        seen = Path(f"/proc/{started.pid}/cmdline").read_bytes().decode()
        hold.release()
        done = started.finish()
        assert f"Basic {secrets[1]}" in {request.headers.get("authorization") for request in relay.seen("PUT")}
    assert done.status == 0
    assert uri in seen
    assert not [secret for secret in secrets for text in (seen, done.stdout, done.stderr) if secret in text]


def test_no_password_is_sent_before_the_registry_asks_for_one(
    tmp_path: Path, registry: RegistryServer, forks: Forks
) -> None:
    repository = Repository(registry)
    credentials = {"CTXPACK_USERNAME": "cook", "CTXPACK_PASSWORD": "for another registry"}
    with Relay(registry.address) as relay:
        machine = ForkedMachine(forks, tmp_path / "machine", repository.through(relay.address), credentials)
        machine.succeed("push", seed_pack(machine))
        assert [request for request in relay.seen() if "authorization" in request.headers] == []


def test_a_redirect_to_another_server_carries_no_password(repository: Repository, machine: Machine) -> None:
    machine.environment |= repository.environment
    uri = seed_pack(machine)
    machine.succeed("push", uri)
    machine.succeed("rm", uri)
    with Relay() as storage, Relay(repository.server.address) as relay:

        def serve(request: Request, forward: Forward) -> Answer:
            return Answer(200, {}, repository.blob(request.path.removeprefix("/signed/")))

        def redirect(request: Request, forward: Forward) -> Answer:
            answer = forward(request)
            if answer.status == 401:
                return answer
            digest = request.path.rpartition("/")[2]
            return Answer(307, {"Location": f"http://{storage.address}/signed/{digest}"})

        storage.rule = serve
        relay.rule = where(redirect, method="GET", path="/blobs/")
        machine.succeed("pull", uri, registry=repository.through(relay.address))
        assert len(storage.seen("GET", "/signed/")) == 4  # first layer, table, two layers of chunks
        assert {header for request in storage.seen() for header in request.headers} <= {
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
        }
        assert any("authorization" in request.headers for request in relay.seen("GET", "/blobs/"))


def test_a_token_service_on_another_host_gets_no_password(repository: Repository, machine: Machine) -> None:
    machine.environment |= repository.environment
    with Relay() as other, Relay() as relay:
        other.rule = lambda request, forward: Answer(200, {}, b'{"token": "anonymous"}')
        # A forged challenge names another host. localhost is another host than 127.0.0.1.
        realm = f'Bearer realm="http://localhost:{other.port}/token",service="x"'
        relay.rule = lambda request, forward: Answer(401, {"WWW-Authenticate": realm})
        done = machine.run("pull", NOWHERE, registry=repository.through(relay.address))
        (request,) = other.seen()
    assert "authorization" not in request.headers
    assert repository.server.password not in request.path
    assert done.status == 4
    assert "the credentials were not sent to localhost" in done.stderr


def test_a_challenge_of_another_server_gets_no_password(repository: Repository, machine: Machine) -> None:
    machine.environment |= repository.environment
    with Relay() as other, Relay() as relay:
        other.rule = lambda request, forward: Answer(401, {"WWW-Authenticate": 'Basic realm="give"'})
        relay.rule = lambda request, forward: Answer(307, {"Location": f"http://{other.address}{request.path}"})
        done = machine.run("pull", NOWHERE, registry=repository.through(relay.address))
        assert [request for request in other.seen() if "authorization" in request.headers] == []
        assert len(other.seen()) == 1
    assert done.status == 4
