"""A 404 is a miss only when a registry said it: a wrong miss lets `run` do the work again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry_double import Answer, RegistryDouble, Seen, fault

from ctxpack_identity.errors import AccessDenied, NotFound, Unavailable
from ctxpack_oci import describe
from ctxpack_oci.credentials import Credentials
from ctxpack_oci.registry import Registry

MANIFESTS = "/v2/team/packs/manifests/.*"
TAGS = "/v2/team/packs/tags/list"
HTML = {"Content-Type": "text/html; charset=utf-8"}
PAGE = Answer(status=404, headers=HTML, body=b"<h1>Not Found</h1>")
ANN = Credentials(username="ann", password="secret", source="CTXPACK_USERNAME")


def one_tag(registry: Registry) -> object:
    return registry.fetch_tag("one")


def all_tags(registry: Registry) -> object:
    return [*registry.tags()] or None


LOOKS = [one_tag, all_tags]


def miss(double: RegistryDouble, answer: Answer) -> None:
    """Answer every request for a tag, or for the list of tags, with a 404."""
    double.plan("GET", f"{MANIFESTS}|{TAGS}", answer, times=99)


def asked(double: RegistryDouble) -> int:
    """Return how often `/v2/` was asked."""
    return len(double.asked("GET", "/v2/"))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "one"}}]},
        {"errors": [{"code": "NAME_UNKNOWN"}]},
        {"errors": [{"code": "NOT_FOUND", "message": "artifact one not found"}]},
        {"errors": [{}, {"code": "X"}]},
    ],
)
def test_the_document_of_a_registry_is_a_miss_without_a_further_request(
    double: RegistryDouble, registry: Registry, look: Callable[[Registry], object], body: object
) -> None:
    miss(double, Answer(status=404, body=json.dumps(body).encode()))
    assert look(registry) is None
    assert len(double.seen) == 1


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    "answer",
    [
        PAGE,
        Answer(status=404),
        Answer(status=404, body=b"404 page not found\n"),
        Answer(status=404, body=b"{}"),
        Answer(status=404, body=b'{"errors":[]}'),
        Answer(status=404, body=b'{"errors":[{"code":""}]}'),
        Answer(status=404, body=b'{"errors":"MANIFEST_UNKNOWN"}'),
        Answer(status=404, body=b'{"error":"not found"}'),
        Answer(status=404, body=b"[" * 50_000),
    ],
)
def test_without_the_document_the_server_is_asked_whether_it_is_a_registry(
    double: RegistryDouble, registry: Registry, look: Callable[[Registry], object], answer: Answer
) -> None:
    miss(double, answer)
    double.plan("GET", "/v2/", PAGE)
    with pytest.raises(Unavailable) as caught:
        look(registry)
    assert caught.value.code == "E_NO_REGISTRY"
    assert caught.value.may_retry
    assert str(caught.value).endswith(
        f": answered 404: expected the answer of a registry, got one of {double.url} that is no OCI registry; "
        "check that the registry setting names an OCI registry"
    )
    assert asked(double) == 1


@pytest.mark.parametrize(
    ("answer", "is_registry"),
    [
        (Answer(body=b"{}"), True),
        (Answer(), True),
        (Answer(headers={"Content-Type": "text/plain"}), True),
        (fault(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"'), True),
        (Answer(status=401), True),
        (Answer(headers=HTML, body=b"<h1>Welcome</h1>"), False),
        (Answer(headers={"Content-Type": "Text/HTML"}), False),
        (Answer(headers={"Content-Type": " application/xhtml+xml"}), False),
        (Answer(status=401, headers={**HTML, "WWW-Authenticate": 'Basic realm="x"'}), False),
        (Answer(status=403), False),
        (fault(404, "NOT_FOUND"), False),
        (Answer(status=405), False),
        (Answer(status=204), False),
        (Answer(status=418), False),
    ],
)
def test_a_registry_answers_at_v2_and_not_with_a_page(
    double: RegistryDouble, registry: Registry, answer: Answer, is_registry: bool
) -> None:
    miss(double, Answer(status=404))
    double.plan("GET", "/v2/", answer)
    for _ in range(3):
        if is_registry:
            assert registry.fetch_tag("one") is None
            assert list(registry.tags()) == []
        else:
            with pytest.raises(Unavailable, match="that is no OCI registry"):
                registry.fetch_tag("one")
    assert asked(double) == 1


def test_a_server_that_does_not_answer_at_v2_is_asked_again_next_time(
    double: RegistryDouble, registry: Registry
) -> None:
    miss(double, Answer(status=404))
    double.plan("GET", "/v2/", fault(503, "BUSY"), times=5)
    with pytest.raises(Unavailable, match=f"^registry {double.url}: {double.url} answered 503"):
        registry.fetch_tag("one")
    double.plan("GET", "/v2/", Answer(body=b"{}"))
    assert registry.fetch_tag("one") is None


def test_many_threads_ask_once(double: RegistryDouble, registry: Registry) -> None:
    miss(double, Answer(status=404))
    double.plan("GET", "/v2/", Answer(body=b"{}"), times=99)
    together = threading.Barrier(8)

    def look(_: int) -> object:
        together.wait()
        return registry.fetch_tag("one")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(8))) == [None] * 8
    assert asked(double) == 1


def test_a_registry_that_said_a_miss_once_is_one(double: RegistryDouble, registry: Registry) -> None:
    assert registry.fetch_tag("one") is None
    assert registry.resolve_tag("one") is None  # by HEAD, which has no body
    assert [seen.method for seen in double.seen] == ["GET", "HEAD"]


def test_the_question_is_asked_with_authorization(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    double.basic = ("ann", "secret")

    def page_for_ann(seen: Seen) -> Answer | None:
        return Answer(status=404) if "authorization" in seen.headers else None

    double.plan("GET", MANIFESTS, page_for_ann, times=99)
    double.plan("GET", "/v2/", lambda seen: Answer(body=b"{}") if "authorization" in seen.headers else None, times=9)
    assert open_registry(double, credentials=ANN).fetch_tag("one") is None
    (question,) = double.asked("GET", "/v2/")
    assert question.headers["authorization"].startswith("Basic ")


def test_a_registry_whose_tokens_are_refused_is_one(double: RegistryDouble, registry: Registry) -> None:
    miss(double, Answer(status=404))
    double.bearer = f"{double.url}/token"
    double.plan("GET", "/token", Answer(status=403))
    assert registry.fetch_tag("one") is None


# -- another server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_registry", [True, False])
def test_the_404_of_another_server_is_a_miss_only_with_the_document(
    double: RegistryDouble, other: RegistryDouble, registry: Registry, is_registry: bool
) -> None:
    double.plan("GET", MANIFESTS, Answer(status=307, headers={"Location": f"{other.url}/elsewhere"}))
    other.plan("GET", "/elsewhere", fault(404, "MANIFEST_UNKNOWN") if is_registry else PAGE)
    if is_registry:
        assert registry.fetch_tag("one") is None
    else:
        with pytest.raises(Unavailable, match=f"got one of {other.url} that is no OCI registry"):
            registry.fetch_tag("one")
    assert (asked(double), asked(other)) == (0, 0)


def test_what_another_server_says_does_not_make_a_registry_of_this_one(
    double: RegistryDouble, other: RegistryDouble, registry: Registry
) -> None:
    double.plan("GET", MANIFESTS, Answer(status=307, headers={"Location": f"{other.url}/elsewhere"}))
    other.plan("GET", "/elsewhere", fault(404, "MANIFEST_UNKNOWN"))
    assert registry.fetch_tag("one") is None
    miss(double, PAGE)
    double.plan("GET", "/v2/", PAGE)
    with pytest.raises(Unavailable, match="that is no OCI registry"):
        registry.fetch_tag("one")


# -- token services ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 405, 409, 410, 418, 204, 202, 501])
@pytest.mark.parametrize("body", [b"", b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', b"<h1>Not Found</h1>"])
def test_a_token_service_knows_of_no_miss(double: RegistryDouble, registry: Registry, status: int, body: bytes) -> None:
    double.bearer = f"{double.url}/token"
    double.plan("GET", "/token", Answer(status=status, body=b"" if status == 204 else body), times=99)
    for look in LOOKS:
        with pytest.raises(Unavailable, match=f"^token service {double.url}: answered {status}.*; ask the operator"):
            look(registry)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_service_that_refuses_is_not_a_miss_either(
    double: RegistryDouble, registry: Registry, status: int
) -> None:
    double.bearer = f"{double.url}/token"
    double.plan("GET", "/token", fault(status, "MANIFEST_UNKNOWN"))
    with pytest.raises(AccessDenied):
        registry.fetch_tag("one")


def test_a_blob_that_is_gone_is_still_not_found(double: RegistryDouble, registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.fetch(describe(b"gone", "application/octet-stream"))
