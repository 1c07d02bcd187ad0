"""Credentials for a registry: from the environment, or as `docker login` and `podman login` store them."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.secrets import child_environment
from ctxpack_oci.location import DOCKER_HUB

__all__ = ["Credentials", "Login", "advice_for", "find_login"]

DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # the key of `docker login` for Docker Hub, older than registry v2
MAX_CONFIG_BYTES = 1024 * 1024
HELPER_SECONDS = 60.0  # a helper may ask the user to unlock a key ring

_is_helper = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z").match


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A user name and password, or an identity token (an OAuth2 refresh token). source: for messages."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    source: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, source={self.source!r}, secrets hidden)"


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """The credentials for a registry, None when there are none. advice: what to do when the registry wants others."""

    credentials: Credentials | None
    advice: str


# In these files null is as good as no member: docker, podman and the libraries in Go write and read it so.
class _Entry(msgspec.Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None


class _Config(msgspec.Struct, rename="camel"):
    auths: dict[str, _Entry | None] | None = None
    cred_helpers: dict[str, str | None] | None = None
    creds_store: str | None = None


class _Secret(msgspec.Struct, rename="pascal"):
    username: str | None = None
    secret: str | None = None


_decode_config = msgspec.json.Decoder(_Config | None).decode  # see imagemanifest
_decode_secret = msgspec.json.Decoder(_Secret).decode


def find_login(host: str, environ: Mapping[str, str], *, repository: str = "", named_by: str = "") -> Login:
    """Return the credentials for host, as far as there are any, and what to do when they do not help.

    host: with its port when it has one. repository: for podman's keys, which may name a part of a registry. named_by:
    see `open_target`.
    Order: CTXPACK_USERNAME with CTXPACK_PASSWORD, unless named_by; docker's config.json; podman's auth files. In a file
    the longest matching key wins; for one key, a credential helper wins over an entry of the file. A helper that does
    not work is no error, because anonymous access may do: advice names it.
    Raises: InvalidInput, when a file is malformed, and when one of the two variables is missing.
    """
    withheld = bool(named_by and (environ.get("CTXPACK_USERNAME") or environ.get("CTXPACK_PASSWORD")))
    found = None if named_by else _from_environment(environ)
    broken: list[str] = []
    for candidate in _stored(host, repository, environ) if found is None else ():
        if isinstance(candidate, Credentials):
            found = candidate
            break
        broken.append(candidate)
    advice = advice_for(host, found, named_by=named_by, withheld=withheld, broken=broken)
    return Login(credentials=found, advice=advice)


def advice_for(
    host: str,
    credentials: Credentials | None,
    *,
    named_by: str = "",
    withheld: bool = False,
    broken: Sequence[str] = (),
    in_clear: bool = False,
) -> str:
    """Return what to do when host refuses these credentials, or wants some where there are None.

    named_by: see `open_target`; withheld: whether the environment has credentials that were not used because of it.
    broken: what is wrong with each credential helper that gave none. in_clear: whether everybody on the way to host
    could read them, so that none are sent.
    """
    if in_clear:
        return f"no password is sent over plain HTTP: use https://{host}, or a registry on this machine"
    variables = "set CTXPACK_USERNAME and CTXPACK_PASSWORD"
    if named_by:
        yourself = "name the registry yourself with --registry, CTXPACK_REGISTRY or your own settings file"
        variables = yourself if withheld else f"{variables} and {yourself}"
    steps = [f"`docker login {host}`", f"or {variables}"]
    if credentials:
        steps.insert(0, f"check the credentials from {credentials.source}")
    if broken:
        steps.insert(0, "install, repair or remove it" if len(broken) == 1 else "install, repair or remove them")
    facts = list(broken)
    if withheld:
        facts.append(f"CTXPACK_USERNAME and CTXPACK_PASSWORD were not sent, because {named_by} names the registry")
    return f"{'; '.join(facts)}: {', '.join(steps)}" if facts else ", ".join(steps)


def _stored(host: str, repository: str, environ: Mapping[str, str]) -> Iterator[Credentials | str]:
    """The credentials in all files, the best first; text for a helper that does not work."""
    for path in _config_files(environ):
        yield from _from_config(_read_config(path), _keys(host, repository), path, environ)


def _from_environment(environ: Mapping[str, str]) -> Credentials | None:
    username, password = environ.get("CTXPACK_USERNAME", ""), environ.get("CTXPACK_PASSWORD", "")
    if bool(username) != bool(password):
        missing = "CTXPACK_PASSWORD" if username else "CTXPACK_USERNAME"
        raise InvalidInput("not set", where=missing, fix="set both, or neither", code="E_CREDENTIALS")
    return Credentials(username=username, password=password, source="CTXPACK_USERNAME") if username else None


def _config_files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = environ.get("HOME", "")
    if not os.path.isabs(home):
        home = ""  # a file in the working directory may be somebody else's
    if environ.get("DOCKER_CONFIG"):
        yield Path(environ["DOCKER_CONFIG"], "config.json")
    elif home:
        yield Path(home, ".docker", "config.json")
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
        return
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"], "containers", "auth.json")
    if home:
        yield Path(environ.get("XDG_CONFIG_HOME") or Path(home, ".config"), "containers", "auth.json")


def _read_config(path: Path) -> _Config:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return _Config()
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", where=str(path), code="E_CREDENTIALS") from error
    if len(data) > MAX_CONFIG_BYTES:
        _malformed(path, f"more than {MAX_CONFIG_BYTES} bytes")
    try:
        # Docker takes an empty file for one without a login, and null for an empty document.
        return _decode_config(data) or _Config() if data.strip() else _Config()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _malformed(path, str(error), cause=error)


def _keys(host: str, repository: str) -> list[str]:
    """The keys that an entry may have, in the form of `_plain`, the longest first."""
    name = "docker.io" if host in DOCKER_HUB else host
    parts = repository.split("/") if repository else []
    return ["/".join([name, *parts[:length]]) for length in range(len(parts), -1, -1)]


def _from_config(
    config: _Config, keys: list[str], path: Path, environ: Mapping[str, str]
) -> Iterator[Credentials | str]:
    """The credentials in config for keys, the best first; text for a helper of a key that does not work."""
    auths, store = config.auths or {}, config.creds_store or ""
    for key in keys:
        entries = {name: entry for name, entry in auths.items() if _plain(name) == key}
        named = {helper for name, helper in (config.cred_helpers or {}).items() if _plain(name) == key} - {None}
        if not named and (entries or key == keys[-1]):
            named = {store}
        for helper in filter(None, named):  # "" stands for the file itself
            found = _from_helper(helper, key, path, environ)
            if found:
                yield found
        for name, entry in entries.items():
            credentials = _from_entry(entry or _Entry(), name, path)
            if credentials:
                yield credentials


def _plain(name: str) -> str:
    """The key of an entry without the scheme and API version that docker may write; one name for Docker Hub."""
    without_scheme = re.sub(r"\Ahttps?://", "", name.strip().lower())
    host, slash, path = re.sub(r"(/v[12])?/*\Z", "", without_scheme).partition("/")
    return ("docker.io" if host in DOCKER_HUB else host) + slash + path


def _from_entry(entry: _Entry, name: str, path: Path) -> Credentials | None:
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        try:
            decoded = base64.b64decode(entry.auth, validate=True).decode("utf-8")
        except (binascii.Error, ValueError) as error:
            _malformed(path, f"auths[{name}].auth is not base64 of UTF-8", cause=error)
        username, colon, password = decoded.partition(":")
        if not colon:
            _malformed(path, f"auths[{name}].auth has no ':'")
        password = password.rstrip("\0")
    if entry.identitytoken:
        return Credentials(username=username, identity_token=entry.identitytoken, source=str(path))
    return Credentials(username=username, password=password, source=str(path)) if username and password else None


def _from_helper(helper: str, key: str, path: Path, environ: Mapping[str, str]) -> Credentials | str | None:
    """Credentials; None when the helper has none; or text that says why the helper does not work."""
    program = f"docker-credential-{helper}"
    if not _is_helper(helper):
        _malformed(path, f"credential helper {helper!r} is not the name of a program")
    executable = shutil.which(program, path=environ.get("PATH"))
    if not executable:
        return f"{program} (named in {path}) is not installed"
    server = DOCKER_HUB_KEY if key == "docker.io" else key
    try:
        done = subprocess.run(
            [executable, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_SECONDS,
            env=child_environment(environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{program} (named in {path}) did not answer in {HELPER_SECONDS:.0f} seconds"
    except OSError as error:
        return f"{program} (named in {path}) failed: {error.strerror or type(error).__name__}"
    if done.returncode != 0:
        missing = b"not found" in done.stdout  # the protocol's "credentials not found in native keychain"
        return None if missing else f"{program} (named in {path}) ended with status {done.returncode}"
    try:
        answer = _decode_secret(done.stdout)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return f"{program} (named in {path}) did not answer in JSON"
    if not answer.secret:
        return None
    if answer.username == "<token>":
        return Credentials(identity_token=answer.secret, source=program)
    return Credentials(username=answer.username or "", password=answer.secret, source=program)


def _malformed(path: Path, what: str, *, cause: Exception | None = None) -> NoReturn:
    raise InvalidInput(
        f"malformed: {what}", where=str(path), fix="correct it, or log in again", code="E_CREDENTIALS"
    ) from cause
