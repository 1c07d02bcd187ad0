"""The authentication that a 401 asks for: the WWW-Authenticate header (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

__all__ = ["Challenge", "parse_challenges"]

MAX_HEADER = 8 * 1024  # characters; the rest is ignored

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")')
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|\Z)")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"[ \t,]*")


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """One authentication scheme and its parameters; names in lower case, values as the server wrote them."""

    scheme: str
    parameters: dict[str, str] = {}


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Return the challenges in a WWW-Authenticate header; several headers are joined by commas.

    Parsing stops at the first fault: the challenges before it are returned.

    >>> parse_challenges('Bearer realm="https://a.example/token",service="a", Basic realm="x"')[1]
    Challenge(scheme='basic', parameters={'realm': 'x'})
    """
    return tuple(_challenges(header[:MAX_HEADER]))


def _challenges(header: str) -> Iterator[Challenge]:
    at = _after(_GAP, header, 0)
    while named := _SCHEME.match(header, at):
        at = _after(_BLANK, header, named.end())
        parameters: dict[str, str] = {}
        if _TOKEN68.match(header, at) and not _PARAMETER.match(header, at):
            at = _after(_TOKEN68, header, at)  # as in `Negotiate YII=`, which is not supported
        else:
            parameters, at = _parameters(header, at)
        yield Challenge(scheme=named[1].lower(), parameters=parameters)
        at = _after(_GAP, header, at)


def _parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    """The parameters from index at, and the index after them. The first of two equal names wins."""
    found: dict[str, str] = {}
    while pair := _PARAMETER.match(header, at):
        value = pair[2] if pair[2] is not None else re.sub(r"\\(.)", r"\1", pair[3])
        found.setdefault(pair[1].lower(), value)
        at = _after(_GAP, header, pair.end())
    return found, at


def _after(pattern: re.Pattern[str], header: str, at: int) -> int:
    found = pattern.match(header, at)
    return found.end() if found else at
