"""Basic, Bearer tokens and refresh tokens, and the servers that get credentials."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry_double import Answer, Clock, RegistryDouble, Seen, fault

from ctxpack_identity.errors import AccessDenied, IntegrityError, Unavailable
from ctxpack_oci import RegistryLocation, describe, parse_location
from ctxpack_oci.credentials import Credentials
from ctxpack_oci.proxy import Network
from ctxpack_oci.registry import Registry

CHUNK = b"chunk " * 1000
LAYER = describe(CHUNK, "application/octet-stream")
BASIC = "Basic YW5uOnNlY3JldA=="
ANN = Credentials(username="ann", password="secret", source="CTXPACK_USERNAME")
IDENTITY = Credentials(identity_token="refresh-me", source="config.json")


class TokenService:
    """The part of a double that gives tokens, and the requests for them."""

    def __init__(self, double: RegistryDouble, registry: RegistryDouble, *, life: int | None = None) -> None:
        self.double = double
        self.registry = registry
        self.life = life
        self.given = 0
        registry.bearer = f"{double.url}/token"
        double.plan("GET|POST", "/token", self.give, times=999)

    @property
    def asked(self) -> list[Seen]:
        return self.double.asked(path="/token")

    def give(self, seen: Seen) -> Answer:
        self.given += 1
        token = f"token-{self.given}"
        self.registry.good_tokens.add(token)
        life = {} if self.life is None else {"expires_in": self.life}
        return Answer(body=json.dumps({"token": token, **life}).encode())


# -- Basic ------------------------------------------------------------------------------------------------------------


def test_a_password_is_sent_after_the_first_401_and_then_with_each_request(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    double.basic = ("ann", "secret")
    registry = open_registry(double, credentials=ANN)
    registry.push(LAYER, CHUNK)
    assert registry.fetch(LAYER) == CHUNK
    assert [one.headers.get("authorization") for one in double.seen] == [None, BASIC, BASIC, BASIC]


def test_a_wrong_password_is_sent_once(double: RegistryDouble, open_registry: Callable[..., Registry]) -> None:
    double.basic = ("ann", "other")
    registry = open_registry(double, credentials=ANN)
    with pytest.raises(AccessDenied) as caught:
        registry.fetch(LAYER)
    assert len(double.seen) == 2
    assert str(caught.value).endswith(
        "answered 401 (UNAUTHORIZED: authentication required); check the credentials from CTXPACK_USERNAME, "
        f"`docker login {double.host}`, or set CTXPACK_USERNAME and CTXPACK_PASSWORD"
    )
    assert "secret" not in str(caught.value)
    with pytest.raises(AccessDenied):
        registry.fetch(LAYER)
    assert len(double.seen) == 3


def test_without_credentials_there_is_one_request(double: RegistryDouble, registry: Registry) -> None:
    double.basic = ("ann", "secret")
    with pytest.raises(AccessDenied, match=r"; `docker login 127\.0\.0\.1:[0-9]+`, or set CTXPACK_USERNAME and"):
        registry.fetch_tag("x")
    assert len(double.seen) == 1


@pytest.mark.parametrize("header", ["", "Negotiate", 'Digest realm="x"', "Bearer", "Basic", '"', "Bearer realm="])
def test_a_challenge_without_an_answer_is_access_denied(
    double: RegistryDouble, registry: Registry, header: str
) -> None:
    double.plan(".*", ".*", fault(401, "NO", WWW_Authenticate=header), times=9)
    if header.startswith("Bearer"):
        with pytest.raises(IntegrityError, match="token service is not used"):
            registry.fetch(LAYER)
    else:
        with pytest.raises(AccessDenied, match="answered 401"):
            registry.fetch(LAYER)


# -- Bearer -----------------------------------------------------------------------------------------------------------


def test_a_token_is_fetched_once_for_each_action(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    service = TokenService(double, double)
    registry = open_registry(double, credentials=ANN)
    registry.exists(LAYER)
    registry.push(LAYER, CHUNK)
    registry.push(LAYER, CHUNK)
    registry.fetch(LAYER)
    # Our own repository and action, although the challenge has another scope. A token for pushing allows pulling.
    assert [one.query for one in service.asked] == [
        {"service": "double", "scope": "repository:team/packs:pull"},
        {"service": "double", "scope": "repository:team/packs:pull,push"},
    ]
    assert [one.headers["authorization"] for one in service.asked] == [BASIC, BASIC]
    assert double.seen[-1].headers["authorization"] == "Bearer token-2"
    assert len(double.asked("HEAD")) == 2  # only the first request has no token


def test_without_credentials_an_anonymous_token_is_fetched(double: RegistryDouble, registry: Registry) -> None:
    service = TokenService(double, double)
    assert not registry.exists(LAYER)
    assert "authorization" not in service.asked[0].headers


def test_an_identity_token_is_exchanged_by_post(double: RegistryDouble, open_registry: Callable[..., Registry]) -> None:
    service = TokenService(double, double)
    assert not open_registry(double, credentials=IDENTITY).exists(LAYER)
    (asked,) = service.asked
    assert asked.method == "POST"
    assert asked.body == (
        b"service=double&scope=repository%3Ateam%2Fpacks%3Apull&grant_type=refresh_token&client_id=ctxpack"
        b"&refresh_token=refresh-me"
    )
    assert "authorization" not in asked.headers


def test_access_token_is_read_as_token(double: RegistryDouble, registry: Registry) -> None:
    double.bearer = f"{double.url}/token?account=x"
    double.good_tokens.add("t")
    double.plan("GET", "/token", Answer(body=b'{"access_token":"t"}'))
    assert not registry.exists(LAYER)
    assert double.asked(path="/token")[0].query["account"] == "x"


def test_a_token_is_renewed_before_it_ends(
    double: RegistryDouble, open_registry: Callable[..., Registry], clock: Clock
) -> None:
    service = TokenService(double, double, life=300)
    registry = open_registry(double)
    registry.exists(LAYER)
    clock.now += 280
    registry.exists(LAYER)
    assert service.given == 1
    clock.now += 15
    registry.exists(LAYER)
    assert service.given == 2
    assert len(double.asked("HEAD")) == 4  # the one without a token, and one each


def test_a_token_that_is_refused_before_its_end_is_replaced(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    service = TokenService(double, double)
    registry = open_registry(double)
    registry.exists(LAYER)
    double.good_tokens.clear()
    assert not registry.exists(LAYER)
    assert service.given == 2


def test_a_new_token_that_is_refused_is_access_denied(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    double.bearer = f"{double.url}/token"
    double.plan("GET", "/token", Answer(body=b'{"token":"never"}'), times=99)
    with pytest.raises(AccessDenied, match="answered 401"):
        open_registry(double, credentials=ANN).fetch(LAYER)
    assert len(double.seen) == 3


def test_many_threads_fetch_one_token(double: RegistryDouble, open_registry: Callable[..., Registry]) -> None:
    service = TokenService(double, double)
    registry = open_registry(double)
    together = threading.Barrier(8)

    def look(_: int) -> bool:
        together.wait()
        return registry.exists(LAYER)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(8))) == [False] * 8
    assert service.given == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_service_that_refuses_is_access_denied(
    double: RegistryDouble, open_registry: Callable[..., Registry], status: int
) -> None:
    double.bearer = f"{double.url}/token"
    double.plan("GET|POST", "/token", Answer(status=status, body=b'{"error":"invalid_grant"}'), times=99)
    with pytest.raises(AccessDenied, match=f"token service {double.url}: answered {status}; check the credentials"):
        open_registry(double, credentials=IDENTITY).fetch(LAYER)


def test_a_token_service_that_is_busy_is_tried_again(
    double: RegistryDouble, open_registry: Callable[..., Registry], clock: Clock
) -> None:
    double.plan("GET", "/token", fault(503, "BUSY"), times=2)
    TokenService(double, double)
    assert not open_registry(double).exists(LAYER)
    assert clock.waits == [0.5, 1.0]
    double.good_tokens.clear()
    double._plans.clear()
    double.plan("GET", "/token", fault(503, "BUSY"), times=99)
    with pytest.raises(Unavailable, match=f"token service {double.url}: {double.url} answered 503"):
        open_registry(double).exists(LAYER)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token":7}', b'{"token":"a\\r\\nX-Evil: 1"}', b'{"token":"\xc3\xa9"}', b"[" * 50_000],
)
def test_a_malformed_token_is_refused(double: RegistryDouble, registry: Registry, body: bytes) -> None:
    double.bearer = f"{double.url}/token"
    double.plan("GET", "/token", Answer(body=body))
    with pytest.raises(IntegrityError, match="not a token"):
        registry.fetch(LAYER)


def test_a_token_that_is_too_long_is_not_read(double: RegistryDouble, registry: Registry) -> None:
    double.bearer = f"{double.url}/token"
    double.plan("GET", "/token", Answer(body=b'{"token":"' + b"x" * 70_000 + b'"}'))
    with pytest.raises(IntegrityError, match="answer is too long: expected at most 65536 bytes"):
        registry.fetch(LAYER)


# -- servers that get credentials -------------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", [ANN, IDENTITY])
def test_a_token_service_with_another_owner_gets_no_credentials(
    double: RegistryDouble,
    other: RegistryDouble,
    open_registry: Callable[..., Registry],
    credentials: Credentials,
) -> None:
    service = TokenService(other, double)
    double.bearer = f"http://localhost:{other.port}/token"  # another name than the registry's 127.0.0.1
    registry = open_registry(double, credentials=credentials)
    assert not registry.exists(LAYER)
    (asked,) = service.asked
    assert asked.method == "GET"
    assert "authorization" not in asked.headers
    double.plan("HEAD", ".*", fault(403, "DENIED"))
    with pytest.raises(AccessDenied, match="the credentials were not sent to localhost, because it and 127"):
        registry.exists(LAYER)


def test_a_token_service_on_the_same_host_gets_credentials(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    service = TokenService(other, double)
    open_registry(double, credentials=ANN).exists(LAYER)
    assert service.asked[0].headers["authorization"] == BASIC


@pytest.mark.parametrize(
    "realm",
    ["http://10.0.0.1/token", "http://169.254.169.254/", "file:///x", "//x/token", "http://u:p@127.0.0.1/", "token"],
)
def test_a_token_service_that_is_not_used(double: RegistryDouble, registry: Registry, realm: str) -> None:
    double.bearer = realm
    with pytest.raises(IntegrityError, match=f"registry {double.url}: token service is not used: expected an http"):
        registry.fetch(LAYER)
    assert len(double.seen) == 1


def test_a_redirect_of_the_token_service_gets_no_password(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    double.bearer = f"{double.url}/token"
    double.good_tokens.add("t")
    double.plan("GET", "/token", Answer(status=307, headers={"Location": f"{other.url}/token"}))
    other.plan("GET", "/token", Answer(body=b'{"token":"t"}'))
    assert not open_registry(double, credentials=ANN).exists(LAYER)
    assert "authorization" not in other.seen[0].headers


def test_a_redirect_of_the_token_service_gets_no_refresh_token(
    double: RegistryDouble, other: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    double.bearer = f"{double.url}/token"
    double.plan("POST", "/token", Answer(status=307, headers={"Location": f"{other.url}/token"}))
    with pytest.raises(IntegrityError, match="redirect of a POST"):
        open_registry(double, credentials=IDENTITY).exists(LAYER)
    assert other.seen == []


@pytest.mark.parametrize("credentials", [ANN, IDENTITY])
@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="http://reg.example.test/token",service="x"'])
def test_over_plain_http_no_password_is_sent(double: RegistryDouble, credentials: Credentials, challenge: str) -> None:
    """The double stands for a proxy: it reads what everybody on the way can."""
    double.plan("GET|POST", ".*/token.*", Answer(body=b'{"token":"anonymous"}'), times=9)
    double.plan("HEAD", ".*", Answer(status=401, headers={"WWW-Authenticate": challenge}), times=9)
    location = parse_location("http://reg.example.test/team/packs")
    assert isinstance(location, RegistryLocation)
    registry = Registry(location, credentials=credentials, network=Network(proxies={"http": double.url}))
    with pytest.raises(AccessDenied, match="; no password is sent over plain HTTP: use https://reg"):
        registry.exists(LAYER)
    registry.close()
    heard = repr([(one.path, one.headers, one.body) for one in double.seen])
    assert double.seen
    assert not [secret for secret in (BASIC, IDENTITY.identity_token) if secret in heard]
