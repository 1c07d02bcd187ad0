"""One range of a blob over HTTP: what may answer it (RFC 9110, section 14)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from registry_double import Answer, RegistryDouble, fault

from ctxpack_identity.errors import AccessDenied, CtxPackError, IntegrityError, NotFound, Unavailable
from ctxpack_oci import Descriptor, describe
from ctxpack_oci.credentials import Credentials
from ctxpack_oci.descriptor import MAX_WHOLE_BYTES
from ctxpack_oci.registry import Registry

CHUNK = b"chunk " * 1000
LAYER = describe(CHUNK, "application/octet-stream")
LARGE = Descriptor(media_type="application/octet-stream", digest=LAYER.digest, size=MAX_WHOLE_BYTES + 1)
BLOB = f"/v2/team/packs/blobs/{LAYER.digest}"


def part(text: str = "bytes 10-19/6000", body: bytes = CHUNK[10:20], encoding: str = "identity") -> Answer:
    return Answer(status=206, headers={"Content-Range": text, "Content-Encoding": encoding}, body=body)


def test_a_range_is_one_get_for_one_range(registry: Registry, double: RegistryDouble) -> None:
    double.blobs[LAYER.digest] = CHUNK
    assert registry.fetch_range(LAYER, 10, 10) == CHUNK[10:20]
    assert [(one.method, one.headers["range"]) for one in double.seen] == [("GET", "bytes=10-19")]


@pytest.mark.parametrize("text", ["bytes 10-19/6000", "bytes 10-19/*", "Bytes 10-19/6000"])
def test_the_content_range_that_was_asked_for(registry: Registry, double: RegistryDouble, text: str) -> None:
    double.plan("GET", BLOB, part(text))
    assert registry.fetch_range(LAYER, 10, 10) == CHUNK[10:20]


@pytest.mark.parametrize(
    "text",
    [
        "bytes 11-20/6000",
        "bytes 10-18/6000",
        "bytes 10-20/6000",
        "bytes 10-19/5999",
        "bytes 10-19",
        "bytes */6000",
        "items 10-19/6000",
        "bytes 10-19/6000, bytes 30-39/6000",
    ],
)
def test_another_content_range_is_refused(registry: Registry, double: RegistryDouble, text: str) -> None:
    double.plan("GET", BLOB, part(text))
    with pytest.raises(IntegrityError) as caught:
        registry.fetch_range(LAYER, 10, 10)
    assert str(caught.value) == (
        f"blob {LAYER.digest[:19]} of {registry.name}: answer is another part: expected bytes 10-19/6000, got {text}; "
        "ask the operator of the registry"
    )
    assert caught.value.code == "E_PROTOCOL"


def test_several_parts_are_refused(registry: Registry, double: RegistryDouble) -> None:
    headers = {"Content-Type": "multipart/byteranges; boundary=x"}
    double.plan("GET", BLOB, Answer(status=206, headers=headers, body=CHUNK[10:20]))
    with pytest.raises(IntegrityError, match=r"answer is another part: .* got no Content-Range"):
        registry.fetch_range(LAYER, 10, 10)


@pytest.mark.parametrize(
    "short", [part(body=CHUNK[10:19]), Answer(status=206, headers=part().headers, body=CHUNK[10:15], length=10)]
)
def test_a_part_cut_short_is_asked_for_again(registry: Registry, double: RegistryDouble, short: Answer) -> None:
    double.blobs[LAYER.digest] = CHUNK
    double.plan("GET", BLOB, short, times=2)
    assert registry.fetch_range(LAYER, 10, 10) == CHUNK[10:20]
    double.plan("GET", BLOB, short, times=5)
    with pytest.raises(Unavailable, match=r"the answer was cut short \(5 attempts\); try again later"):
        registry.fetch_range(LAYER, 10, 10)


@pytest.mark.parametrize("endless", [False, True])
def test_a_part_that_is_longer_is_not_read_to_its_end(
    registry: Registry, double: RegistryDouble, endless: bool
) -> None:
    headers = part().headers
    double.plan(
        "GET",
        BLOB,
        Answer(status=206, headers=headers, body=CHUNK, length=2**62 if endless else None, endless=endless),
    )
    with pytest.raises(IntegrityError, match="answer is too long: expected at most 10 bytes"):
        registry.fetch_range(LAYER, 10, 10)


def test_an_encoded_part_is_refused(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", BLOB, part(encoding="gzip"))
    with pytest.raises(IntegrityError, match="answer is encoded"):
        registry.fetch_range(LAYER, 10, 10)


def test_a_registry_without_ranges_sends_a_small_blob_whole(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", BLOB, Answer(body=CHUNK))
    assert registry.fetch_range(LAYER, 10, 10) == CHUNK


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"X" + CHUNK[1:], "digest differs"),
        (CHUNK[:-1], "size differs"),
        (CHUNK + b"!", "answer is too long: expected at most 6000 bytes"),
    ],
)
def test_a_whole_blob_is_checked(registry: Registry, double: RegistryDouble, body: bytes, message: str) -> None:
    double.plan("GET", BLOB, Answer(body=body))
    with pytest.raises(IntegrityError, match=message):
        registry.fetch_range(LAYER, 10, 10)


def test_the_largest_blob_that_is_read_whole(registry: Registry, double: RegistryDouble) -> None:
    blob = bytes(MAX_WHOLE_BYTES)
    double.plan("GET", ".*", Answer(body=blob))
    assert registry.fetch_range(describe(blob, "a/b"), 10, 10) == blob


@pytest.mark.parametrize("answer", [Answer(body=b"x" * 9999, length=2**40, endless=True), Answer(drip=30, body=b"xx")])
def test_a_larger_blob_that_comes_whole_is_not_read(registry: Registry, double: RegistryDouble, answer: Answer) -> None:
    double.plan("GET", BLOB, answer)
    assert registry.fetch_range(LARGE, 10, 10) is None
    assert len(double.seen) == 1
    assert registry.exists(LAYER) is False  # over a new connection


@pytest.mark.parametrize(
    ("answer", "expected", "message"),
    [
        (Answer(status=416), IntegrityError, "the registry holds fewer bytes: expected 6000 bytes, got answered 416;"),
        (fault(404, "BLOB_UNKNOWN"), NotFound, "answered 404"),
        (fault(403, "DENIED"), AccessDenied, "answered 403"),
        (fault(400, "NO"), CtxPackError, "answered 400"),
        (Answer(status=204), IntegrityError, "answered 204: expected another status"),
    ],
)
def test_what_another_status_means(
    registry: Registry, double: RegistryDouble, answer: Answer, expected: type[CtxPackError], message: str
) -> None:
    double.plan("GET", BLOB, answer)
    with pytest.raises(expected, match=message):
        registry.fetch_range(LAYER, 10, 10)


def test_a_part_that_nobody_asked_for_is_not_the_blob(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", BLOB, part("bytes 0-5999/6000", CHUNK))
    with pytest.raises(IntegrityError, match="answered 206: expected another status"):
        registry.fetch(LAYER)


def test_a_token_that_expires_between_two_ranges_is_replaced(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    double.blobs[LAYER.digest] = CHUNK
    double.bearer = f"{double.url}/token"
    for token in ("one", "two"):
        double.plan("GET", "/token", Answer(body=b'{"token":"%s"}' % token.encode()))
    registry = open_registry(double, credentials=Credentials(username="ann", password="secret"))
    for token in ("one", "two"):
        double.good_tokens = {token}
        assert registry.fetch_range(LAYER, 10, 10) == CHUNK[10:20]
    assert len(double.asked("GET", "/token")) == 2
    assert {one.headers["range"] for one in double.asked("GET", BLOB)} == {"bytes=10-19"}
