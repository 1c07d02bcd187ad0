"""Whom CtxPack trusts with what: passwords, settings of folders, and answers that look like "there is no such pack"."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from examples import NOWHERE, ask_registry, seed_pack
from forks import ForkedMachine, Forks
from machine import Finished, Machine
from plain_target import Repository
from relay import Answer, Forward, Relay, Request, Rule

from ctxpack_identity import AccessDenied, CtxPackError, InvalidInput, Unavailable, hash_tree
from registry2 import RegistryServer

HTML = {"Content-Type": "text/html"}


def not_found(request: Request, forward: Forward) -> Answer:
    """Answer as a web server does that has nothing to do with packs."""
    return Answer(404, HTML, b"<h1>Not Found</h1>")


@pytest.fixture
def repository(auth_registry: RegistryServer) -> Repository:
    """A repository that wants a password."""
    return Repository(auth_registry)


@pytest.fixture
def machine(tmp_path: Path, repository: Repository, forks: Forks) -> Machine:
    """A machine without a registry of its own, whose user has the password for one in the environment."""
    return ForkedMachine(forks, tmp_path / "machine", environment=repository.environment)


def folder_names(machine: Machine, location: str, folder: str = "ctxpack.toml") -> Path:
    """Let a folder's settings name a registry, as in a clone of somebody else's project. Return the file."""
    path = machine.work / folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'registry = "{location}"\n')
    return path


def user_names(machine: Machine, text: str) -> Path:
    """Write the user's own settings file. Return it."""
    path = machine.home / ".config" / "ctxpack" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def docker_config(machine: Machine, document: object) -> Path:
    path = machine.home / ".docker" / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def secrets_in(repository: Repository, relay: Relay, *done: Finished) -> list[str]:
    """Return the requests and texts that have the password."""
    server = repository.server
    pair = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
    texts = [f"{request.path} {dict(request.headers)} {request.body!r}" for request in relay.seen()]
    texts += [one.stdout + one.stderr for one in done]
    return [text for text in texts if pair in text or server.password in text]


# -- the credentials of the environment are for the registry that the user named --------------------------------------


def basic(relay: Relay) -> Rule:
    return lambda request, forward: Answer(401, {"WWW-Authenticate": 'Basic realm="give"'})


def bearer(relay: Relay) -> Rule:
    """Ask for a token of a service on the registry's own host, which would get the password."""
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{relay.address}/token",service="x"'}
    return lambda request, forward: Answer(401, {} if request.path.startswith("/token") else challenge)


@pytest.mark.parametrize(
    ("command", "ask"), [("inspect", basic), ("pull", bearer), ("push", basic), ("push", bearer), ("run", basic)]
)
def test_a_registry_that_a_folder_names_gets_no_password(
    repository: Repository, machine: Machine, command: str, ask: Callable[[Relay], Rule]
) -> None:
    uri = seed_pack(machine, command=["touch", "computed"])
    if command == "run":
        machine.succeed("rm", uri)
    with Relay() as relay:
        relay.rule = ask(relay)
        path = folder_names(machine, f"{relay.address}/team/packs")
        done = machine.run(command, *([] if command == "run" else [uri if command == "push" else NOWHERE]))
        assert relay.seen()
        assert secrets_in(repository, relay, done) == []
    assert (done.status, done.stdout) == (4, "")
    assert f"CTXPACK_USERNAME and CTXPACK_PASSWORD were not sent, because {path} names the registry: " in done.stderr
    assert f"`docker login {relay.address}`, or name the registry yourself with --registry, " in done.stderr
    assert not (machine.work / "computed").exists()


