"""From the answer of a registry to our error: the status gives the class, the JSON gives the reason."""

from __future__ import annotations

import msgspec

from ctxpack_identity.errors import AccessDenied, CtxPackError, IntegrityError, NotFound, Unavailable
from ctxpack_oci.exchange import Reply

__all__ = ["ASK_OPERATOR", "CHECK_SETTING", "codes_of", "message_of", "refusal"]

ASK_OPERATOR = "ask the operator of the registry"
CHECK_SETTING = "check that the registry setting names an OCI registry"

MAX_MESSAGE = 500  # characters of the registry's text in one of our messages


class _Fault(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Faults(msgspec.Struct):
    errors: list[_Fault] = []


_decode = msgspec.json.Decoder(_Faults).decode  # see imagemanifest


def refusal(reply: Reply, *, where: str, login: str) -> CtxPackError:
    """Return the error for an answer that is not the expected success.

    login: what to do when credentials are missing or wrong.
    """
    what = message_of(reply)
    if reply.status in (401, 403):
        return AccessDenied(what, where=where, fix=login)
    if reply.status == 404:
        content = codes_of(reply) & {"BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}
        return NotFound(what, where=where, fix="" if content else "create the repository, or check its name")
    if reply.status >= 500:
        return Unavailable(what, where=where, fix=ASK_OPERATOR)
    if 400 <= reply.status < 500:
        return CtxPackError(what, where=where, fix=ASK_OPERATOR, code="E_REFUSED")
    return IntegrityError(what, where=where, expected="another status", fix=CHECK_SETTING, code="E_PROTOCOL")


def message_of(reply: Reply) -> str:
    """Return the status and the registry's own text (distribution-spec, "Error Codes"), cut to MAX_MESSAGE.

    >>> message_of(Reply(status=429, headers={}, body=b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', url=""))
    'answered 429 (TOOMANYREQUESTS)'
    """
    text = "; ".join(": ".join(part for part in (fault.code, fault.message) if part) for fault in _faults(reply))
    if len(text) > MAX_MESSAGE:
        text = text[:MAX_MESSAGE] + "..."
    return f"answered {reply.status}" + (f" ({text})" if text else "")


def codes_of(reply: Reply) -> frozenset[str]:
    """Return the registry's error codes, such as ``TAG_INVALID``."""
    return frozenset(fault.code for fault in _faults(reply))


def _faults(reply: Reply) -> list[_Fault]:
    try:
        return _decode(reply.body).errors
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
