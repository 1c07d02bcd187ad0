"""The certificate authorities that this machine trusts, in one file that pip and uv both read.

An index behind a private authority is known to a machine by its own store, by a variable or by pip's settings. Each
program reads only some of them: uv neither the store, unless told, nor pip's settings, nor what is named for requests
and curl; pip before 24.2 neither the store nor what is named for OpenSSL. Standard library only: tools/test.py uses it
before anything is installed.
"""

from __future__ import annotations

import configparser
import os
import re
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["trusting"]

# pip lets requests prefer its variables to PIP_CERT, so all of them have to name the file.
FILE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
FOLDERS_VARIABLE = "SSL_CERT_DIR"

# Those of the OpenSSL that Python is linked to, and what distributions have: a Python of another origin, such as that
# of conda, looks elsewhere.
_OPENSSL = ssl.get_default_verify_paths()
SYSTEM_STORES = (
    _OPENSSL.openssl_cafile,
    _OPENSSL.openssl_capath,
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS
)

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def trusting(environment: Mapping[str, str], file: Path) -> dict[str, str]:
    """Return environment, changed so that pip and uv trust every authority that the machine or its user trusts.

    file: where to write them; it is written only if there are any. A name that cannot be read is told on stderr.
    """
    changed = dict(environment)
    if sys.platform == "darwin":
        changed.setdefault("UV_SYSTEM_CERTS", "true")  # the keychain, which no file holds; newer pip uses it by itself
    named = list(_named(environment))
    if sys.platform == "darwin" and not named:
        return changed
    certificates: dict[str, None] = {}  # in order, each once
    for who, path in named:
        try:
            certificates.update(dict.fromkeys(_certificates(path)))
        except OSError as error:
            print(f"{who} names {path}, which cannot be read: {error.strerror}", file=sys.stderr)
    for store in SYSTEM_STORES:
        if os.path.exists(store):
            certificates.update(dict.fromkeys(_certificates(Path(store))))
    readable = "".join(filter(_readable, certificates))
    if readable:
        _write(readable, file)
        changed.update(dict.fromkeys(FILE_VARIABLES, str(file)))
    return changed


def _named(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield who names a file or folder of authorities, and its path."""
    for variable in FILE_VARIABLES:
        if environment.get(variable):
            yield variable, Path(environment[variable]).expanduser()
    for folder in environment.get(FOLDERS_VARIABLE, "").split(os.pathsep):
        if folder:
            yield FOLDERS_VARIABLE, Path(folder)
    for settings in _pip_settings(environment):
        parser = configparser.RawConfigParser()
        try:
            parser.read(settings, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip says what is wrong there
        for section in parser.sections():
            if parser.has_option(section, "cert"):
                yield str(settings), Path(parser.get(section, "cert")).expanduser()


def _pip_settings(environment: Mapping[str, str]) -> Iterable[Path]:
    """Return where pip may have settings, on any system. Source: pip's user guide, "Configuration Files"."""
    chosen = environment.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return []  # pip reads no other either
    home = Path(environment.get("HOME") or Path.home())
    folders = [
        *(Path(folder, "pip") for folder in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep) if folder),
        Path("/etc"),
        Path("/Library/Application Support/pip"),
        home / ".pip",
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config", "pip"),
        home / "Library/Application Support/pip",
    ]
    return [*(folder / "pip.conf" for folder in folders), *([Path(chosen)] if chosen else [])]


def _certificates(path: Path) -> Iterator[str]:
    """Yield each certificate of a PEM file, or of the files in a folder, as PEM. Raises: OSError if it is not there."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        try:
            text = file.read_text(encoding="ascii", errors="replace")
        except OSError:
            if file == path:
                raise
            continue  # a dead link in a folder, or another folder
        yield from (certificate + "\n" for certificate in _CERTIFICATE.findall(text))


def _readable(certificate: str) -> bool:
    """Whether OpenSSL can read it: one that it cannot read would make the whole file useless."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _write(text: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(text, encoding="ascii")
    os.replace(part, file)  # another run may be reading it
