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
    assert parse_location("oci:~/packs", environ={"HOME": "/home/bob"}) == LayoutLocation(
        folder=Path("/home/bob/packs")
    )


@pytest.mark.parametrize("home", ["", "home", "~", "./home"])
@pytest.mark.parametrize("folder", ["~", "~/packs", "~nobody-has-this-name/packs"])
def test_a_home_folder_that_is_not_known_is_never_a_folder_called_tilde(folder: str, home: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_location(f"oci:{folder}", environ={"HOME": home})
    assert str(caught.value) == (
        f"registry location: the home folder for {folder} is not known; "
        "set HOME, an absolute path, or write oci:/folder"
    )


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("./folder", "oci:./folder"),
        (".", "oci:."),
        ("..", "oci:.."),
        ("../x", "oci:../x"),
        ("/srv/packs", "oci:/srv/packs"),
        ("/", "oci:/"),
        ("//srv/packs", "oci:/srv/packs"),
        ("~/x", "oci:~/x"),
        ("~ann/x", "oci:~ann/x"),
        ("./ann@b:c/x", "oci:./ann@b:c/x"),
        ("file:///srv/my%20packs", "oci:/srv/my packs"),
        ("FILE:///srv/packs", "oci:/srv/packs"),
        ("file://localhost/srv/packs", "oci:/srv/packs"),
        ("file://srv/packs", "oci:/srv/packs"),
        ("file:packs", "oci:./packs"),
        ("file:", "oci:/folder"),
        ("file:///a%0Ab", "oci:/folder"),
        ("/" + "x" * 5000, "oci:/folder"),
    ],
)
def test_a_folder_is_told_how_to_be_a_layout(text: str, layout: str) -> None:
    with pytest.raises(InvalidInput, match="is a folder, not a registry") as caught:
        parse_location(text)
    assert str(caught.value).endswith(f"; write {layout} for a folder")
    assert len(str(caught.value)) < 400
    if "~ann" not in layout:
        assert isinstance(parse_location(layout), LayoutLocation)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("folder", "put the host first, or write https://folder/..., or oci:./folder for a folder"),
        ("Folder/Sub", "put the host first, or write https://folder/..., or oci:./Folder/Sub for a folder"),
        ("folder/", "put the host first, or write https://folder/..., or oci:./folder/ for a folder"),
        ("my packs/x", "or oci:/srv/packs, or oci:./my packs/x for a folder"),
        ("my.packs", "write it after the host, as in my.packs/team/packs, or oci:./my.packs for a folder"),
        ("localhost:5000", "write it after the host, as in localhost:5000/team/packs"),
        ("OCI:/srv/packs", "write oci:/srv/packs for a folder"),
        ("Oci:packs", "write oci:./packs for a folder"),
    ],
)
def test_what_could_be_a_folder_is_told_how_to_be_a_layout_too(text: str, fix: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_location(text)
    assert str(caught.value).endswith(fix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ghcr.io/team/packs/", "'/' at the end of the repository; write ghcr.io/team/packs"),
        ("ghcr.io/team/packs///", "'/' at the end of the repository; write ghcr.io/team/packs"),
        ("ghcr.io/team//packs", "'//' before a part of the repository; write ghcr.io/team/packs"),
        ("https://ghcr.io//team/packs", "'//' before a part of the repository; write ghcr.io/team/packs"),
        (
            "ghcr.io//",
            "no repository; write it after the host, as in ghcr.io/team/packs, or oci:./ghcr.io// for a folder",
        ),
    ],
)
def test_a_slash_too_many_is_told_as_one(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_location(text)
    assert str(caught.value) == f"registry location: {message}"


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x9b", "\u2028", "\u2029"])
@pytest.mark.parametrize(
    "text",
    ["oci:/srv/packs{}", "oci:{}", "oci:a{}b", "{}ghcr.io/a", "gh{}cr.io/a", "ghcr.io/a{}", "./a{}", "https://{}"],
)
def test_a_control_character_is_refused_and_shown_escaped(text: str, character: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_location(text.format(character))
    assert caught.value.what == f"control character {character!r} in the name"
    assert caught.value.got == repr(text.format(character))
    assert str(caught.value).isprintable()
    assert "; remove it" in str(caught.value)


def test_a_control_character_does_not_bring_a_password_into_the_message() -> None:
    for text in ("ann:secret@ghcr.io/x\n", "https://ann:secret\n@ghcr.io/x", "ann:secret@x://ghcr.io/y"):
        with pytest.raises(InvalidInput, match="user name or password in the location") as caught:
            parse_location(text)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("folder", ["/srv/my packs", "/srv/\u00a0", "/srv/\u202e", "/srv/\udcff", "/srv/\u200d"])
def test_a_folder_of_a_layout_may_have_any_other_character(folder: str) -> None:
    assert parse_location(f"oci:{folder}") == LayoutLocation(folder=Path(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a host; write one of ghcr.io/team/packs"),
        ("team/packs", "'team' is not a host; put the host first, or write https://team/..."),
        ("ghcr.io", "no repository; write it after the host, as in ghcr.io/team/packs"),
        ("ghcr.io/", "no repository"),
        ("ghcr.io/Team/packs", "'Team' may not be part of a repository's name; use lower-case letters and digits"),
        ("ghcr.io/../packs", "'..' may not be part"),
        ("ghcr.io/team/pa cks", "'pa cks' may not be part"),
        ("ghcr.io/team/packs?x=y", "may not be part"),
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
