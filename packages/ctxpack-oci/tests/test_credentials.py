"""Where credentials are found, in which order, and the errors for broken files and helpers."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity.errors import InvalidInput
from ctxpack_oci.credentials import Credentials, advice_for, find_login


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def auth(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def docker(home: Path, document: Any) -> Path:
    return write(home / ".docker" / "config.json", document)


def found(host: str, environ: dict[str, str], repository: str = "") -> tuple[str, str] | None:
    credentials = find_login(host, environ, repository=repository).credentials
    return (credentials.username, credentials.password or credentials.identity_token) if credentials else None


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path, tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": str(tmp_path / "bin")}


def helper(tmp_path: Path, name: str, script: str) -> None:
    program = write(tmp_path / "bin" / f"docker-credential-{name}", f"#!/bin/sh\nread server\n{script}\n")
    program.chmod(0o755)


def test_without_a_login_there_are_no_credentials(environ: dict[str, str]) -> None:
    assert find_login("ghcr.io", environ).credentials is None
    assert find_login("ghcr.io", {}).credentials is None


def test_the_variables_come_first(home: Path, environ: dict[str, str]) -> None:
    docker(home, {"auths": {"ghcr.io": auth("docker", "x")}})
    environ |= {"CTXPACK_USERNAME": "ann", "CTXPACK_PASSWORD": "secret"}
    assert found("ghcr.io", environ) == ("ann", "secret")


@pytest.mark.parametrize(("only", "missing"), [("USERNAME", "PASSWORD"), ("PASSWORD", "USERNAME")])
def test_one_variable_without_the_other_is_named(environ: dict[str, str], only: str, missing: str) -> None:
    with pytest.raises(InvalidInput, match=f"^CTXPACK_{missing}: not set; set both, or neither$"):
        find_login("ghcr.io", {**environ, f"CTXPACK_{only}": "x"})


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("GHCR.io", "ghcr.io"),
        ("localhost:5000", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "registry-1.docker.io"),
        ("docker.io", "index.docker.io"),
    ],
)
def test_every_form_in_which_docker_writes_a_host(home: Path, environ: dict[str, str], key: str, host: str) -> None:
    docker(home, {"auths": {key: auth("ann", "se:cret")}, "currentContext": "ignored"})
    assert found(host, environ) == ("ann", "se:cret")
    assert found("other.example", environ) is None
    assert found("io", environ) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "ann", "password": "x"}, ("ann", "x")),
        ({"auth": base64.b64encode(b"ann:x\0").decode()}, ("ann", "x")),
        (auth("00000000-0000-0000-0000-000000000000", "") | {"identitytoken": "refresh"}, None),
        ({"identitytoken": "refresh"}, ("", "refresh")),
        ({}, None),
        (None, None),
    ],
)
def test_every_form_in_which_docker_writes_an_entry(
    home: Path, environ: dict[str, str], entry: Any, expected: tuple[str, str] | None
) -> None:
    docker(home, {"auths": {"ghcr.io": entry}})
    if entry and "auth" in entry and "identitytoken" in entry:
        expected = ("00000000-0000-0000-0000-000000000000", "refresh")
    assert found("ghcr.io", environ) == expected


def test_docker_config_replaces_the_home_folder(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    docker(home, {"auths": {"ghcr.io": auth("home", "x")}})
    write(tmp_path / "other" / "config.json", {"auths": {"ghcr.io": auth("other", "x")}})
    assert found("ghcr.io", {**environ, "DOCKER_CONFIG": str(tmp_path / "other")}) == ("other", "x")
    assert found("ghcr.io", {**environ, "DOCKER_CONFIG": str(tmp_path / "none")}) is None


def test_podmans_files_come_after_dockers(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    environ["XDG_RUNTIME_DIR"] = str(tmp_path / "run")
    write(home / ".config" / "containers" / "auth.json", {"auths": {"ghcr.io": auth("config", "x")}})
    assert found("ghcr.io", environ) == ("config", "x")
    write(tmp_path / "run" / "containers" / "auth.json", {"auths": {"ghcr.io": auth("run", "x")}})
    assert found("ghcr.io", environ) == ("run", "x")
    write(tmp_path / "named.json", {"auths": {"ghcr.io": auth("named", "x")}})
    assert found("ghcr.io", {**environ, "REGISTRY_AUTH_FILE": str(tmp_path / "named.json")}) == ("named", "x")
    docker(home, {"auths": {"ghcr.io": auth("docker", "x")}})
    assert found("ghcr.io", environ) == ("docker", "x")


def test_the_longest_key_wins(home: Path, environ: dict[str, str]) -> None:
    keys = ["quay.io", "quay.io/team", "quay.io/team/packs", "quay.io/team/packs/deeper", "quay.io/te"]
    docker(home, {"auths": {key: auth(key, "x") for key in keys}})
    assert found("quay.io", environ, "team/packs") == ("quay.io/team/packs", "x")
    assert found("quay.io", environ, "team/other") == ("quay.io/team", "x")
    assert found("quay.io", environ, "alone") == ("quay.io", "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "malformed: "),
        ("[]", "malformed: Expected `object \\| null`"),
        ("\udcff", "malformed: "),
        ('{"auths":{"ghcr.io":{"auth":"%%%"}}}', r"malformed: auths\[ghcr.io\].auth is not base64 of UTF-8"),
        ('{"auths":{"ghcr.io":{"auth":"/w=="}}}', r"malformed: auths\[ghcr.io\].auth is not base64 of UTF-8"),
        ('{"auths":{"ghcr.io":{"auth":"YW5u"}}}', r"malformed: auths\[ghcr.io\].auth has no ':'"),
        ('{"auths":{"ghcr.io":{"password":7}}}', r"malformed: Expected `str \| null`, got `int`"),
        ('{"credHelpers":{"ghcr.io":"../../bin/sh"}}', "malformed: credential helper '../../bin/sh' is not the name"),
        (" " * (2**20 + 1), "malformed: more than 1048576 bytes"),
    ],
)
def test_a_malformed_file_is_named(home: Path, environ: dict[str, str], content: str, message: str) -> None:
    path = home / ".docker" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInput, match=f"^{path}: {message}") as caught:
        find_login("ghcr.io", environ)
    assert str(caught.value).endswith("; correct it, or log in again")


def test_a_file_that_cannot_be_read_is_named(home: Path, environ: dict[str, str]) -> None:
    (home / ".docker" / "config.json").mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"config.json: cannot be read: Is a directory"):
        find_login("ghcr.io", environ)


def test_secrets_are_not_shown() -> None:
    credentials = Credentials(username="ann", password="secret", identity_token="hidden", source="x")
    for text in (repr(credentials), str(credentials), f"{credentials}", repr([credentials])):
        assert "secret," not in text
        assert "'secret'" not in text
        assert "hidden'" not in text
        assert "ann" in text


# -- credential helpers -----------------------------------------------------------------------------------------------


def test_a_helper_is_asked_for_its_host(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    helper(
        tmp_path, "x", 'echo "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"ann\\",\\"Secret\\":\\"$1 $server\\"}"'
    )
    docker(home, {"auths": {"ghcr.io": auth("file", "x")}, "credHelpers": {"ghcr.io": "x"}})
    assert found("ghcr.io", environ) == ("ann", "get ghcr.io")


def test_docker_hub_is_asked_for_by_its_old_key(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    helper(tmp_path, "x", 'echo "{\\"Username\\":\\"ann\\",\\"Secret\\":\\"$server\\"}"')
    docker(home, {"credsStore": "x"})
    assert found("docker.io", environ) == ("ann", "https://index.docker.io/v1/")


def test_a_helper_gets_no_secret_of_ctxpack(
    home: Path, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr("ctxpack_identity.secrets.keep_from_children", lambda: closed.append(True))
    docker(home, {"credHelpers": {"ghcr.io": "x"}})
    helper(tmp_path, "x", f'/usr/bin/env > {tmp_path}/seen; echo \'{{"Username":"ann","Secret":"t"}}\'')
    environ |= {"CTXPACK_KEY": "k", "CTXPACK_KEY_PASSWORD": "k", "CTXPACK_PASSWORD": "p", "CTXPACK_USERNAME": "u"}
    login = find_login("ghcr.io", environ | {"AWS_PROFILE": "team"}, named_by="clone/ctxpack.toml")
    assert login.credentials is not None
    assert login.credentials.username == "ann"
    seen = (tmp_path / "seen").read_text()
    assert "CTXPACK_" not in seen
    assert "AWS_PROFILE=team" in seen  # some helpers need it
    assert closed  # before the helper could look


def test_a_helper_may_give_an_identity_token(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    helper(tmp_path, "x", """echo '{"Username":"<token>","Secret":"refresh"}'""")
    docker(home, {"credsStore": "x"})
    credentials = find_login("ghcr.io", environ).credentials
    assert credentials is not None
    assert credentials.identity_token == "refresh"
    assert credentials.password == ""


def test_after_a_helper_without_credentials_the_next_place_is_used(
    home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    helper(tmp_path, "x", "echo 'credentials not found in native keychain'; exit 1")
    docker(home, {"auths": {"ghcr.io": {}}, "credsStore": "x"})
    assert found("ghcr.io", environ) is None
    write(home / ".config" / "containers" / "auth.json", {"auths": {"ghcr.io": auth("podman", "x")}})
    assert found("ghcr.io", environ) == ("podman", "x")


def test_a_missing_helper_does_not_matter_where_another_place_has_the_credentials(
    home: Path, environ: dict[str, str]
) -> None:
    docker(home, {"auths": {"ghcr.io": auth("ann", "x")}, "credHelpers": {"ghcr.io": "gone"}, "credsStore": "gone"})
    assert found("ghcr.io", environ) == ("ann", "x")


def test_a_missing_global_store_does_not_matter_for_a_host_it_was_never_given(
    home: Path, environ: dict[str, str]
) -> None:
    docker(home, {"auths": {"other.example": {}}, "credsStore": "gone"})
    assert found("ghcr.io", environ) is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "is not installed"),
        ("exit 3", "ended with status 3"),
        ("echo nonsense", "did not answer in JSON"),
        ("kill -9 $$", "ended with status -9"),
        ("#not a program", "failed: Exec format error"),
    ],
)
@pytest.mark.parametrize(
    "config",
    [
        {"credHelpers": {"ghcr.io": "x"}},
        {"auths": {"ghcr.io": {}}, "credsStore": "x"},
        {"auths": {"ghcr.io": None}, "credHelpers": None, "credsStore": "x"},
        {"credHelpers": {"ghcr.io": "x"}, "credsStore": "x"},
    ],
)
def test_a_broken_helper_is_no_error_and_named_in_the_advice(
    home: Path, environ: dict[str, str], tmp_path: Path, script: str | None, why: str, config: dict[str, Any]
) -> None:
    if script and script.startswith("#"):
        write(tmp_path / "bin" / "docker-credential-x", "\x7fELF").chmod(0o755)
    elif script:
        helper(tmp_path, "x", script)
    path = docker(home, config)
    login = find_login("ghcr.io", environ)
    assert login.credentials is None
    assert login.advice == (
        f"docker-credential-x (named in {path}) {why}: install, repair or remove it, `docker login ghcr.io`, "
        "or set CTXPACK_USERNAME and CTXPACK_PASSWORD"
    )


def test_a_slow_helper_is_no_error(
    home: Path, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxpack_oci.credentials.HELPER_SECONDS", 0.05)
    helper(tmp_path, "x", "exec sleep 60")
    environ["PATH"] += f":{os.environ['PATH']}"
    docker(home, {"credHelpers": {"ghcr.io": "x"}})
    assert "did not answer in 0 seconds: install" in find_login("ghcr.io", environ).advice


def test_a_broken_helper_is_named_beside_the_credentials_of_the_next_place(home: Path, environ: dict[str, str]) -> None:
    path = docker(home, {"credHelpers": {"ghcr.io": "gone"}})
    podman = write(home / ".config" / "containers" / "auth.json", {"auths": {"ghcr.io": auth("podman", "x")}})
    login = find_login("ghcr.io", environ)
    assert login.credentials is not None
    assert login.advice == (
        f"docker-credential-gone (named in {path}) is not installed: install, repair or remove it, check the "
        f"credentials from {podman}, `docker login ghcr.io`, or set CTXPACK_USERNAME and CTXPACK_PASSWORD"
    )


def test_after_credentials_no_other_place_is_asked(home: Path, environ: dict[str, str]) -> None:
    docker(home, {"auths": {"quay.io/team": auth("ann", "x"), "quay.io": {"auth": "%%%"}}})
    write(home / ".config" / "containers" / "auth.json", "nonsense")
    assert found("quay.io", environ, "team/packs") == ("ann", "x")


# -- null -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        "",
        " \n",
        "null",
        {},
        {"auths": None},
        {"credHelpers": None},
        {"credsStore": None},
        {"credsStore": ""},
        {"auths": None, "credHelpers": None, "credsStore": None, "HttpHeaders": None},
        {"auths": {}, "credHelpers": {"ghcr.io": None}},
        {"credHelpers": {"ghcr.io": ""}, "credsStore": "gone"},
        {"auths": {"ghcr.io": None}},
        {"auths": {"ghcr.io": {"auth": None}}},
        {"auths": {"ghcr.io": {"auth": None, "username": None, "password": None, "identitytoken": None}}},
        {"auths": {"ghcr.io": {"auth": "", "email": None}, "other.example": {"auth": None}}},
    ],
)
def test_null_is_as_good_as_nothing(home: Path, environ: dict[str, str], document: Any) -> None:
    docker(home, document)
    login = find_login("ghcr.io", environ)
    assert login.credentials is None
    assert login.advice == advice_for("ghcr.io", None)
    assert login.advice == "`docker login ghcr.io`, or set CTXPACK_USERNAME and CTXPACK_PASSWORD"


@pytest.mark.parametrize(
    "nulls", [{"username": None}, {"password": None}, {"identitytoken": None}, {"identitytoken": None, "email": None}]
)
def test_null_beside_credentials_is_as_good_as_nothing(
    home: Path, environ: dict[str, str], nulls: dict[str, None]
) -> None:
    docker(home, {"auths": {"ghcr.io": {**auth("ann", "x"), **nulls}}, "credHelpers": None, "credsStore": None})
    assert found("ghcr.io", environ) == ("ann", "x")


def test_a_helper_that_is_null_leaves_the_global_store(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    helper(tmp_path, "x", """echo '{"ServerURL":null,"Username":"ann","Secret":"s"}'""")
    docker(home, {"credHelpers": {"ghcr.io": None}, "credsStore": "x"})
    assert found("ghcr.io", environ) == ("ann", "s")


def test_a_helper_may_answer_null(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    helper(tmp_path, "x", """echo '{"Username":null,"Secret":null}'""")
    docker(home, {"credsStore": "x"})
    assert found("ghcr.io", environ) is None


# -- a registry that the user did not name ----------------------------------------------------------------------------

YOURSELF = "name the registry yourself with --registry, CTXPACK_REGISTRY or your own settings file"


@pytest.mark.parametrize(
    "given", [{"CTXPACK_USERNAME": "ann", "CTXPACK_PASSWORD": "secret"}, {"CTXPACK_USERNAME": "ann"}]
)
def test_the_variables_are_not_for_a_registry_that_somebody_else_named(
    environ: dict[str, str], given: dict[str, str]
) -> None:
    login = find_login("ghcr.io", environ | given, named_by="/clone/ctxpack.toml")
    assert login.credentials is None
    assert login.advice == (
        "CTXPACK_USERNAME and CTXPACK_PASSWORD were not sent, because /clone/ctxpack.toml names the registry: "
        f"`docker login ghcr.io`, or {YOURSELF}"
    )


def test_without_variables_the_advice_is_how_they_would_be_used(environ: dict[str, str]) -> None:
    login = find_login("ghcr.io", environ, named_by="/clone/ctxpack.toml")
    assert login.advice == (f"`docker login ghcr.io`, or set CTXPACK_USERNAME and CTXPACK_PASSWORD and {YOURSELF}")


def test_a_login_for_a_host_is_used_whoever_named_the_registry(home: Path, environ: dict[str, str]) -> None:
    docker(home, {"auths": {"ghcr.io": auth("docker", "x")}})
    environ |= {"CTXPACK_USERNAME": "ann", "CTXPACK_PASSWORD": "secret"}
    login = find_login("ghcr.io", environ, named_by="/clone/ctxpack.toml")
    assert login.credentials is not None
    assert login.credentials.username == "docker"


def test_a_relative_home_folder_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path / "home", {"auths": {"ghcr.io": auth("ann", "x")}})
    monkeypatch.chdir(tmp_path)
    for home in ("home", "./home", ""):
        assert find_login("ghcr.io", {"HOME": home}).credentials is None
