"""Scopes: the canonical name of a repository, and what lies within it, by whole path segments."""

from __future__ import annotations

import re

from ctxpack_identity.errors import InvalidInput

__all__ = ["canonical_repository", "is_within"]

_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_LAYOUT = "oci:"
_HTTPS = 443
_MOST = 512  # characters; a registry takes names of 255

_is_host_label = re.compile(r"\A[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z").match
_is_component = re.compile(r"\A[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z").match  # distribution-spec, <name>
_host_and_port = re.compile(r"\A(\[[0-9A-Fa-f:.]{2,64}\]|[^\[\]:@]*)(?::([0-9]{0,8}))?\Z").match


def canonical_repository(name: str) -> str:
    """Return the one name of a registry's host, of a repository or a part of its path, or of an OCI layout.

    name: ``host[:port][/path]``, with or without ``https://``; or ``oci:`` and an absolute path, which the caller
    resolved.
    Each alias of Docker Hub is ``docker.io``; hosts are lower case; the default port of https is left out.
    Raises: InvalidInput (E_SCOPE) for what is none of these.

    >>> canonical_repository("https://Index.Docker.io:443/team/packs"), canonical_repository("oci:/srv//packs/")
    ('docker.io/team/packs', 'oci:/srv/packs')
    """
    if name.startswith(_LAYOUT):
        return _layout(name)
    host, _, path = re.sub(r"\Ahttps?://", "", name).partition("/")
    parts = path.removesuffix("/").split("/") if path else []
    if host == "file:" or not all(map(_is_component, parts)) or len(name) > _MOST:
        raise _refused(name)
    return "/".join([_host(host, name), *parts])


def is_within(scope: str, repository: str) -> bool:
    """Whether repository is scope or lies below it; both canonical. The empty scope holds everything.

    >>> is_within("ghcr.io/team", "ghcr.io/team/packs"), is_within("ghcr.io/team", "ghcr.io/teams")
    (True, False)
    """
    return not scope or repository == scope or repository.startswith(scope.removesuffix("/") + "/")


def _layout(name: str) -> str:
    path = name.removeprefix(_LAYOUT)
    parts = [part for part in path.split("/") if part]
    if not path.startswith("/") or not {".", ".."}.isdisjoint(parts):
        raise _refused(name)
    return f"{_LAYOUT}/{'/'.join(parts)}"


def _host(text: str, name: str) -> str:
    match = _host_and_port(text)
    if match is None:
        raise _refused(name)
    host, port = match[1].lower(), int(match[2] or _HTTPS)
    if host.startswith("["):
        host = _ipv6(host, name)
    elif not all(map(_is_host_label, host.split("."))):
        raise _refused(name)
    if host in _DOCKER_HUB:
        host = "docker.io"
    if port > 65535:
        raise _refused(name)
    return host if port == _HTTPS else f"{host}:{port}"


def _ipv6(host: str, name: str) -> str:
    import ipaddress  # few registries are named by such an address

    try:
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    except ValueError as error:
        raise _refused(name) from error


def _refused(name: str) -> InvalidInput:
    return InvalidInput(
        "not the name of a registry, repository or layout",
        where="scope",
        expected="host, host/path or oci:/folder",
        got=repr(name)[:120],
        fix="write it as in ghcr.io/team/packs",
        code="E_SCOPE",
    )
