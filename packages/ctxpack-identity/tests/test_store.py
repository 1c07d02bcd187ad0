"""Every error of a library of stores, at every step, becomes one of ours, without secrets."""

from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from memory_store import MemoryStore

from ctxpack_identity import AccessDenied, CtxPackError, InvalidInput, LocalFailure, Unavailable, hash_tree
from ctxpack_identity.hashing.urls.store import Store


def foreign(name: str, base: type[Exception] = Exception, **attributes: Any) -> Exception:
    """Return an exception of a library's own class, whose text has the URL in it."""
    error = type(name, (base,), attributes)("https://me:hunter2@host/b/docs?sig=hunter2")
    assert isinstance(error, Exception)
    return error


def caused(error: Exception, **attributes: Any) -> Exception:
    error.__cause__ = foreign("ClientError", **attributes)
    return error


def not_found(cause: Exception) -> Exception:
    """Return the FileNotFoundError that fsspec makes of every failure of HTTP."""
    error = FileNotFoundError("hunter2")
    error.__cause__ = cause
    return error


def while_handling(context: Exception, *, suppressed: bool = False) -> Exception:
    error = FileNotFoundError("hunter2")
    error.__context__ = context
    error.__suppress_context__ = suppressed
    return error


def garbled(error: Exception) -> Exception:
    """Return error as aiohttp raises it for an answer that it cannot parse: with a status that no server sent."""
    error.__cause__ = foreign("BadStatusLine", type("HttpProcessingError", (Exception,), {}), code=400)
    return error


BOTO = {"ResponseMetadata": {"HTTPStatusCode": 403}}
BAD = {"ResponseMetadata": {"HTTPStatusCode": 400}}

CASES: list[tuple[Exception, type[CtxPackError], str]] = [
    (FileNotFoundError("hunter2"), InvalidInput, "no such object or folder; check the URL"),
    (foreign("ClientResponseError", status=404), InvalidInput, "no such object or folder; check the URL"),
    (not_found(foreign("ClientResponseError", status=404)), InvalidInput, "no such object or folder; check the URL"),
    (not_found(foreign("ClientResponseError", status=410)), InvalidInput, "no such object or folder; check the URL"),
    (not_found(FileNotFoundError("hunter2")), InvalidInput, "no such object or folder; check the URL"),
    (not_found(KeyError("hunter2")), InvalidInput, "no such object or folder; check the URL"),
    (not_found(ValueError("hunter2")), InvalidInput, "the store refused this URL: got ValueError; check the URL"),
    (not_found(IndexError("hunter2")), InvalidInput, "no such object or folder; check the URL"),
    (while_handling(KeyError("hunter2")), InvalidInput, "no such object or folder; check the URL"),
    (
        while_handling(foreign("ClientResponseError", status=503), suppressed=True),
        InvalidInput,
        "no such object or folder; check the URL",
    ),
    *[
        (not_found(foreign("ClientResponseError", status=status)), AccessDenied, f"the store refuses it: got {got}")
        for status, got in ((401, "ClientResponseError (401)"), (403, "ClientResponseError (403)"))
    ],
    *[
        (
            not_found(foreign("ClientResponseError", status=status)),
            Unavailable,
            f"the store did not give it: got ClientResponseError ({status}); try again later",
        )
        for status in (408, 425, 429, 500, 502, 503, 504, 599)
    ],
    (
        not_found(not_found(foreign("ClientResponseError", status=503))),
        Unavailable,
        "the store did not give it: got ClientResponseError (503)",
    ),
    (
        while_handling(foreign("ClientResponseError", status=500)),
        Unavailable,
        "the store did not give it: got ClientResponseError (500)",
    ),
    (
        not_found(foreign("ClientResponseError", status=400)),
        InvalidInput,
        "the store refused this URL: got ClientResponseError (400); check",
    ),
    (not_found(ConnectionRefusedError("hunter2")), Unavailable, "the store did not give it: got ConnectionRefusedErr"),
    (
        not_found(foreign("ClientConnectorDNSError", OSError)),
        Unavailable,
        "the store did not give it: got ClientConnectorDNSError",
    ),
    (not_found(foreign("ServerTimeoutError", builtins.TimeoutError)), Unavailable, "the store did not give it: got S"),
    (not_found(foreign("ClientPayloadError")), Unavailable, "the store did not give it: got ClientPayloadError"),
    (not_found(foreign("TooManyRedirects")), Unavailable, "the store did not give it: got TooManyRedirects"),
    (not_found(foreign("InvalidURL", ValueError)), InvalidInput, "the store refused this URL: got InvalidURL; check"),
    (not_found(PermissionError("hunter2")), AccessDenied, "the store refuses it: got PermissionError"),
    (
        not_found(caused(foreign("ClientResponseError", status=400), code=400)),
        InvalidInput,
        "the store refused this URL: got ClientResponseError (400)",
    ),
    (garbled(foreign("ClientResponseError", status=400)), Unavailable, "the store did not give it: got ClientResponse"),
    (garbled(foreign("ClientPayloadError")), Unavailable, "the store did not give it: got ClientPayloadError; try"),
    (not_found(foreign("SomeBug", TypeError)), LocalFailure, "the library that opens such URLs failed: got SomeBug"),
    (PermissionError("hunter2"), AccessDenied, "the store refuses it: got PermissionError; check the credentials that"),
    (foreign("ClientResponseError", status=403), AccessDenied, "the store refuses it: got ClientResponseError (403)"),
    (foreign("ClientError", response=BOTO), AccessDenied, "the store refuses it: got ClientError (403)"),
    (foreign("HttpError", code=401), AccessDenied, "the store refuses it: got HttpError (401)"),
    (foreign("NoCredentialsError"), AccessDenied, "the store refuses it: got NoCredentialsError"),
    (foreign("DefaultCredentialsError"), AccessDenied, "the store refuses it: got DefaultCredentialsError"),
    (foreign("GatedRepoError", OSError), AccessDenied, "the store refuses it: got GatedRepoError"),
    (
        foreign("HfHubHTTPError", OSError, response=SimpleNamespace(status_code=401)),
        AccessDenied,
        "the store refuses it: got HfHubHTTPError (401)",
    ),
    (foreign("ClientError", response=BAD), InvalidInput, "the store refused this URL: got ClientError (400); check"),
    (
        caused(OSError(22, "hunter2"), response=BAD),
        InvalidInput,
        "the store refused this URL: got OSError (400); check",
    ),
    (
        foreign("ClientResponseError", status=503),
        Unavailable,
        "the store did not give it: got ClientResponseError (503)",
    ),
    (ConnectionResetError("hunter2"), Unavailable, "the store did not give it: got ConnectionResetError; try"),
    (foreign("FSTimeoutError", builtins.TimeoutError), Unavailable, "the store did not give it: got FSTimeoutError"),
    (foreign("EndpointConnectionError"), Unavailable, "the store did not give it: got EndpointConnectionError"),
    (foreign("ClientPayloadError"), Unavailable, "the store did not give it: got ClientPayloadError"),
    (foreign("ReadTimeout"), Unavailable, "the store did not give it: got ReadTimeout"),
    (OSError(5, "hunter2"), Unavailable, "the store did not give it: got OSError"),
    (EOFError("hunter2"), Unavailable, "the store did not give it: got EOFError"),
    (
        ImportError("hunter2"),
        LocalFailure,
        "what opens such a URL is not installed; pip install 'ctxpack-ide",
    ),
    (foreign("SomeBug", TypeError), LocalFailure, "the library that opens such URLs failed: got SomeBug"),
]