@pytest.mark.parametrize("where", ["above", "beside the contract file", "in a pulled pack"])
def test_wherever_the_folder_s_settings_lie(repository: Repository, machine: Machine, where: str) -> None:
    with Relay() as relay:
        relay.rule = basic(relay)
        location = f"{relay.address}/team/packs"
        if where == "above":
            folder_names(machine, location)
            (machine.work / "sub" / "sub").mkdir(parents=True)
            done = machine.run("pull", NOWHERE, folder=machine.work / "sub" / "sub")
        elif where == "in a pulled pack":
            folder_names(machine, location, "artifacts/ctxpack.toml")
            step = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}
            document = {"inputs": [], "transforms": [step], "outputs": [{"path": "artifacts"}]}
            (machine.work / "contract.json").write_text(json.dumps(document))
            uri = machine.succeed("seed", "-q").split()[-1]
            done = machine.run("pull", NOWHERE, folder=Path(machine.succeed("pull", uri)))
        else:
            folder_names(machine, location, "sub/ctxpack.toml")
            seed_pack(machine, command=["touch", "computed"])
            (machine.work / "contract.json").rename(machine.work / "sub" / "contract.json")
            done = machine.run("push", "--contract", "sub/contract.json", NOWHERE)
            if done.status == 2:  # this command takes no contract file
                done = machine.run("pull", NOWHERE, folder=machine.work / "sub")
        assert relay.seen()
        assert secrets_in(repository, relay, done) == []
    assert done.status == 4


@pytest.mark.parametrize("how", ["flag", "variable", "own settings", "own settings, another repository", "login"])
def test_a_registry_that_the_user_named_gets_the_password(repository: Repository, machine: Machine, how: str) -> None:
    server, uri = repository.server, seed_pack(machine)
    flags: list[str] = []
    folder_names(machine, repository.location)
    if how == "flag":
        flags = ["--registry", repository.location]
    elif how == "variable":
        machine.environment["CTXPACK_REGISTRY"] = repository.location
    elif how == "login":
        login = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
        docker_config(machine, {"auths": {server.address: {"auth": login}}})
    else:
        name = repository.location if how == "own settings" else f"{server.address}/mine"
        user_names(machine, f'registry = "{name}"\n')
    machine.succeed("push", uri, *flags)
    assert repository.manifest("ctx-" + uri.removeprefix("ctx://sha256:"))


@pytest.mark.parametrize(
    "users", ["https://{}/mine", "127.0.0.1:1/mine", "localhost:{port}/mine", "oci:{}", "nonsense", ""]
)
def test_the_user_s_own_settings_must_name_the_same_server(
    repository: Repository, machine: Machine, users: str
) -> None:
    with Relay() as relay:
        relay.rule = basic(relay)
        folder_names(machine, f"{relay.address}/team/packs")
        if users:
            user_names(machine, f'registry = "{users.format(relay.address, port=relay.port)}"\n')
        done = machine.run("pull", NOWHERE)
        assert secrets_in(repository, relay, done) == []
    assert done.status == 4


@pytest.mark.parametrize("who", ["folder", "user"])
def test_over_plain_http_no_password_is_sent(repository: Repository, machine: Machine, who: str) -> None:
    """A proxy reads what everybody on the way can: neither a stored login nor that of the environment."""
    server, location = repository.server, "http://reg.example.test/team/packs"
    login = base64.b64encode(f"{server.username}:{server.password}".encode()).decode()
    docker_config(machine, {"auths": {"reg.example.test": {"auth": login}}})
    if who == "folder":
        folder_names(machine, location)
    with Relay() as proxy:
        proxy.rule = basic(proxy)
        machine.environment["http_proxy"] = f"http://{proxy.address}"
        done = machine.run("pull", NOWHERE, *(["--registry", location] if who == "user" else []))
        assert proxy.seen(path="^http://reg.example.test/v2/team/packs/")
        assert secrets_in(repository, proxy, done) == []
    assert (done.status, done.stdout) == (4, "")
    assert "no password is sent over plain HTTP: use https://reg.example.test, or a registry on this" in done.stderr


