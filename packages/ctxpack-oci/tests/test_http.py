"""Redirects, time limits, TLS and proxies: what a server can make the client do."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import requests
import urllib3
from registry_double import Answer, Clock, RegistryDouble, fault, part

from ctxpack_identity.errors import AccessDenied, IntegrityError, InvalidInput, Unavailable
from ctxpack_oci import describe
from ctxpack_oci.content import BLOCK_BYTES
from ctxpack_oci.credentials import Credentials
from ctxpack_oci.http import Transport, _Upload
from ctxpack_oci.location import RegistryLocation
from ctxpack_oci.origin import Origin
from ctxpack_oci.patience import Patience
from ctxpack_oci.proxy import Network
from ctxpack_oci.registry import Registry

CHUNK = b"chunk " * 1000
LAYER = describe(CHUNK, "application/octet-stream")
BLOB = f"/v2/team/packs/blobs/{LAYER.digest}"
ANN = Credentials(username="ann", password="secret")


def redirect(location: str, status: int = 307) -> Answer:
    return Answer(status=status, headers={"Location": location}, body=b"moved")


def logged_in(double: RegistryDouble, open_registry: Callable[..., Registry]) -> Registry:
    """A registry that already sends its password with each request."""
    double.basic = ("ann", "secret")
    registry = open_registry(double, credentials=ANN)
    assert not registry.exists(LAYER)
    double.seen.clear()
    return registry


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_gets_no_credentials(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry], status: int
) -> None:
    registry = logged_in(double, open_registry)
    double.plan("GET", BLOB, redirect(f"{other.url}/signed?secret=1", status))
    other.plan("GET", "/signed", Answer(body=CHUNK))
    assert registry.fetch(LAYER) == CHUNK
    assert "authorization" in double.seen[0].headers
    assert set(other.seen[0].headers) <= {"host", "user-agent", "accept-encoding", "accept", "connection"}


def test_a_redirect_to_another_origin_gets_the_range_and_no_credentials(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    registry = logged_in(double, open_registry)
    double.plan("GET", BLOB, redirect(f"{other.url}/signed?secret=1"))
    other.plan("GET", "/signed", lambda seen: part(CHUNK, seen))
    assert registry.fetch_range(LAYER, 10, 10) == CHUNK[10:20]
    assert "authorization" in double.seen[0].headers
    assert other.seen[0].headers["range"] == "bytes=10-19"
    assert "authorization" not in other.seen[0].headers


def test_a_redirect_within_the_origin_gets_the_credentials(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    registry = logged_in(double, open_registry)
    double.plan("GET", BLOB, redirect("/elsewhere"))
    double.plan("GET", "/elsewhere", lambda seen: Answer(body=CHUNK) if "authorization" in seen.headers else None)
    assert registry.fetch(LAYER) == CHUNK


def test_credentials_are_not_sent_after_a_redirect_away_and_back(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    registry = logged_in(double, open_registry)
    double.plan("GET", BLOB, redirect(f"{other.url}/detour"))
    other.plan("GET", "/detour", redirect(f"{double.url}/back"))
    double.plan("GET", "/back", lambda seen: Answer(body=CHUNK) if "authorization" not in seen.headers else None)
    assert registry.fetch(LAYER) == CHUNK


def test_a_challenge_from_another_origin_is_not_answered(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    registry = logged_in(double, open_registry)
    double.plan("GET", BLOB, redirect(f"{other.url}/signed"), times=9)
    other.plan("GET", "/signed", fault(401, "GIVE", WWW_Authenticate='Basic realm="me"'), times=9)
    with pytest.raises(AccessDenied, match="answered 401"):
        registry.fetch(LAYER)
    assert len(other.seen) == 1
    assert "authorization" not in other.seen[0].headers


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
def test_a_challenge_from_another_origin_is_not_remembered(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry], scheme: str
) -> None:
    challenge = f'{scheme} realm="{other.url}/token"'
    double.plan("GET", BLOB, redirect(f"{other.url}/signed"), times=9)
    other.plan("GET", "/signed", fault(401, "GIVE", WWW_Authenticate=challenge), times=9)
    with pytest.raises(AccessDenied, match="answered 401"):
        open_registry(double, credentials=ANN).fetch(LAYER)
    assert [one.path for one in [*double.seen, *other.seen]] == [BLOB, "/signed"]


def test_the_number_of_redirects_is_limited(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", ".*", lambda seen: redirect(f"/v2/{len(double.seen)}"), times=99)
    with pytest.raises(IntegrityError, match="more than 5 redirects"):
        registry.fetch(LAYER)
    assert len(double.seen) == 6


def test_the_body_of_a_redirect_is_not_read(registry: Registry, double: RegistryDouble) -> None:
    double.blobs[LAYER.digest] = CHUNK
    endless = Answer(status=307, headers={"Location": BLOB + "?again"}, body=b"x" * 9999, length=2**40, endless=True)
    double.plan("GET", BLOB, endless)
    assert registry.fetch(LAYER) == CHUNK


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:192.168.0.1]/",
        "http://2852039166/",  # 169.254.169.254 in decimal
        "http://0xa9.0xfe.0xa9.0xfe/",
        "file:///etc/passwd",
        "http://[",
        "ftp://127.0.0.1/",
        "data:text/plain,x",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1\\@evil.example/",
        "http://evil example/",
        "http://127.0.0.1:99999/",
    ],
)
def test_a_redirect_that_is_not_followed(registry: Registry, double: RegistryDouble, location: str) -> None:
    double.plan("GET", ".*", redirect(location), times=9)
    with pytest.raises(IntegrityError, match=r"redirect to .* is not followed; ask the operator of the registry"):
        registry.fetch(LAYER)
    assert len(double.seen) == 1


@pytest.mark.parametrize(
    ("home", "url", "allowed"),
    [
        ("https://registry.example", "https://storage.example/x", True),
        ("https://registry.example", "http://storage.example/x", False),
        ("https://registry.example", "http://registry.example/x", False),
        ("http://registry.example", "http://storage.example/x", True),
        ("http://registry.example", "https://storage.example/x", True),
        ("https://registry.example", "https://127.0.0.1/x", False),
        ("https://registry.example", "https://localhost/x", False),
        ("https://registry.example", "https://0.0.0.0/x", False),
        ("https://registry.example", "https://[::1]/x", False),
        ("https://registry.example", "https://10.1.2.3/x", False),
        ("https://10.1.2.3", "https://10.9.9.9/x", True),
        ("https://10.1.2.3", "https://169.254.169.254/x", False),
        ("http://127.0.0.1:5000", "http://localhost:9000/x", True),
        ("http://127.0.0.1:5000", "http://10.1.2.3/x", False),
        ("https://169.254.1.1", "https://169.254.1.1/x", True),
    ],
)
def test_where_a_registry_may_redirect_to(home: str, url: str, allowed: bool) -> None:
    scheme, _, host = home.partition("://")
    name, _, port = host.partition(":")
    transport = Transport(
        Origin(scheme, name, int(port or {"http": 80, "https": 443}[scheme])), patience=Patience(), network=Network()
    )
    assert transport.allows(url) is allowed


def test_a_redirect_without_a_location_is_refused(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", ".*", Answer(status=302))
    with pytest.raises(IntegrityError, match="redirect without a Location"):
        registry.fetch(LAYER)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_an_upload_is_not_turned_into_a_get(registry: Registry, double: RegistryDouble, status: int) -> None:
    double.plan("POST", ".*", redirect("/v2/team/packs/blobs/uploads/?again", status))
    with pytest.raises(IntegrityError, match=r"redirect of a POST to http://127.0.0.1:[0-9]+ is not followed"):
        registry.push(LAYER, CHUNK)


def test_an_upload_follows_redirects_within_its_origin_only(
    registry: Registry, double: RegistryDouble, other: RegistryDouble
) -> None:
    double.plan("PUT", ".*", lambda seen: redirect(seen.target + "&again=1", 308))
    registry.push(LAYER, CHUNK)
    assert double.blobs[LAYER.digest] == CHUNK
    double.plan("PUT", ".*", redirect(f"{other.url}/other", 307))
    with pytest.raises(IntegrityError, match="redirect of a PUT"):
        registry.push(LAYER, CHUNK)
    assert other.seen == []


def test_cookies_and_netrc_are_not_used(
    registry: Registry, double: RegistryDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    double.plan("HEAD", BLOB, Answer(headers={"Set-Cookie": "a=b; Path=/"}))
    registry.exists(LAYER)
    registry.exists(LAYER)  # the double complains about a cookie
    assert all("authorization" not in one.headers for one in double.seen)


# -- time -------------------------------------------------------------------------------------------------------------


def hurried(patience: Patience, **limits: float) -> Patience:
    return msgspec.structs.replace(patience, attempts=1, **limits)


def test_a_silent_server_is_given_up(
    double: RegistryDouble, open_registry: Callable[..., Registry], patience: Patience
) -> None:
    double.plan("GET", BLOB, Answer(body=CHUNK, drip=30))
    with pytest.raises(Unavailable, match=r"no answer in time \(1 attempt\)"):
        open_registry(double, patience=hurried(patience, read=0.2)).fetch(LAYER)


def test_a_slow_answer_is_given_up_at_the_deadline(
    double: RegistryDouble, open_registry: Callable[..., Registry], patience: Patience, clock: Clock
) -> None:
    def late(seen: object) -> Answer:
        clock.now += 1000
        return Answer(body=CHUNK, drip=0.01)

    double.plan("GET", BLOB, late)
    with pytest.raises(Unavailable, match="no answer in time"):
        open_registry(double, patience=hurried(patience)).fetch(LAYER)


def test_an_upload_is_given_up_at_the_deadline(
    double: RegistryDouble, open_registry: Callable[..., Registry], patience: Patience, clock: Clock
) -> None:
    large = b"x" * 5_000_000

    class Hasty:
        """A clock that advances half a minute whenever it is read."""

        def __call__(self) -> float:
            clock.now += 30
            return clock.now

    with pytest.raises(Unavailable, match="no answer in time"):
        open_registry(double, patience=hurried(msgspec.structs.replace(patience, clock=Hasty()))).push(
            describe(large, "application/octet-stream"), large
        )


def test_no_attempt_begins_after_the_deadline(
    double: RegistryDouble, open_registry: Callable[..., Registry], patience: Patience, clock: Clock
) -> None:
    double.plan("HEAD", ".*", fault(503, "BUSY", Retry_After="25"), times=99)
    with pytest.raises(Unavailable, match=r"\(3 attempts\)"):
        open_registry(double, patience=msgspec.structs.replace(patience, total=60.0)).exists(LAYER)
    assert clock.waits == [25.0, 25.0]


def test_a_registry_that_is_down_is_unavailable(
    double: RegistryDouble, open_registry: Callable[..., Registry], patience: Patience
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        location = RegistryLocation(scheme="http", host=f"127.0.0.1:{unused.getsockname()[1]}", repository="team/packs")
        registry = Registry(location, patience=patience)
        with pytest.raises(Unavailable, match=r"http://127.0.0.1:[0-9]+: Connection refused \(5 attempts\)"):
            registry.exists(LAYER)
        registry.close()


def test_bytes_are_sent_without_a_copy_of_them() -> None:
    data = bytes(20 * 2**20)
    tracemalloc.start()
    upload = _Upload(data, Patience().deadline(len(data)))
    while upload.read(BLOCK_BYTES):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


# -- TLS and proxies --------------------------------------------------------------------------------------------------


def tls_registry(double: RegistryDouble, patience: Patience, network: Network) -> Registry:
    location = RegistryLocation(scheme="https", host=double.host, repository="team/packs")
    return Registry(location, patience=patience, network=network)


def test_a_named_authority_is_trusted_and_no_other(
    start_double: Callable[..., RegistryDouble], patience: Patience, tls_file: Path
) -> None:
    double = start_double(tls=tls_file)
    registry = tls_registry(double, patience, Network(authorities=str(tls_file)))
    registry.push(LAYER, CHUNK)
    assert registry.fetch(LAYER) == CHUNK
    registry.close()
    distrusting = tls_registry(double, patience, Network())
    with pytest.raises(Unavailable) as caught:
        distrusting.fetch(LAYER)
    distrusting.close()
    assert str(caught.value).endswith(
        f"{double.url}: certificate is not trusted (self-signed certificate); "
        "name the authority's PEM file in SSL_CERT_FILE"
    )
    assert caught.value.code == "E_TLS"


def test_the_error_for_a_registry_without_tls_says_what_to_do(double: RegistryDouble, patience: Patience) -> None:
    registry = tls_registry(double, patience, Network())
    with pytest.raises(Unavailable, match="if the registry has no TLS, write http:// in full before its host"):
        registry.exists(LAYER)
    registry.close()


def test_a_host_that_is_not_loopback_is_reached_through_the_proxy(double: RegistryDouble, patience: Patience) -> None:
    location = RegistryLocation(scheme="http", host="registry.example", repository="team/packs")
    registry = Registry(location, patience=patience, network=Network(proxies={"http": double.url}))
    double.plan("HEAD", ".*", Answer())
    assert registry.exists(LAYER)
    assert double.seen[0].target == f"http://registry.example{BLOB}"
    registry.close()


def test_a_proxy_that_cannot_be_used_is_invalid_input(patience: Patience) -> None:
    location = RegistryLocation(scheme="http", host="registry.example", repository="team/packs")
    registry = Registry(location, patience=patience, network=Network(proxies={"http": "http://"}))
    with pytest.raises(InvalidInput, match=r"; correct or unset https_proxy, http_proxy or all_proxy$"):
        registry.exists(LAYER)
    registry.close()


def test_connections_that_were_closed_to_make_room_are_opened_again(registry: Registry, double: RegistryDouble) -> None:
    """As when a registry redirected to many servers."""
    double.plan("HEAD", ".*", Answer(), times=3)
    for _ in range(3):
        assert registry.exists(LAYER)
        registry.close()


# -- exceptions of other libraries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectionError("x"),
        requests.exceptions.ReadTimeout("x"),
        requests.exceptions.ChunkedEncodingError("x"),
        requests.exceptions.InvalidHeader("x"),
        requests.exceptions.InvalidURL("x"),
        urllib3.exceptions.ProtocolError("x"),
        urllib3.exceptions.DecodeError("x"),
        urllib3.exceptions.LocationParseError("x"),
        urllib3.exceptions.SSLError("x"),
        TimeoutError("x"),
        ConnectionResetError("x"),
        UnicodeError("x"),
    ],
)
@pytest.mark.parametrize("stage", ["sending", "reading"])
def test_every_exception_of_another_library_becomes_ours(
    double: RegistryDouble, patience: Patience, error: Exception, stage: str
) -> None:
    class Broken:
        """An adapter that fails while it sends, or returns a response that fails while it is read."""

        status, headers = 200, urllib3.HTTPHeaderDict()

        def open(self, *given: object, **settings: object) -> Broken:
            if stage == "sending":
                raise error
            return self

        def read1(self, amount: int, decode_content: bool) -> bytes:
            raise error

        def close(self) -> None:
            pass

    location = RegistryLocation(scheme="http", host=double.host, repository="team/packs")
    registry = Registry(location, patience=hurried(patience))
    transport = registry._repository._transport
    transport.close()
    transport._adapter = Broken()  # type: ignore[assignment]
    with pytest.raises(Unavailable) as caught:
        registry.fetch(LAYER)
    assert caught.value.__cause__ is not None


def test_a_server_that_does_not_answer_in_http_is_unavailable(patience: Patience) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        location = RegistryLocation(scheme="http", host=f"127.0.0.1:{server.getsockname()[1]}", repository="team/packs")
        registry = Registry(location, patience=hurried(patience))
        import threading

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable, match="the connection broke"):
            registry.exists(LAYER)
        thread.join()
        registry.close()