def failing(step: str, error: Exception) -> Callable[[str, str], None]:
    """Return a before_answer that raises error at this step."""

    def fail(what: str, path: str) -> None:
        if what == step:
            raise error

    return fail


@pytest.mark.parametrize(("error", "ours", "message"), CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("step", ["info", "list", "open", "read"])
def test_every_foreign_error_at_every_step_is_one_of_ours(
    store: MemoryStore, step: str, error: Exception, ours: type[CtxPackError], message: str
) -> None:
    store.objects["b/docs/a"] = b"1"
    store.before_answer = failing(step, error)
    if message.startswith("no such") and step in ("open", "read"):  # it was there when it was listed
        message = "changed while it was read; try again when nothing writes to it"
    with pytest.raises(ours) as caught:
        hash_tree("store://b/docs")
    where = "store://b/docs" if step in ("info", "list") else "store://b/docs/a"
    assert str(caught.value).startswith(f"{where}: {message}")
    assert "hunter2" not in str(caught.value)
    assert caught.value.may_retry is (ours is Unavailable)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("error", [foreign("FileExpired", OSError), foreign("ClientResponseError", status=412)])
def test_an_object_that_expires_while_it_is_open_has_changed(store: MemoryStore, error: Exception) -> None:
    store.objects["b/docs/a"] = b"1"
    store.before_answer = failing("read", error)
    with pytest.raises(InvalidInput, match="store://b/docs/a: changed while it was read; try again"):
        hash_tree("store://b/docs")


def test_an_error_that_was_raised_from_itself_is_translated(store: MemoryStore) -> None:
    for error, message in ((FileNotFoundError(2, "x"), "no such object"), (ConnectionError("x"), "did not give it")):
        error.__cause__ = error
        store.before_answer = failing("info", error)
        with pytest.raises(CtxPackError, match=message):
            hash_tree("store://b/docs")


def test_ctrl_c_is_not_translated(store: MemoryStore) -> None:
    store.objects["b/docs/a"] = b"1"

    def interrupt(what: str, path: str) -> None:
        raise KeyboardInterrupt

    store.before_answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        hash_tree("store://b/docs")


def test_neither_password_nor_signature_is_shown(store: MemoryStore) -> None:
    opened = Store("store://me:hunter2@host/docs?sig=hunter2")
    assert opened.shown("") == "store://host/docs"
    assert opened.shown("a/b") == "store://host/docs/a/b"
    with pytest.raises(InvalidInput) as caught:
        opened.info("")
    assert str(caught.value) == "store://host/docs: no such object or folder; check the URL"


def test_the_identity_of_a_store_does_not_depend_on_the_path(store: MemoryStore) -> None:
    assert Store("store://b/docs").identity() == Store("store://elsewhere").identity()
    assert Store("memory://b/docs").identity() != Store("store://b/docs").identity()