def test_a_registry_that_a_folder_names_is_said_once(tmp_path: Path, registry: RegistryServer, forks: Forks) -> None:
    machine, location = ForkedMachine(forks, tmp_path / "machine"), Repository(registry).location
    path = folder_names(machine, location)
    seed_pack(machine, command=["sh", "-c", "mkdir -p artifacts; echo 1 > artifacts/x"])
    said = f"ctxpack: registry {location}, which {path} names\n"
    uri = machine.succeed("id", "-q")
    assert machine.run("push", uri).stderr.count(said) == 1
    assert said not in machine.run("push", uri, "-q").stderr
    assert said not in machine.run("push", uri, registry=location).stderr
    assert said not in machine.run("pull", uri).stderr  # a cache hit asks no registry
    machine.succeed("rm", uri)
    assert machine.run("pull", uri).stderr.count(said) == 1


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ls", "id", "pull"])
def test_a_folder_names_no_cache(machine: Machine, command: str) -> None:
    seed_pack(machine)
    path = machine.work / "ctxpack.toml"
    path.write_text('cache = "here"\n')
    done = machine.run(command, *([NOWHERE] if command == "pull" else []))
    assert (done.status, done.stdout) == (2, "")
    assert f"{path}: a folder's settings may not name the cache; write it in " in done.stderr
    assert "/ctxpack/config.toml, or use --cache or CTXPACK_CACHE" in done.stderr
    assert not (machine.work / "here").exists()


def test_the_user_names_a_cache(machine: Machine) -> None:
    del machine.environment["CTXPACK_CACHE"]
    user_names(machine, 'cache = "~/kept"\n')
    seed_pack(machine)
    assert (machine.home / "kept" / "v1").is_dir()


@pytest.mark.parametrize("value", ["x", "-1", "nan", "61"])
def test_a_wrong_settle_time_is_named(machine: Machine, value: str) -> None:
    machine.environment["CTXPACK_SETTLE"] = value
    done = machine.run("ls")
    assert done.status == 2
    assert f"CTXPACK_SETTLE: not a settle time: expected a number of seconds, 0 to 60, got {value!r}" in done.stderr


