"""The header WWW-Authenticate (RFC 9110, 11.6.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_oci.challenge import Challenge, parse_challenges

token = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=12
)
value = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
challenge = st.builds(
    Challenge,
    scheme=token.map(str.lower),
    parameters=st.dictionaries(token.map(str.lower), value, min_size=1, max_size=4),
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a, b=c"', [("basic", {"realm": "a, b=c"})]),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:x/y:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:x/y:pull,push",
                    },
                )
            ],
        ),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate YIIabc==, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Bearer realm = "x" , service = y', [("bearer", {"realm": "x", "service": "y"})]),
        ('Bearer REALM="x"', [("bearer", {"realm": "x"})]),
        (r'Basic realm="a\"b\\c"', [("basic", {"realm": 'a"b\\c'})]),
        ('Bearer realm="first",realm="second"', [("bearer", {"realm": "first"})]),
        (',, Basic realm="x",,', [("basic", {"realm": "x"})]),
        ('Bearer realm="never closed', [("bearer", {})]),
        ('"quoted", Basic realm="x"', []),
    ],
)
def test_headers_of_real_servers(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, one.parameters) for one in parse_challenges(header)] == expected


@given(st.lists(challenge, min_size=1, max_size=4), st.sampled_from([",", ", ", " ,  "]))
def test_parse_is_the_inverse_of_writing(challenges: list[Challenge], comma: str) -> None:
    header = ", ".join(
        f"{one.scheme} " + comma.join(f"{name}={quoted(text)}" for name, text in one.parameters.items())
        for one in challenges
    )
    assert parse_challenges(header) == tuple(challenges)


@given(st.text(st.characters(max_codepoint=255)) | st.text('abc =,"\\ '))
def test_any_header_is_read_without_an_exception(header: str) -> None:
    for one in parse_challenges(header):
        assert one.scheme == one.scheme.lower() != ""


def test_a_long_hostile_header_is_parsed_quickly() -> None:
    assert len(parse_challenges("a " * 100_000)) <= 8192
    assert parse_challenges('Basic realm="' + "\\" * 100_000) == (Challenge(scheme="basic"),)
