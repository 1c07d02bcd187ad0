"""Proxies and certificate authorities from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxpack_identity.errors import InvalidInput
from ctxpack_oci.origin import origin_of
from ctxpack_oci.proxy import network_from

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://ghcr.io", None),
        ({"https_proxy": PROXY}, "https://ghcr.io", PROXY),
        ({"HTTPS_PROXY": PROXY}, "https://ghcr.io", PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https://ghcr.io", PROXY),
        ({"http_proxy": PROXY}, "https://ghcr.io", None),
        ({"ALL_PROXY": PROXY}, "https://ghcr.io", PROXY),
        ({"https_proxy": PROXY, "no_proxy": "*"}, "https://ghcr.io", None),
        ({"https_proxy": PROXY, "NO_PROXY": "a.example, GHCR.io"}, "https://ghcr.io", None),
        ({"https_proxy": PROXY, "no_proxy": ".corp.example"}, "https://registry.corp.example", None),
        ({"https_proxy": PROXY, "no_proxy": "*.corp.example"}, "https://registry.corp.example", None),
        ({"https_proxy": PROXY, "no_proxy": "corp.example"}, "https://notcorp.example", PROXY),
        ({"https_proxy": PROXY, "no_proxy": "ghcr.io:444"}, "https://ghcr.io", PROXY),
        ({"https_proxy": PROXY, "no_proxy": "ghcr.io:443"}, "https://ghcr.io", None),
        ({"https_proxy": PROXY, "no_proxy": ","}, "https://ghcr.io", PROXY),
        ({"http_proxy": PROXY}, "http://127.0.0.1:5000", None),
        ({"http_proxy": PROXY}, "http://localhost:5000", None),
    ],
)
def test_which_proxy(environ: dict[str, str], url: str, proxy: str | None) -> None:
    origin = origin_of(url)
    assert origin is not None
    assert network_from(environ).proxy_for(origin) == proxy


def test_the_first_authorities_variable_wins(tmp_path: Path) -> None:
    (tmp_path / "a.pem").touch()
    (tmp_path / "b.pem").touch()
    environ = {"SSL_CERT_FILE": str(tmp_path / "b.pem")}
    assert network_from(environ).authorities.endswith("b.pem")
    assert network_from({**environ, "REQUESTS_CA_BUNDLE": str(tmp_path / "a.pem")}).authorities.endswith("a.pem")
    assert network_from({}).authorities == ""


def test_a_missing_file_of_authorities_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^CURL_CA_BUNDLE=.*/none.pem: no such file; name a PEM file, or unset it$"):
        network_from({"CURL_CA_BUNDLE": str(tmp_path / "none.pem")})
