"""``ctx://sha256:<hex>``: the name of a contract, and of the pack that the contract describes."""

from __future__ import annotations

import re

from ctxpack_identity.digest import Digest, parse_digest
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import NewType

__all__ = ["CtxUri", "parse_uri", "uri_digest", "uri_for"]

CtxUri = NewType("CtxUri", str)

SCHEME = "ctx://"

_is_uri = re.compile(r"\Actx://sha256:[0-9a-f]{64}\Z").match


def uri_for(contract: Digest) -> CtxUri:
    """Return the URI of the contract whose canonical bytes have this digest."""
    return CtxUri(SCHEME + contract)


def uri_digest(uri: CtxUri) -> Digest:
    """Return the digest of the canonical contract that uri names."""
    return parse_digest(uri.removeprefix(SCHEME), where="URI")


def parse_uri(text: object, *, where: str = "URI") -> CtxUri:
    """Return text as a CtxUri.

    Raises: InvalidInput, unless text is exactly ``ctx://sha256:`` and 64 lower-case hexadecimal digits. Truncated
    URIs are refused everywhere: several contracts may have the same prefix.
    """
    if isinstance(text, str) and _is_uri(text):
        return CtxUri(text)
    raise InvalidInput(
        "not a ctx URI",
        where=where,
        expected="ctx://sha256: and 64 lower-case hexadecimal digits",
        got=repr(text)[:120],
        fix="`ctxpack id CONTRACT` prints it in full",
        code="E_BAD_URI",
    )
