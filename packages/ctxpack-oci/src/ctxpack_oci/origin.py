"""The server of a URL: scheme, host and port, and the network of the host."""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urljoin

__all__ = ["Origin", "Reach", "join", "origin_of", "reach_of", "share_owner"]

# A strict pattern, not a URL parser: URLs about whose host two parsers could disagree are refused (user information,
# backslashes, blanks, control and non-ASCII characters).
_url = re.compile(
    r"\A(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?([/?#][!#-;=?-\[\]_a-~%]*)?\Z"
).match
_PORTS = {"http": 80, "https": 443}

# Second-level names under a country code below which anybody can register, as in `example.co.uk`.
_SHARED_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "go", "gob", "gov", "gv", "ne", "net", "or", "org"})


class Origin(NamedTuple):
    """Two URLs with equal origins are at one server (RFC 6454). host: lower case, IPv6 in brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @property
    def is_confidential(self) -> bool:
        """Whether nobody on the way reads what is sent there: with https, or when it does not leave this machine."""
        return self.scheme == "https" or reach_of(self.host) is Reach.LOOPBACK


class Reach(enum.Enum):
    """The network of a host, as its name shows; names are not looked up."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"


@lru_cache(maxsize=64)  # each request asks several times for its URLs
def origin_of(url: str) -> Origin | None:
    """Return the origin of an absolute http or https URL, or None when url is anything else or malformed.

    >>> origin_of("https://Example.org/v2/")
    Origin(scheme='https', host='example.org', port=443)
    >>> origin_of("https://user:secret@example.org/") is None
    True
    """
    found = _url(url)
    if not found:
        return None
    scheme, host, port = found[1], found[2].lower(), int(found[3] or _PORTS[found[1]])
    return Origin(scheme, host, port) if 0 < port < 65536 else None


def join(url: str, reference: str) -> str:
    """Resolve reference against url (RFC 3986, 5), without the fragment.

    A malformed reference is returned as it is; it has no origin.
    """
    try:
        return urljoin(url, reference).partition("#")[0]
    except ValueError:
        return reference


def reach_of(host: str) -> Reach:
    """Return the network of ``localhost`` or of an IP address, in any notation that a resolver accepts.

    Every other name is PUBLIC: names are not resolved.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return Reach.LOOPBACK
    if not re.fullmatch(r"[0-9a-fx.]*|[0-9a-f:.]*", name):
        return Reach.PUBLIC
    return _reach_of_address(name)


def share_owner(one: str, other: str) -> bool:
    """Whether two hosts are equal, or names under one registrable domain.

    The domain is the last two labels, or three below a shared name such as `co.uk`: an approximation, without the
    public suffix list.

    >>> share_owner("registry-1.docker.io", "auth.docker.io"), share_owner("a.co.uk", "b.co.uk")
    (True, False)
    """
    return one == other or (_owner(one) is not None and _owner(one) == _owner(other))


def _reach_of_address(name: str) -> Reach:
    # Imported late: most hosts are names, and these two take longer than the rest of the module.
    import ipaddress
    import socket

    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))  # 127.1, 0x7f000001 and 2130706433 are 127.0.0.1
        except OSError:
            return Reach.PUBLIC
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return Reach.LOOPBACK
    if address.is_link_local:
        return Reach.LINK_LOCAL
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def _owner(host: str) -> str | None:
    labels = host.rstrip(".").split(".")
    if host.startswith("[") or labels[-1].isdigit():
        return None
    shared = len(labels[-1]) == 2 and len(labels) > 1 and labels[-2] in _SHARED_SECOND_LEVEL
    size = 3 if shared else 2
    return ".".join(labels[-size:]) if len(labels) >= size else None
