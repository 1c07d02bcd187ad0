"""Proxies and certificate authorities, as the environment sets them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from ctxpack_identity.errors import InvalidInput
from ctxpack_oci.origin import Origin, Reach, reach_of

__all__ = ["Network", "network_from"]

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")  # the first one set wins


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """proxies: URLs by scheme. direct: rules for hosts without proxy. authorities: a file or folder; "": built-in."""

    proxies: dict[str, str] = {}
    direct: tuple[str, ...] = ()
    authorities: str = ""

    def proxy_for(self, origin: Origin) -> str | None:
        """Return the URL of the proxy for origin, or None. Loopback never has a proxy."""
        proxy = self.proxies.get(origin.scheme) or self.proxies.get("all")
        if not proxy or reach_of(origin.host) is Reach.LOOPBACK or any(_covers(rule, origin) for rule in self.direct):
            return None
        return proxy


def network_from(environ: Mapping[str, str]) -> Network:
    """Read ``https_proxy``, ``http_proxy``, ``all_proxy``, ``no_proxy`` (lower case first) and the CA variables.

    Raises: InvalidInput, when the named CA file or folder is not there.
    """
    proxies = {scheme: value for scheme in ("http", "https", "all") if (value := _either(environ, f"{scheme}_proxy"))}
    direct = tuple(rule.strip().lower() for rule in _either(environ, "no_proxy").split(",") if rule.strip())
    return Network(proxies=proxies, direct=direct, authorities=_authorities(environ))


def _either(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _authorities(environ: Mapping[str, str]) -> str:
    for name in _CA_VARIABLES:
        path = environ.get(name)
        if path:
            if not os.path.exists(path):
                raise InvalidInput(
                    "no such file", where=f"{name}={path}", fix="name a PEM file, or unset it", code="E_CA_FILE"
                )
            return path
    return ""


def _covers(rule: str, origin: Origin) -> bool:
    host = origin.host.strip("[]")
    name = rule.lstrip("*").lstrip(".").strip("[]")
    return rule == "*" or name in (host, f"{host}:{origin.port}") or (bool(name) and host.endswith(f".{name}"))
