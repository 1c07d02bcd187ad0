"""Errors of the libraries that open stores, translated without their messages, which may hold secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ctxpack_identity.errors import AccessDenied, CtxPackError, InvalidInput, LocalFailure, Unavailable
from ctxpack_identity.lighttyping import Any

__all__ = ["changed", "missing", "translated"]

INSTALL = "pip install 'ctxpack-identity[urls]', and the package of the store, such as s3fs for s3://"

_GARBLED = "httpprocessing"  # aiohttp could not parse an answer; the status in the exception is none of a server

# Each library has its own exception classes, without a common base. Comparing their names loads no library.
_NO_ANSWER = ("connection", "timeout", "payload", "incompleteread", "httpclient", "redirects", _GARBLED)
_NO_CREDENTIALS = ("credential", "gatedrepo", "unauthorized", "forbidden", "accessdenied", "authenticat")

_DEEPEST = 20  # exceptions that were raised from each other; one may be raised from itself

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
    raised, error = error, _reason(error)
    got, status = type(error).__name__, _status(error)
    if status:
        got += f" ({status})"
    if isinstance(error, ImportError):
        return LocalFailure("what opens such a URL is not installed", where=where, fix=INSTALL, code="E_SCHEME")
    if got == "FileExpired" or status == _PRECONDITION:  # s3fs reads only the ETag that it has seen
        return changed(where)
    if status in _GONE or (not status and isinstance(error, FileNotFoundError | NotADirectoryError)):
        return missing(where)
    if isinstance(error, PermissionError) or status in _DENIED or _is_one_of(_NO_CREDENTIALS, error):
        fix = "check the credentials that the store's library finds, and what they allow"
        return AccessDenied("the store refuses it", where=where, got=got, fix=fix)
    if 400 <= status < 500 and status not in _LATER:
        return _refused(where, got)
    if isinstance(error, OSError | EOFError) or status or _is_one_of(_NO_ANSWER, error, error.__cause__):
        return Unavailable("the store did not give it", where=where, got=got, fix="try again later")
    if raised is not error and isinstance(error, ValueError):  # no URL, though it looked like one: a port 99999
        return _refused(where, got)
    return LocalFailure("the library that opens such URLs failed", where=where, got=got, code="E_INPUT_UNREADABLE")


def _refused(where: str, got: str) -> InvalidInput:
    return InvalidInput("the store refused this URL", where=where, got=got, fix="check the URL", code="E_SCHEME")


def _reason(error: Exception) -> Exception:
    """Return what a FileNotFoundError is made of: fsspec raises one for each failure of HTTP, also for 503.

    It stays what it is where a library found no entry in a table.
    """
    reason = error
    for _ in range(_DEEPEST):
        inner = _inner(reason)
        if not isinstance(reason, FileNotFoundError) or not isinstance(inner, Exception):
            break
        reason = inner
    return error if isinstance(reason, LookupError) else reason


def _inner(error: BaseException) -> BaseException | None:
    """Return what error was raised from, or while handling."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_one_of(words: tuple[str, ...], *errors: BaseException | None) -> bool:
    names = " ".join(kind.__name__ for error in errors for kind in type(error).__mro__).lower()
    return any(word in names for word in words)


def _status(error: BaseException | None) -> int:
    """Return the HTTP status that an exception of aiohttp, requests, botocore or gcsfs carries, or its cause, or 0."""
    for _ in range(_DEEPEST):
        if error is None or _is_one_of((_GARBLED,), error, error.__cause__):
            break
        status: Any = getattr(error, "status", None)
        if not isinstance(status, int):  # aiohttp has both, and warns where code is read
            status = getattr(error, "code", None)
        response: Any = getattr(error, "response", None)
        if isinstance(response, dict):
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for number in (status, getattr(response, "status_code", response)):
            if isinstance(number, int) and 400 <= number < 600:
                return number
        error = error.__cause__
    return 0
