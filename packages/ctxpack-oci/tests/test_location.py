"""The locations that a user may write."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity.errors import InvalidInput
from ctxpack_oci import LayoutLocation, RegistryLocation, parse_location
from ctxpack_oci.origin import Origin


@pytest.mark.parametrize(
    ("text", "scheme", "host", "repository"),
    [
        ("ghcr.io/team/packs", "https", "ghcr.io", "team/packs"),
        ("GHCR.io/team/packs", "https", "ghcr.io", "team/packs"),
        ("registry.example:5000/a", "https", "registry.example:5000", "a"),
        ("registry:5000/a", "https", "registry:5000", "a"),
        ("localhost/a", "http", "localhost", "a"),
        ("localhost:5000/a/b/c", "http", "localhost:5000", "a/b/c"),
        ("127.0.0.1:5000/a", "http", "127.0.0.1:5000", "a"),
        ("127.9.9.9/a", "http", "127.9.9.9", "a"),
        ("[::1]:5000/a", "http", "[::1]:5000", "a"),
        ("[::1]/a", "http", "[::1]", "a"),
        ("10.0.0.1/a", "https", "10.0.0.1", "a"),
        ("http://registry.example/a", "http", "registry.example", "a"),
        ("http://registry/a", "http", "registry", "a"),
        ("https://localhost:5000/a", "https", "localhost:5000", "a"),
        ("a.example/x__y/a.b-c/d--e", "https", "a.example", "x__y/a.b-c/d--e"),
    ],
)
def test_a_registry(text: str, scheme: str, host: str, repository: str) -> None:
    location = parse_location(text)
    assert location == RegistryLocation(scheme=scheme, host=host, repository=repository)
    assert str(location) == f"{host}/{repository}"


def test_docker_hub_is_reached_at_its_own_host() -> None:
    location = parse_location("docker.io/team/packs")
    assert isinstance(location, RegistryLocation)
    assert location.origin == Origin("https", "registry-1.docker.io", 443)
    assert str(location) == "docker.io/team/packs"


@pytest.mark.parametrize("folder", ["/srv/packs", "packs", "../packs", "./a b"])
def test_a_layout(folder: str) -> None:
    location = parse_location(f"oci:{folder}")
    assert location == LayoutLocation(folder=Path(folder))
    assert str(location) == f"oci:{Path(folder)}"


def test_a_layout_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert parse_location("oci:~/packs") == LayoutLocation(folder=Path("/home/ann/packs"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a host; write one of ghcr.io/team/packs"),
        ("team/packs", "'team' is not a host; put the host first, or write https://team/..."),
        ("./folder", "'.' is not a host; write one of .* or oci:/srv/packs"),
        ("/srv/packs", "'' is not a host"),
        ("ghcr.io", "no repository; write it after the host, as in ghcr.io/team/packs"),
        ("ghcr.io/", "no repository"),
        ("ghcr.io/Team/packs", "'Team' may not be part of a repository's name; use lower-case letters and digits"),
        ("ghcr.io/team//packs", "'' may not be part"),
        ("ghcr.io/../packs", "'..' may not be part"),
        ("ghcr.io/team/packs/", "'' may not be part"),
        ("ghcr.io/team/pa cks", "'pa cks' may not be part"),
        ("ghcr.io/team/packs?x=y", "may not be part"),
        ("ghcr.io/team/packs\n", "may not be part"),
        ("ghcr.io/-x", "'-x' may not be part"),
        ("ghcr.io/a___b", "'a___b' may not be part"),
        ("ghcr.io/team/packs:latest", "a tag or digest after the repository; leave it out"),
        ("ghcr.io/team/packs@sha256:00", "a tag or digest after the repository"),
        ("ghcr.io:99999/x", "'ghcr.io:99999' is not a host"),
        ("ghcr.io:/x", "'ghcr.io:' is not a host"),
        ("ghcr..io/x", "'ghcr..io' is not a host"),
        ("-ghcr.io/x", "'-ghcr.io' is not a host"),
        ("gh\\cr.io/x", "is not a host"),
        ("ann:secret@ghcr.io/x", "user name or password in the location; use `docker login`"),
        ("https://ann:secret@ghcr.io/x", "user name or password in the location"),
        ("oci://ghcr.io/team/packs", "'oci://' is not a folder; write oci:/folder for a folder, or host/repository"),
        ("oci:", "no folder; write oci:/folder"),
        ("oci:a\0b", "no folder"),
        ("s3://bucket/x", "unknown scheme 's3'"),
        ("http://https://x/y", "unknown scheme"),
        ("docker.io/ubuntu", "Docker Hub needs an account; write docker.io/ACCOUNT/ubuntu"),
        ("ghcr.io/" + "a" * 250, "the name is too long; use at most 255 characters"),
    ],
)
def test_a_malformed_location_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^registry location: .*{message}") as caught:
        parse_location(text)
    assert "secret" not in str(caught.value)


@given(st.text() | st.text("ab.:/[]@~-_"))
def test_any_text_is_a_location_or_our_error(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        location = parse_location(text)
        if isinstance(location, RegistryLocation):
            assert location.origin.scheme == location.scheme
