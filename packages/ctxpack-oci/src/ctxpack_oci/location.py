"""The location of packs as a user writes it: ``host[:port]/repo/path`` or ``oci:/folder``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import msgspec

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.home import with_home
from ctxpack_oci.origin import Origin, Reach, origin_of, reach_of

__all__ = ["DOCKER_HUB", "LayoutLocation", "Location", "RegistryLocation", "parse_location"]

DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

# distribution-spec, "Pulling manifests": <name>. For one part between '/', so that no pattern backtracks over all.
_is_component = re.compile(r"\A[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z").match
_control_in = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]").search  # \u2028, \u2029: line ends
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


def parse_location(text: str, *, environ: Mapping[str, str] | None = None) -> Location:
    """Return the location that text names.

    The scheme is https, but http for loopback hosts and when ``http://`` is written in full. A leading ``~`` in a
    folder is the home folder, which environ names (os.environ if None).
    Raises: InvalidInput, with the broken rule, without user names and passwords.

    >>> str(parse_location("GHCR.io/team/packs")), parse_location("localhost:5000/packs").scheme
    ('ghcr.io/team/packs', 'http')
    """
    lower = text[:6].lower()
    if lower.startswith("oci:"):
        _refuse_control_characters(text)
        return _parse_layout(text, os.environ if environ is None else environ)
    if _is_path(text) or lower.startswith("file:"):
        _refuse_control_characters(text)
        folder = _path_of_file_url(text) if lower.startswith("file:") else text
        _refuse(f"{text[:80]!r} is a folder, not a registry", f"write {_as_layout(folder)} for a folder")
    scheme, separator, rest = text.rpartition("://")
    if "@" in scheme or "@" in rest.partition("/")[0]:
        _refuse("user name or password in the location", "use `docker login`, or CTXPACK_USERNAME and CTXPACK_PASSWORD")
    _refuse_control_characters(text)
    if separator and scheme not in ("http", "https"):
        _refuse(f"unknown scheme {scheme[:80]!r}", f"write one of {_EXAMPLES}")
    host, _, repository = rest.partition("/")
    host = host.lower()
    _check_host(host, "" if separator else text)
    _check_repository(repository, host, "" if separator else text)
    if not separator:
        scheme = "http" if reach_of(_without_port(host)) is Reach.LOOPBACK else "https"
    return RegistryLocation(scheme=scheme, host=host, repository=repository)


def _parse_layout(text: str, environ: Mapping[str, str]) -> LayoutLocation:
    scheme, folder = text[:4], text[4:]
    if not folder:
        _refuse("no folder", "write oci:/folder")
    if folder.startswith("//"):
        _refuse("'oci://' is not a folder", "write oci:/folder for a folder, or host/repository for a registry")
    if scheme != "oci:":
        _refuse(f"unknown scheme {scheme!r}", f"write {_as_layout(folder)} for a folder")
    path = with_home(folder, environ)
    if not path:
        _refuse(f"the home folder for {folder[:80]} is not known", "set HOME, an absolute path, or write oci:/folder")
    return LayoutLocation(folder=Path(path))


def _refuse_control_characters(text: str) -> None:
    found = _control_in(text)
    if found:
        shown = f"...{text[-80:]!r}" if len(text) > 80 else repr(text)
        _refuse(f"control character {found[0]!r} in the name", "remove it", got=shown)


def _is_path(text: str) -> bool:
    """Whether text is certainly meant to be a path: no host is empty, dots or has a '~'."""
    return text.startswith(("/", "~")) or text.partition("/")[0] in (".", "..")


def _path_of_file_url(url: str) -> str:
    from urllib.parse import unquote  # only this mistake needs it

    path = unquote(url[len("file:") :])
    return "/" + re.sub(r"\A//(?:localhost(?=/))?", "", path) if path.startswith("//") else path


def _as_layout(folder: str) -> str:
    """Return the location of a folder, for messages."""
    if not folder or len(folder) > MAX_NAME or _control_in(folder):
        return "oci:/folder"
    path = f"/{folder.lstrip('/')}" if folder.startswith("/") else folder  # `oci://` is not taken for a folder
    return f"oci:{path}" if _is_path(path) else f"oci:./{path}"


def _check_host(host: str, text: str) -> None:
    """Return if host is one. text: the whole location when it has no scheme, so that it could be meant as a folder."""
    name = _without_port(host)
    labels = [] if name.startswith("[") else name.split(".")
    folder = f", or {_as_layout(text)} for a folder" if text and ":" not in host else ""
    if origin_of(f"https://{host}") is None or not all(_is_host_label(label) for label in labels):
        _refuse(f"{host[:80]!r} is not a host", f"write one of {_EXAMPLES}{folder}")
    if text and name != "localhost" and not set(host) & {".", ":"}:
        # As in docker: in `team/packs` the host is missing; "team" is not a host.
        _refuse(f"{host!r} is not a host", f"put the host first, or write https://{host}/...{folder}")


def _check_repository(repository: str, host: str, text: str) -> None:
    parts = [part for part in repository.split("/") if part]
    if not parts:
        folder = f", or {_as_layout(text)} for a folder" if text and ":" not in host else ""
        _refuse("no repository", f"write it after the host, as in {host}/team/packs{folder}")
    if len(parts) != repository.count("/") + 1:
        what = (
            "'/' at the end of the repository" if repository.endswith("/") else "'//' before a part of the repository"
        )
        _refuse(what, f"write {host}/{'/'.join(parts)}"[: MAX_NAME + 10])
    if ":" in repository or "@" in repository:
        _refuse("a tag or digest after the repository", "leave it out: CtxPack makes its own tags")
    for part in parts:
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


def _refuse(what: str, fix: str, *, got: str = "") -> NoReturn:
    raise InvalidInput(what, where="registry location", got=got, fix=fix, code="E_LOCATION")
