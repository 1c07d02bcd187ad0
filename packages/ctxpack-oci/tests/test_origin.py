"""The server of a URL, and the network of a host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_oci.origin import Origin, Reach, origin_of, reach_of, share_owner


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org", Origin("https", "example.org", 443)),
        ("https://example.org:443/x?y#z", Origin("https", "example.org", 443)),
        ("http://EXAMPLE.org:80", Origin("http", "example.org", 80)),
        ("http://[::1]:5000/v2/", Origin("http", "[::1]", 5000)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, expected: Origin) -> None:
    assert origin_of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/relative",
        "//example.org/",
        "ftp://example.org/",
        "HTTPS:example.org",
        "https://user@example.org/",
        "https://user:secret@example.org/",
        "https://good.example\\@evil.example/",
        "https://good.example#@evil.example/\n",
        "https://exa mple.org/",
        "https://exämple.org/",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:/",
        "https:///path",
        "https://example.org/\r\nX: y",
    ],
)
def test_a_url_that_two_parsers_could_read_differently_is_refused(url: str) -> None:
    assert origin_of(url) is None


def test_an_origin_is_written_without_its_default_port() -> None:
    assert str(Origin("https", "a.example", 443)) == "https://a.example"
    assert str(Origin("http", "a.example", 443)) == "http://a.example:443"


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("example.org", Reach.PUBLIC),
        ("8.8.8.8", Reach.PUBLIC),
        ("[2606:4700::1111]", Reach.PUBLIC),
        ("dead.beef", Reach.PUBLIC),
        ("localhost", Reach.LOOPBACK),
        ("LOCALHOST.", Reach.LOOPBACK),
        ("a.localhost", Reach.LOOPBACK),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.255.0.9", Reach.LOOPBACK),
        ("127.1", Reach.LOOPBACK),
        ("0x7f000001", Reach.LOOPBACK),
        ("2130706433", Reach.LOOPBACK),
        ("0.0.0.0", Reach.LOOPBACK),
        ("[::1]", Reach.LOOPBACK),
        ("[::]", Reach.LOOPBACK),
        ("[::ffff:127.0.0.1]", Reach.LOOPBACK),
        ("169.254.169.254", Reach.LINK_LOCAL),
        ("[fe80::1]", Reach.LINK_LOCAL),
        ("10.0.0.1", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("[fd00::1]", Reach.PRIVATE),
    ],
)
def test_the_network_of_a_host(host: str, reach: Reach) -> None:
    assert reach_of(host) is reach


@given(st.text())
def test_any_text_is_read_without_an_exception(text: str) -> None:
    assert isinstance(reach_of(text), Reach)
    origin_of(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("docker.elastic.co", "docker-auth.elastic.co", True),
        ("localhost", "localhost", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "11.0.0.1", False),
        ("[::1]", "[::2]", False),
        ("example.org", "example.org.evil.example", False),
        ("example.org", "notexample.org", False),
        ("a.co.uk", "b.co.uk", False),
        ("x.a.co.uk", "y.a.co.uk", True),
        ("org", "example.org", False),
    ],
)
def test_who_owns_a_host(one: str, other: str, same: bool) -> None:
    assert share_owner(one, other) is same
    assert share_owner(other, one) is same


@pytest.mark.parametrize(
    ("url", "confidential"),
    [
        ("https://reg.example.test", True),
        ("http://127.0.0.1:5000", True),
        ("http://localhost", True),
        ("http://[::1]:5000", True),
        ("http://reg.example.test", False),
        ("http://10.0.0.1:5000", False),
        ("http://169.254.169.254", False),
    ],
)
def test_what_is_sent_in_clear_leaves_this_machine_with_https_only(url: str, confidential: bool) -> None:
    origin = origin_of(url)
    assert origin is not None
    assert origin.is_confidential is confidential
