"""Errors of the libraries that open stores, translated without their messages, which may hold secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ctxpack_identity.errors import AccessDenied, CtxPackError, InvalidInput, LocalFailure, Unavailable
from ctxpack_identity.lighttyping import Any

__all__ = ["changed", "missing", "translated"]

INSTALL = "pip install 'ctxpack-identity[urls]', and the package of the store, such as s3fs for s3://"

# Each library has its own exception classes, without a common base. Comparing their names loads no library.
_NO_ANSWER = ("connection", "timeout", "payload", "incompleteread", "httpclient")
_NO_CREDENTIALS = ("credential", "gatedrepo", "unauthorized", "forbidden", "accessdenied", "authenticat")

_GONE = (404, 410)
_PRECONDITION = 412
_DENIED = (401, 403)
_LATER = (408, 425, 429)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise every foreign exception as one of ours. where: the URL, without secrets."""
    try:
        yield
    except CtxPackError:
        raise
    except Exception as error:
        raise _translation(error, where) from error


def missing(where: str) -> InvalidInput:
    return InvalidInput("no such object or folder", where=where, fix="check the URL", code="E_INPUT_MISSING")


def changed(where: str, *, expected: str = "", got: str = "") -> InvalidInput:
    return InvalidInput(
        "changed while it was read",
        where=where,
        expected=expected,
        got=got,
        fix="try again when nothing writes to it",
        code="E_INPUT_CHANGED",
    )


def _translation(error: Exception, where: str) -> CtxPackError:
    """Return our error for an exception. It has only class and HTTP status: the text may quote the URL."""
    got, status = type(error).__name__, _status(error)
    if status:
        got += f" ({status})"
    if isinstance(error, ImportError):
        return LocalFailure("what opens such a URL is not installed", where=where, fix=INSTALL, code="E_SCHEME")
    if got == "FileExpired" or status == _PRECONDITION:  # s3fs reads only the ETag that it has seen
        return changed(where)
    if isinstance(error, FileNotFoundError | NotADirectoryError) or status in _GONE:
        return missing(where)
    if isinstance(error, PermissionError) or status in _DENIED or _is_one_of(_NO_CREDENTIALS, error):
        fix = "check the credentials that the store's library finds, and what they allow"
        return AccessDenied("the store refuses it", where=where, got=got, fix=fix)
    if 400 <= status < 500 and status not in _LATER:
        what = "the store refused this URL"
        return InvalidInput(what, where=where, got=got, fix="check the URL", code="E_SCHEME")
    if isinstance(error, OSError | EOFError) or status or _is_one_of(_NO_ANSWER, error):
        return Unavailable("the store did not give it", where=where, got=got, fix="try again later")
    return LocalFailure("the library that opens such URLs failed", where=where, got=got, code="E_INPUT_UNREADABLE")


def _is_one_of(words: tuple[str, ...], error: Exception) -> bool:
    names = " ".join(kind.__name__ for kind in type(error).__mro__).lower()
    return any(word in names for word in words)


def _status(error: BaseException | None) -> int:
    """Return the HTTP status that an exception of aiohttp, requests, botocore or gcsfs carries, or its cause, or 0."""
    while error is not None:
        response: Any = getattr(error, "response", None)
        if isinstance(response, dict):
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for status in (getattr(error, "status", None), getattr(error, "code", None), response):
            number = getattr(status, "status_code", status)
            if isinstance(number, int) and 400 <= number < 600:
                return number
        error = error.__cause__
    return 0
