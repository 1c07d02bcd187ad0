"""The location of packs as a user writes it: ``host[:port]/repo/path`` or ``oci:/folder``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import msgspec

from ctxpack_identity.errors import InvalidInput
from ctxpack_oci.origin import Origin, Reach, origin_of, reach_of

__all__ = ["DOCKER_HUB", "LayoutLocation", "Location", "RegistryLocation", "parse_location"]

DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

# distribution-spec, "Pulling manifests": <name>. For one part between '/', so that no pattern backtracks over all.
_is_component = re.compile(r"\A[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z").match
_is_host_label = re.compile(r"\A[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z").match
MAX_NAME = 255  # characters of host/repository together; many clients take no more (distribution-spec)
_EXAMPLES = "ghcr.io/team/packs, 127.0.0.1:5000/packs or oci:/srv/packs"


class RegistryLocation(msgspec.Struct, frozen=True, kw_only=True):
    """A repository on a registry. host: as the user wrote it, lower case, with its port when one was given."""

    scheme: str
    host: str
    repository: str

    @property
    def origin(self) -> Origin:
        """The origin of the API: for Docker Hub, its host is another one."""
        host = "registry-1.docker.io" if self.host in DOCKER_HUB else self.host
        origin = origin_of(f"{self.scheme}://{host}")
        assert origin is not None, "parse_location checks the host"
        return origin

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


class LayoutLocation(msgspec.Struct, frozen=True, kw_only=True):
    """An OCI image layout in a folder, absolute or relative to the working directory."""

    folder: Path

    def __str__(self) -> str:
        return f"oci:{self.folder}"


Location = RegistryLocation | LayoutLocation


def parse_location(text: str) -> Location:
    """Return the location that text names.

    The scheme is https, but http for loopback hosts and when ``http://`` is written in full. A leading ``~`` in a
    folder is the home folder. Raises: InvalidInput, with the broken rule, without user names and passwords.

    >>> str(parse_location("GHCR.io/team/packs")), parse_location("localhost:5000/packs").scheme
    ('ghcr.io/team/packs', 'http')
    """
    if text.startswith("oci:"):
        return _parse_layout(text)
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme not in ("http", "https"):
        _refuse(f"unknown scheme {scheme!r}", f"write one of {_EXAMPLES}")
    if "@" in rest.partition("/")[0]:
        _refuse("user name or password in the location", "use `docker login`, or CTXPACK_USERNAME and CTXPACK_PASSWORD")
    host, _, repository = rest.partition("/")
    host = host.lower()
    _check_host(host, written_in_full=bool(separator))
    _check_repository(repository, host)
    if not separator:
        scheme = "http" if reach_of(_without_port(host)) is Reach.LOOPBACK else "https"
    return RegistryLocation(scheme=scheme, host=host, repository=repository)


def _parse_layout(text: str) -> LayoutLocation:
    folder = text.removeprefix("oci:")
    if not folder or "\0" in folder:
        _refuse("no folder", "write oci:/folder")
    if folder.startswith("//"):
        _refuse("'oci://' is not a folder", "write oci:/folder for a folder, or host/repository for a registry")
    return LayoutLocation(folder=Path(folder).expanduser())


def _check_host(host: str, *, written_in_full: bool) -> None:
    name = _without_port(host)
    labels = [] if name.startswith("[") else name.split(".")
    if origin_of(f"https://{host}") is None or not all(_is_host_label(label) for label in labels):
        _refuse(f"{host[:80]!r} is not a host", f"write one of {_EXAMPLES}")
    if not written_in_full and name != "localhost" and not set(host) & {".", ":"}:
        # As in docker: in `team/packs` the host is missing; "team" is not a host.
        _refuse(f"{host!r} is not a host", f"put the host first, or write https://{host}/...")


def _check_repository(repository: str, host: str) -> None:
    if not repository:
        _refuse("no repository", f"write it after the host, as in {host}/team/packs")
    if ":" in repository or "@" in repository:
        _refuse("a tag or digest after the repository", "leave it out: CtxPack makes its own tags")
    for part in repository.split("/"):
        if not _is_component(part):
            _refuse(
                f"{part[:80]!r} may not be part of a repository's name",
                "use lower-case letters and digits, with single '.', '_' or '-' between them",
            )
    if len(host) + 1 + len(repository) > MAX_NAME:
        _refuse("the name is too long", f"use at most {MAX_NAME} characters")
    if host in DOCKER_HUB and "/" not in repository:
        _refuse("Docker Hub needs an account", f"write {host}/ACCOUNT/{repository}")


def _without_port(host: str) -> str:
    return re.sub(r":[0-9]*\Z", "", host)


def _refuse(what: str, fix: str) -> NoReturn:
    raise InvalidInput(what, where="registry location", fix=fix, code="E_LOCATION")