@pytest.mark.parametrize("home", ["", "relative", "~"])
@pytest.mark.parametrize("cache", ["", "~/kept"])
def test_without_a_home_folder_nothing_is_written_elsewhere(machine: Machine, home: str, cache: str) -> None:
    for name in [*machine.environment]:
        if name.startswith(("CTXPACK_", "XDG_")):
            del machine.environment[name]
    machine.environment |= {"HOME": home} | ({"CTXPACK_CACHE": cache} if cache else {})
    before = sorted(machine.work.iterdir())
    done = machine.run("ls")
    assert (done.status, done.stdout) == (2, "")
    assert "; set HOME, or name the cache with --cache or CTXPACK_CACHE" in done.stderr
    done = machine.run("pull", NOWHERE, "--cache", machine.cache)
    assert (done.status, done.stdout) == (2, "")
    assert (
        "~/.local/share/ctxpack/registry is not known; set HOME, an absolute path, or write oci:/folder" in done.stderr
    )
    assert machine.run("ls", "--cache", machine.cache).status == 0
    assert sorted(machine.work.iterdir()) == before


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("./packs", "'./packs' is a folder, not a registry; write oci:./packs for a folder"),
        ("../packs", "write oci:../packs for a folder"),
        ("/srv/packs", "write oci:/srv/packs for a folder"),
        ("~/packs", "write oci:~/packs for a folder"),
        ("packs", "'packs' is not a host; put the host first, or write https://packs/..., or oci:./packs for a folder"),
        ("file:///srv/packs", "write oci:/srv/packs for a folder"),
        ("127.0.0.1:1/packs/", "'/' at the end of the repository; write 127.0.0.1:1/packs"),
        ("127.0.0.1:1/team//packs", "'//' before a part of the repository; write 127.0.0.1:1/team/packs"),
        ("oci:packs\n", r"control character '\n' in the name: got 'oci:packs\n'; remove it"),
        ("127.0.0.1\x1b[2J:1/packs", r"control character '\x1b' in the name: got '127.0.0.1\x1b[2J:1/packs'"),
    ],
)
def test_a_wrong_location_is_told_what_to_write(machine: Machine, location: str, message: str) -> None:
    done = machine.run("push", seed_pack(machine), "--registry", location)
    assert (done.status, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.removesuffix("\n").isprintable()
    assert not [path for path in machine.work.iterdir() if path.name.startswith("packs")]


# -- the login files of docker and podman -----------------------------------------------------------------------------

LOGIN_FILES = [
    {"auths": None},
    {"credHelpers": None, "credsStore": None},
    {"auths": {"HOST": None, "ghcr.io": {"auth": None}}},
    {"auths": {"HOST": {"auth": None, "username": None}}},
    {"auths": {"HOST": {}}, "credsStore": "desktop"},
    {"credsStore": "desktop"},
    {"credHelpers": {"HOST": "desktop"}},
    {"auths": None, "credHelpers": {"HOST": None}, "credsStore": "desktop"},
    None,
]


@pytest.mark.parametrize("document", LOGIN_FILES)
def test_a_login_file_without_credentials_does_not_stop_anonymous_access(
    tmp_path: Path, registry: RegistryServer, document: object, forks: Forks
) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine", Repository(registry).location)
    docker_config(machine, json.dumps(document).replace("HOST", registry.address))
    done = machine.run("pull", NOWHERE)
    assert done.status == 3, done.stderr


@pytest.mark.parametrize(
    ("document", "works"),
    [
        *((document, "missing") for document in LOGIN_FILES if "desktop" in str(document)),
        ({"credHelpers": {"HOST": "desktop"}}, "failing"),
    ],
)
def test_where_a_login_is_needed_the_helper_that_does_not_work_is_named(
    repository: Repository, machine: Machine, document: object, works: str
) -> None:
    address = repository.server.address
    for name in repository.environment:
        del machine.environment[name]
    path = docker_config(machine, json.dumps(document).replace("HOST", address))
    why = "is not installed"
    if works == "failing":
        program = machine.home / "bin" / "docker-credential-desktop"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nexit 7\n")
        program.chmod(0o755)
        machine.environment["PATH"] = f"{program.parent}:{machine.environment['PATH']}"
        why = "ended with status 7"
    done = machine.run("pull", NOWHERE, registry=repository.location)
    assert (done.status, done.stdout) == (4, "")
    assert f"docker-credential-desktop (named in {path}) {why}: install, repair or remove it, " in done.stderr


# -- a 404 that is not a miss -----------------------------------------------------------------------------------------


def no_token(relay: Relay) -> Rule:
    """A registry whose token service has moved."""
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{relay.address}/token",service="x"'}
    document = b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
    return lambda request, forward: (
        Answer(404, {}, document) if request.path.startswith("/token") else Answer(401, challenge)
    )


def web_server(relay: Relay) -> Rule:
    return not_found


def page_at_v2(relay: Relay) -> Rule:
    """A web application that shows its page wherever it does not know better."""
    return lambda request, forward: (
        Answer(200, HTML, b"<html>")
        if request.path == "/v2/"
        else Answer(404, {"Content-Type": "application/json"}, b"{}")
    )


def elsewhere(relay: Relay) -> Rule:
    """A registry whose storage, at another address, is gone."""
    storage = f"http://localhost:{relay.port}/storage"
    return lambda request, forward: (
        not_found(request, forward) if request.path == "/storage" else Answer(307, {"Location": storage})
    )


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        *(("run", rule) for rule in (no_token, web_server, page_at_v2, elsewhere)),
        *((command, web_server) for command in ("pull", "inspect", "push")),
        *((command, no_token) for command in ("pull", "push")),
    ],
)
def test_a_404_of_something_else_is_no_miss(
    tmp_path: Path, command: str, rule: Callable[[Relay], Rule], forks: Forks
) -> None:
    with Relay() as relay:
        relay.rule = rule(relay)
        machine = ForkedMachine(forks, tmp_path / "machine", f"{relay.address}/team/packs")
        done = ask_registry(machine, command)
    assert (done.status, done.stdout) == (6, "")
    assert "answered 404" in done.stderr
    assert not (machine.work / "computed").exists()


def test_a_miss_costs_one_request(tmp_path: Path, registry: RegistryServer, forks: Forks) -> None:
    with Relay(registry.address) as relay:
        machine = ForkedMachine(forks, tmp_path / "machine", Repository(registry).through(relay.address))
        assert machine.run("pull", NOWHERE).status == 3
        assert len(relay.seen()) == 1


def test_a_registry_whose_404_has_no_document_is_asked_at_v2(
    tmp_path: Path, registry: RegistryServer, forks: Forks
) -> None:
    with Relay(registry.address) as relay:
        relay.rule = lambda request, forward: Answer(404) if "/manifests/" in request.path else forward(request)
        machine = ForkedMachine(forks, tmp_path / "machine", Repository(registry).through(relay.address))
        assert machine.run("pull", NOWHERE).status == 3
        assert [request.path for request in relay.seen()][1:] == ["/v2/"]


# -- URL inputs -------------------------------------------------------------------------------------------------------


def url_contract(machine: Machine, url: str) -> None:
    step = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}
    document = {"inputs": [{"name": "raw", "path": url}], "transforms": [step], "outputs": [{"path": "out"}]}
    (machine.work / "contract.json").write_text(json.dumps(document))


REFUSED, GONE, LATER = "the store refuses it", "no such object or folder", "the store did not give it"
CHANGED = "changed while it was read"
CLASSES: dict[str, type[CtxPackError]] = {
    REFUSED: AccessDenied,
    GONE: InvalidInput,
    CHANGED: InvalidInput,
    LATER: Unavailable,
}


def always(status: int) -> Rule:
    return lambda request, forward: Answer(status, HTML, b"<h1>hunter2</h1>")


def without_head(status: int) -> Rule:
    return lambda request, forward: Answer(405 if request.method == "HEAD" else status, HTML, b"<h1>hunter2</h1>")


def after_head(status: int) -> Rule:
    """The object is there when it is listed, and not when it is read."""
    return lambda request, forward: Answer(200, {}, b"raw") if request.method == "HEAD" else Answer(status)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        *((status, REFUSED) for status in (401, 403)),
        *((status, GONE) for status in (404, 410)),
        *((status, LATER) for status in (408, 425, 429, 500, 502, 503, 504, 599)),
    ],
)
@pytest.mark.parametrize("rule", [always, without_head, after_head])
def test_the_status_of_a_web_server_decides(status: int, message: str, rule: Callable[[int], Rule]) -> None:
    if rule is after_head and message == GONE:
        message = CHANGED
    with Relay(rule=rule(status)) as relay, pytest.raises(CtxPackError) as caught:
        hash_tree(f"http://{relay.address}/raw?signature=hunter2")
    assert type(caught.value) is CLASSES[message]
    assert str(caught.value).startswith(f"http://{relay.address}/raw: {message}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "exit_status", "message"), [(401, 4, REFUSED), (404, 2, GONE), (429, 6, LATER), (503, 6, LATER)]
)
def test_the_exit_code_is_that_of_the_cause(
    tmp_path: Path, status: int, exit_status: int, message: str, forks: Forks
) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    with Relay(rule=always(status)) as relay:
        url_contract(machine, f"http://{relay.address}/raw?signature=hunter2")
        done = machine.run("id")
    assert (done.status, done.stdout) == (exit_status, "")
    assert f"http://{relay.address}/raw: {message}" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/raw", "https://127.0.0.1:1/raw", "http://nothing.invalid/raw"])
def test_a_web_server_that_cannot_be_reached_is_unavailable(tmp_path: Path, url: str, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    url_contract(machine, url)
    done = machine.run("id")
    assert (done.status, done.stdout) == (6, "")
    assert f"{url}: {LATER}" in done.stderr


@pytest.mark.parametrize(
    "answer",
    [
        Answer(302, {"Location": "/raw"}),
        Answer(200, {}, b"raw" * 100, pause_at=10),
        Answer(200, {"X": "y" * 100_000}, b"raw"),
    ],
    ids=["in circles", "broken off", "long header"],
)
def test_a_web_server_that_answers_nonsense_is_unavailable(answer: Answer) -> None:
    with (
        Relay(rule=lambda request, forward: answer) as relay,
        pytest.raises(Unavailable, match=f"^http://{relay.address}/raw: {LATER}"),
    ):
        hash_tree(f"http://{relay.address}/raw")
