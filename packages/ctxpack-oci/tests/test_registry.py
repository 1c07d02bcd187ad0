"""The registry protocol, with a strict registry double over real HTTP."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry_double import Answer, Clock, RegistryDouble, Seen, digest, fault

from ctxpack_identity.errors import (
    AccessDenied,
    Conflict,
    CtxPackError,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, ImageManifest, describe, encode_image_manifest
from ctxpack_oci.credentials import Credentials
from ctxpack_oci.registry import Registry

CHUNK = b"chunk " * 1000
LAYER = describe(CHUNK, "application/vnd.ctxpack.chunk.v1.tar+gzip")
CONFIG = describe(b"{}", "application/vnd.ctxpack.contract.v1+json")
DATA = encode_image_manifest(ImageManifest(config=CONFIG, layers=(LAYER,)))
ROOT = describe(DATA, IMAGE_MANIFEST_MEDIA_TYPE)
TAG = "ctx-" + "a" * 64
BLOB_PATH = "/v2/team/packs/blobs/sha256:.*"
UPLOADS = "/v2/team/packs/blobs/uploads/"
UPLOAD_PATH = "/v2/team/packs/blobs/uploads/[0-9]+"
TAG_PATH = f"/v2/team/packs/manifests/{TAG}"


def push_all(registry: Registry) -> None:
    registry.push(LAYER, CHUNK)
    registry.push(CONFIG, b"{}")
    registry.push(ROOT, DATA)
    registry.tag(ROOT, TAG)


def test_what_was_pushed_and_tagged_is_fetched(registry: Registry, double: RegistryDouble) -> None:
    push_all(registry)
    assert registry.fetch_tag(TAG) == (ROOT, DATA)
    assert registry.fetch(ROOT) == DATA
    assert registry.fetch(LAYER) == CHUNK
    assert registry.exists(LAYER)
    assert registry.exists(ROOT)
    assert list(registry.tags()) == [TAG]
    assert registry.name == f"{double.host}/team/packs"


def test_a_push_costs_two_requests_a_blob_and_one_a_manifest_or_tag(registry: Registry, double: RegistryDouble) -> None:
    push_all(registry)
    assert [one.method for one in double.seen] == ["POST", "PUT", "POST", "PUT", "PUT", "PUT"]


def test_fetch_tag_is_one_get(registry: Registry, double: RegistryDouble) -> None:
    push_all(registry)
    double.seen.clear()
    registry.fetch_tag(TAG)
    assert [one.method for one in double.seen] == ["GET"]


def test_pushing_twice_is_no_error(registry: Registry, double: RegistryDouble) -> None:
    push_all(registry)
    push_all(registry)
    assert double.blobs[LAYER.digest] == CHUNK


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_the_body_and_other_headers_of_a_success_are_ignored(
    registry: Registry, double: RegistryDouble, size: int
) -> None:
    double.sessions["7"] = True
    extra = {"body": b"x" * size, "headers": {"Location": f"{UPLOADS}7?_state=s%3D7", "Content-Encoding": "br"}}
    double.plan("POST", UPLOADS, Answer(status=202, **extra))  # type: ignore[arg-type]
    double.plan("PUT", ".*/manifests/.*", Answer(status=201, **extra))  # type: ignore[arg-type]
    registry.push(LAYER, CHUNK)
    registry.push(ROOT, DATA)
    assert double.blobs[LAYER.digest] == CHUNK


def test_an_empty_blob_is_pushed_and_fetched(registry: Registry) -> None:
    empty = describe(b"", "application/octet-stream")
    registry.push(empty, b"")
    assert registry.fetch(empty) == b""


def test_a_manifest_that_was_not_just_pushed_is_fetched_to_be_tagged(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    push_all(open_registry(double))
    open_registry(double).tag(ROOT, "again")
    assert double.tags["again"] == ROOT.digest


def test_only_the_last_manifests_are_kept_for_tagging(registry: Registry, double: RegistryDouble) -> None:
    pushed = [
        encode_image_manifest(ImageManifest(config=CONFIG, layers=(), annotations={"n": str(n)})) for n in range(20)
    ]
    for data in pushed:
        registry.push(describe(data, IMAGE_MANIFEST_MEDIA_TYPE), data)
    for n, data in enumerate(pushed):
        registry.tag(describe(data, IMAGE_MANIFEST_MEDIA_TYPE), f"n{n}")
    assert len(double.asked("GET")) == 12
    assert double.tags["n0"] == digest(pushed[0])


def test_several_threads_use_one_registry(registry: Registry) -> None:
    blobs = [bytes([n]) * 1000 for n in range(40)]

    def there_and_back(data: bytes) -> bytes:
        descriptor = describe(data, "application/octet-stream")
        assert not registry.exists(descriptor)
        registry.push(descriptor, data)
        assert registry.exists(descriptor)
        return registry.fetch(descriptor)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, blobs)) == blobs


# -- hit, miss or unknown ---------------------------------------------------------------------------------------------


def test_only_404_is_a_miss(registry: Registry) -> None:
    assert registry.fetch_tag(TAG) is None
    assert registry.exists(LAYER) is False


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, AccessDenied), (403, AccessDenied), (429, Unavailable), (500, Unavailable), (503, Unavailable)],
)
@pytest.mark.parametrize("lookup", ["fetch_tag", "exists", "fetch", "fetch_range", "fetch_into", "tags"])
def test_a_refusal_is_never_a_miss(
    registry: Registry, double: RegistryDouble, status: int, expected: type[CtxPackError], lookup: str
) -> None:
    double.plan(".*", ".*", fault(status, "TRY", "later"), times=99)
    calls: dict[str, Callable[[], object]] = {
        "fetch_tag": lambda: registry.fetch_tag(TAG),
        "exists": lambda: registry.exists(LAYER),
        "fetch": lambda: registry.fetch(LAYER),
        "fetch_range": lambda: registry.fetch_range(LAYER, 1, 1),
        "fetch_into": lambda: registry.fetch_into(LAYER, io.BytesIO()),
        "tags": lambda: list(registry.tags()),
    }
    with pytest.raises(expected, match=f"answered {status}"):
        calls[lookup]()


def test_the_text_of_the_registry_is_escaped_and_cut(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", BLOB_PATH, fault(418, "TEAPOT", "short\x1b[31m and \u202estout" + "x" * 999))
    with pytest.raises(CtxPackError) as caught:
        registry.fetch(LAYER)
    assert str(caught.value).startswith(
        f"blob {LAYER.digest[:19]} of {registry.name}: answered 418 (TEAPOT: short\\u001b[31m and \\u202estoutxxx"
    )
    assert len(str(caught.value)) < 700
    assert caught.value.code == "E_REFUSED"


def test_an_error_without_json_is_reported_by_its_status(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", BLOB_PATH, Answer(status=404, body=b"<html>" * 20_000))
    with pytest.raises(NotFound, match=r"answered 404; create the repository, or check its name$"):
        registry.fetch(LAYER)


def test_access_denied_says_how_to_log_in(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", BLOB_PATH, fault(403, "DENIED", "requested access to the resource is denied"))
    with pytest.raises(AccessDenied) as caught:
        registry.fetch(LAYER)
    assert str(caught.value) == (
        f"blob {LAYER.digest[:19]} of {double.host}/team/packs: "
        "answered 403 (DENIED: requested access to the resource is denied); "
        f"`docker login {double.host}`, or set CTXPACK_USERNAME and CTXPACK_PASSWORD"
    )


# -- bytes that are not what they should be ---------------------------------------------------------------------------


def test_a_blob_that_differs_is_refused(registry: Registry, double: RegistryDouble) -> None:
    double.blobs[LAYER.digest] = b"X" + CHUNK[1:]
    with pytest.raises(IntegrityError, match=f"digest differs: expected {LAYER.digest}, got sha256:.*; try again"):
        registry.fetch(LAYER)


def test_a_blob_that_is_shorter_is_refused(registry: Registry, double: RegistryDouble) -> None:
    double.blobs[LAYER.digest] = CHUNK[:-1]
    with pytest.raises(IntegrityError, match="size differs: expected 6000 bytes, got 5999; try again"):
        registry.fetch(LAYER)


@pytest.mark.parametrize("answer", [Answer(body=CHUNK + b"!"), Answer(body=CHUNK, length=2**62, endless=True)])
def test_a_blob_that_is_longer_is_not_read_to_its_end(
    registry: Registry, double: RegistryDouble, answer: Answer
) -> None:
    double.plan("GET", BLOB_PATH, answer)
    with pytest.raises(IntegrityError, match="answer is too long: expected at most 6000 bytes"):
        registry.fetch(LAYER)


def test_an_encoded_answer_is_refused(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", BLOB_PATH, Answer(body=CHUNK, headers={"Content-Encoding": "gzip, br"}))
    with pytest.raises(IntegrityError, match="answer is encoded: expected no Content-Encoding, got gzip, br"):
        registry.fetch(LAYER)


@pytest.mark.parametrize(
    ("media_type", "limit"), [("application/octet-stream", 32 * 2**20), (IMAGE_MANIFEST_MEDIA_TYPE, 4 * 2**20)]
)
def test_content_with_too_large_a_size_in_its_descriptor_is_not_asked_for(
    registry: Registry, double: RegistryDouble, media_type: str, limit: int
) -> None:
    forged = Descriptor(media_type=media_type, digest=LAYER.digest, size=2**62)
    with pytest.raises(IntegrityError, match=f"too large: expected at most {limit} bytes, got {2**62}"):
        registry.fetch(forged)
    assert double.seen == []


def test_data_that_differs_from_its_descriptor_is_not_sent(registry: Registry, double: RegistryDouble) -> None:
    with pytest.raises(IntegrityError, match="size differs"):
        registry.push(LAYER, b"other")
    with pytest.raises(IntegrityError, match="digest differs"):
        registry.push(ROOT, b"X" + DATA[1:])
    assert double.seen == []


def test_the_registry_refuses_a_blob_that_arrives_with_other_bytes(registry: Registry, double: RegistryDouble) -> None:
    refused = Answer(status=400, body=b'{"errors":[{"code":"DIGEST_INVALID","message":"did not match"}]}')
    double.plan("PUT", UPLOAD_PATH, refused)
    with pytest.raises(
        IntegrityError, match=f"digest differs from what the registry received: expected {LAYER.digest}"
    ):
        registry.push(LAYER, CHUNK)
    assert LAYER.digest not in double.blobs


@pytest.mark.parametrize("hostile", ["sha256:../../x", "sha512:" + "0" * 128, "sha256:" + "A" * 64])
def test_a_digest_is_checked_before_its_use_in_a_url(registry: Registry, double: RegistryDouble, hostile: str) -> None:
    with pytest.raises(InvalidInput, match="not a digest"):
        registry.exists(Descriptor(media_type="a/b", digest=hostile, size=1))  # type: ignore[arg-type]
    assert double.seen == []


def test_a_tag_is_checked_before_its_use_in_a_url(registry: Registry, double: RegistryDouble) -> None:
    for tag in ("", "a/b", "..", "-x", "x" * 129, "a?b", "a\n"):
        with pytest.raises(InvalidInput, match="not a tag"):
            registry.fetch_tag(tag)
    assert double.seen == []


# -- digests from the registry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Docker-Content-Digest": "sha512:" + "0" * 128}])
def test_a_registry_may_omit_the_digest_of_a_manifest(
    registry: Registry, double: RegistryDouble, headers: dict[str, str]
) -> None:
    double.plan("GET", TAG_PATH, Answer(body=DATA, headers={"Content-Type": IMAGE_MANIFEST_MEDIA_TYPE, **headers}))
    assert registry.fetch_tag(TAG) == (ROOT, DATA)


def test_a_digest_header_that_differs_from_the_body_is_refused(registry: Registry, double: RegistryDouble) -> None:
    wrong = {"Docker-Content-Digest": LAYER.digest}
    double.plan("GET", TAG_PATH, Answer(body=DATA, headers={"Content-Type": IMAGE_MANIFEST_MEDIA_TYPE, **wrong}))
    with pytest.raises(IntegrityError, match=f"digest differs: expected {LAYER.digest}, got {ROOT.digest}"):
        registry.fetch_tag(TAG)


def test_a_tagged_manifest_that_is_too_long_is_not_read_to_its_end(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", TAG_PATH, Answer(body=b" " * 2**20, length=2**62, endless=True))
    with pytest.raises(IntegrityError, match=f"answer is too long: expected at most {4 * 2**20} bytes"):
        registry.fetch_tag(TAG)


@pytest.mark.parametrize("path", [UPLOAD_PATH, "/v2/team/packs/manifests/.*"])
def test_a_success_that_names_another_digest_is_refused(registry: Registry, double: RegistryDouble, path: str) -> None:
    double.plan("PUT", path, Answer(status=201, headers={"Docker-Content-Digest": "sha256:" + "0" * 64}))
    with pytest.raises(IntegrityError, match="registry names other bytes"):
        push_all(registry)


def test_the_media_type_of_a_manifest_comes_from_its_own_bytes(registry: Registry, double: RegistryDouble) -> None:
    index = b'{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    double.plan("GET", TAG_PATH, Answer(body=index, headers={"Content-Type": "application/json"}))
    assert registry.fetch_tag(TAG) == (describe(index, "application/vnd.oci.image.index.v1+json"), index)


def test_a_web_page_is_not_a_manifest(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", TAG_PATH, Answer(body=b"<html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(IntegrityError, match="not a manifest: got text/html; check that the registry setting"):
        registry.fetch_tag(TAG)


# -- uploads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [fault(503, "UNAVAILABLE"), fault(404, "BLOB_UPLOAD_UNKNOWN"), Answer(hang_up=True)])
def test_after_a_failed_upload_a_new_session_is_started(
    registry: Registry, double: RegistryDouble, lost: Answer
) -> None:
    double.plan("PUT", UPLOAD_PATH, lost, times=2)
    registry.push(LAYER, CHUNK)
    assert double.blobs[LAYER.digest] == CHUNK
    assert [one.path[-2:] for one in double.asked("PUT")] == ["/1", "/2", "/3"]


def test_an_absolute_location_is_used_with_its_query(registry: Registry, double: RegistryDouble) -> None:
    double.sessions["7"] = True
    location = f"{double.url}/v2/team/packs/blobs/uploads/7?_state=s%3D7"
    double.plan("POST", UPLOADS, Answer(status=202, headers={"Location": location}))
    registry.push(LAYER, CHUNK)
    assert double.blobs[LAYER.digest] == CHUNK


@pytest.mark.parametrize(
    ("location", "got"),
    [
        ("https://127.0.0.1:1/x", "https://127.0.0.1:1"),
        ("http://evil.example/x", "http://evil.example"),
        ("http://user:secret@127.0.0.1/", "a malformed URL"),
        ("file:///etc/passwd", "a malformed URL"),
        ("http://[", "a malformed URL"),
        ("", "none"),
    ],
)
def test_an_upload_to_another_server_is_refused(
    registry: Registry, double: RegistryDouble, location: str, got: str
) -> None:
    double.plan("POST", UPLOADS, Answer(status=202, headers={"Location": location}))
    with pytest.raises(IntegrityError, match=f"upload location is not used: expected a URL at {double.url}, got {got}"):
        registry.push(LAYER, CHUNK)
    assert double.asked("PUT") == []


# -- tags -------------------------------------------------------------------------------------------------------------


def tag_page(*tags: str, following: str = "") -> Answer:
    headers = {"Link": f'<{following}>; rel="next"'} if following else {}
    return Answer(body=json.dumps({"name": "team/packs", "tags": tags}).encode(), headers=headers)


def test_pages_are_followed_and_each_tag_is_returned_once(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", ".*/tags/list", tag_page("a", "b", following="/v2/team/packs/tags/list?last=b&n=1000"))
    double.plan("GET", ".*/tags/list", tag_page("b", "c"))
    assert list(registry.tags()) == ["a", "b", "c"]
    assert [one.query for one in double.seen] == [{"n": "1000"}, {"n": "1000", "last": "b"}]


def test_a_repository_that_does_not_exist_has_no_tags(registry: Registry, double: RegistryDouble) -> None:
    assert list(registry.tags()) == []
    double.plan("GET", ".*/tags/list", fault(404, "NAME_UNKNOWN"))
    assert list(registry.tags()) == []


def test_a_page_on_another_server_is_not_followed(
    registry: Registry, double: RegistryDouble, other: RegistryDouble
) -> None:
    double.plan("GET", ".*/tags/list", tag_page("a", following=f"{other.url}/v2/team/packs/tags/list"))
    with pytest.raises(IntegrityError, match=f"next page is not followed: expected a URL at {double.url}"):
        list(registry.tags())
    assert other.seen == []


@pytest.mark.parametrize("endless", ["same", "always new"])
def test_a_list_without_end_is_refused(registry: Registry, double: RegistryDouble, endless: str) -> None:
    link = "/v2/team/packs/tags/list?n=1000"
    double.plan(
        "GET",
        ".*/tags/list",
        lambda seen: tag_page("a", following=link if endless == "same" else f"{link}&page={len(double.seen)}"),
        times=999,
    )
    with pytest.raises(IntegrityError, match="the list does not end"):
        list(registry.tags())
    assert len(double.seen) == (1 if endless == "same" else 100)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags":[1]}', b'{"tags":["../x"]}', b"[" * 100_000])
def test_a_malformed_list_of_tags_is_refused(registry: Registry, double: RegistryDouble, body: bytes) -> None:
    double.plan("GET", ".*/tags/list", Answer(body=body))
    with pytest.raises(IntegrityError, match="not a list of tags"):
        list(registry.tags())


def test_an_immutable_tag_that_already_names_this_manifest_is_a_success(
    registry: Registry, double: RegistryDouble
) -> None:
    push_all(registry)
    double.plan("PUT", TAG_PATH, fault(400, "TAG_INVALID", "tag is immutable"))
    registry.tag(ROOT, TAG)


def test_an_immutable_tag_that_names_another_manifest_is_a_conflict(registry: Registry, double: RegistryDouble) -> None:
    push_all(registry)
    data = encode_image_manifest(ImageManifest(config=CONFIG, layers=()))
    root = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    registry.push(root, data)
    double.plan("PUT", TAG_PATH, fault(400, "TAG_INVALID", "tag is immutable"))
    with pytest.raises(Conflict, match=f"expected {root.digest}, got {ROOT.digest}; this push overwrote nothing"):
        registry.tag(root, TAG)


def test_the_registrys_reason_for_refusing_a_manifest_is_in_the_error(
    registry: Registry, double: RegistryDouble
) -> None:
    double.plan("PUT", ".*/manifests/.*", fault(400, "MANIFEST_INVALID", "no such layer"))
    with pytest.raises(CtxPackError, match=r"manifest sha256:.* answered 400 \(MANIFEST_INVALID: no such layer\)"):
        registry.push(ROOT, DATA)


# -- trying again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["HEAD", "GET", "POST", "PUT"])
def test_every_method_is_tried_again(
    registry: Registry, double: RegistryDouble, clock: Clock, method: str, status: int
) -> None:
    double.plan(method, ".*", fault(status, "BUSY"), times=4)
    push_all(registry)
    assert registry.exists(LAYER)
    assert registry.fetch_tag(TAG) == (ROOT, DATA)
    assert registry.fetch(LAYER) == CHUNK
    assert clock.waits == [0.5, 1.0, 2.0, 4.0]


def test_a_broken_connection_is_tried_again(registry: Registry, double: RegistryDouble) -> None:
    double.plan(".*", ".*", Answer(hang_up=True), times=3)
    push_all(registry)
    assert registry.fetch(LAYER) == CHUNK


def test_a_body_cut_short_is_tried_again(registry: Registry, double: RegistryDouble) -> None:
    double.blobs[LAYER.digest] = CHUNK
    double.plan("GET", BLOB_PATH, Answer(body=CHUNK[:100], length=len(CHUNK)), times=2)
    assert registry.fetch(LAYER) == CHUNK
    double.plan("GET", BLOB_PATH, Answer(body=CHUNK[:100], length=len(CHUNK)), times=5)
    with pytest.raises(Unavailable, match=r"the answer was cut short \(5 attempts\); try again later"):
        registry.fetch(LAYER)


@pytest.mark.parametrize(
    "broken",
    [Answer(body=b"wrong " * 99, length=len(CHUNK)), Answer(hang_up=True), fault(503, "BUSY", "x" * 2 * len(CHUNK))],
)
def test_a_file_is_written_from_its_start_again_after_a_broken_connection(
    registry: Registry, double: RegistryDouble, broken: Answer
) -> None:
    double.blobs[LAYER.digest] = CHUNK
    double.plan("GET", BLOB_PATH, broken, times=4)
    file = io.BytesIO(b"before " * 2000)
    registry.fetch_into(LAYER, file)
    assert file.getvalue() == CHUNK
    assert len(double.seen) == 5
    assert all("range" not in one.headers for one in double.seen)


def test_the_body_of_a_refusal_is_not_written_to_a_file(registry: Registry, double: RegistryDouble) -> None:
    file = io.BytesIO(b"before")
    with pytest.raises(NotFound, match="blob unknown to registry"):
        registry.fetch_into(LAYER, file)
    assert file.getvalue() == b""


@pytest.mark.parametrize("cuts", [[0], [1000], [5999], [6000], [3000, 3000, 3000, 3000]])
def test_a_file_is_sent_from_its_start_again_after_a_broken_connection(
    registry: Registry, double: RegistryDouble, cuts: list[int]
) -> None:
    double.cuts += cuts
    registry.push(LAYER, io.BytesIO(CHUNK))
    assert double.blobs[LAYER.digest] == CHUNK
    assert [one.method for one in double.seen] == ["POST"] * (len(cuts) + 1) + ["PUT"]


def test_a_large_file_is_sent_from_its_start_again_after_a_cut_in_the_middle(
    registry: Registry, double: RegistryDouble
) -> None:
    large = bytes(range(256)) * 2**15  # more than the buffers of a socket hold
    double.cuts += [100_000, 5_000_000]
    descriptor = describe(large, "a/b")
    registry.push(descriptor, io.BytesIO(large))
    assert double.blobs[descriptor.digest] == large


def test_a_file_is_sent_again_with_authorization(
    double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    registry = open_registry(double, credentials=Credentials(username="ann", password="secret"))
    denied = fault(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="double"')
    double.plan("PUT", UPLOAD_PATH, denied)
    registry.push(LAYER, io.BytesIO(CHUNK))
    assert double.blobs[LAYER.digest] == CHUNK
    assert [len(one.body) for one in double.asked("PUT")] == [len(CHUNK)] * 2


def test_a_file_that_the_registry_refuses(registry: Registry, double: RegistryDouble) -> None:
    double.plan("PUT", UPLOAD_PATH, fault(400, "DIGEST_INVALID", "did not match"))
    with pytest.raises(IntegrityError, match="digest differs from what the registry received"):
        registry.push(LAYER, io.BytesIO(CHUNK))


def test_a_file_of_another_length_starts_no_upload(registry: Registry, double: RegistryDouble) -> None:
    with pytest.raises(IntegrityError, match="size differs"):
        registry.push(LAYER, io.BytesIO(b"other"))
    assert double.seen == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ETIMEDOUT])
def test_after_an_error_of_the_file_nothing_is_tried_again(
    registry: Registry, double: RegistryDouble, number: int
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(number, os.strerror(number))

    double.blobs[LAYER.digest] = CHUNK
    with pytest.raises(OSError, match=os.strerror(number)):
        registry.fetch_into(LAYER, Full())
    assert len(double.seen) == 1
    assert registry.fetch(LAYER) == CHUNK


def test_retry_after_is_followed_up_to_a_limit(registry: Registry, double: RegistryDouble, clock: Clock) -> None:
    for after in ("7", "86400", "Fri, 15 Jan 2027 08:00:12 GMT", "soon"):
        double.plan("GET", ".*", fault(429, "TOOMANYREQUESTS", Retry_After=after))
    assert registry.fetch_tag(TAG) is None
    assert clock.waits == [7.0, 30.0, 12.0, 4.0]


def test_after_five_attempts_the_registry_is_unavailable(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", ".*", fault(503, "UNAVAILABLE"), times=99)
    with pytest.raises(Unavailable) as caught:
        registry.fetch_tag(TAG)
    assert str(caught.value) == (
        f"tag {TAG} of {registry.name}: {double.url} answered 503 (UNAVAILABLE) (5 attempts); try again later; if it "
        "stays, ask the operator"
    )
    assert caught.value.may_retry
    assert len(double.seen) == 5


def test_the_registrys_reason_for_refusing_is_in_the_error(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", ".*", fault(429, "TOOMANYREQUESTS", "pull rate limit"), times=99)
    with pytest.raises(Unavailable, match=r"answered 429 \(TOOMANYREQUESTS: pull rate limit\) \(5 attempts\)"):
        registry.fetch(LAYER)


def test_a_refusal_that_will_not_change_is_not_tried_again(registry: Registry, double: RegistryDouble) -> None:
    double.plan("HEAD", ".*", fault(501, "UNSUPPORTED"), times=99)
    with pytest.raises(Unavailable, match="answered 501"):
        registry.exists(LAYER)
    assert len(double.seen) == 1


def test_a_tag_is_resolved_by_one_head(registry: Registry, double: RegistryDouble) -> None:
    assert registry.fetch_tag(TAG) is None  # so it is a registry
    assert registry.resolve_tag(TAG) is None
    push_all(registry)
    double.seen.clear()
    assert registry.resolve_tag(TAG) == ROOT.digest
    assert [one.method for one in double.seen] == ["HEAD"]


def test_a_tag_is_resolved_by_its_bytes_where_the_registry_names_no_digest(
    registry: Registry, double: RegistryDouble
) -> None:
    push_all(registry)
    double.plan("HEAD", TAG_PATH, Answer())
    double.plan("GET", TAG_PATH, Answer(body=b"no manifest at all"))
    assert registry.resolve_tag(TAG) == digest(b"no manifest at all")


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_tag_that_cannot_be_resolved_is_not_absent(registry: Registry, double: RegistryDouble, status: int) -> None:
    double.plan("HEAD", TAG_PATH, Answer(status=status), times=9)
    with pytest.raises((AccessDenied, Unavailable)):
        registry.resolve_tag(TAG)


def test_registries_have_no_conditional_tags(registry: Registry) -> None:
    assert not registry.conditional_tags
    with pytest.raises(TypeError):
        registry.tag_if(ROOT, TAG, None)


def test_a_deleted_tag_is_gone_with_its_manifest(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", "/v2/", Answer(body=b"{}"))
    push_all(registry)
    assert registry.delete(TAG) == ROOT.digest
    assert (double.tags, double.manifests) == ({}, {})
    assert registry.delete(TAG) is None


def test_a_tag_that_survives_its_manifest_is_deleted_by_name(registry: Registry, double: RegistryDouble) -> None:
    """As in a registry that does not find the tags of a manifest."""
    double.plan("GET", "/v2/", Answer(body=b"{}"))
    push_all(registry)
    double.plan("DELETE", f".*/{ROOT.digest}", Answer(status=202))

    def forget(seen: Seen) -> Answer:
        double.tags.clear()
        return Answer(status=202)

    double.plan("DELETE", TAG_PATH, forget)
    assert registry.delete(TAG) == ROOT.digest
    assert registry.resolve_tag(TAG) is None


@pytest.mark.parametrize("answer", [Answer(status=405), fault(400, "UNSUPPORTED"), fault(405, "UNSUPPORTED", "no")])
def test_a_registry_that_does_not_delete_says_what_else_to_do(
    registry: Registry, double: RegistryDouble, answer: Answer
) -> None:
    push_all(registry)
    double.plan("DELETE", ".*", answer)
    with pytest.raises(AccessDenied, match=r"the registry does not delete: .*ctxpack push --replace") as caught:
        registry.delete(TAG)
    assert caught.value.code == "E_NO_DELETION"
    assert registry.fetch_tag(TAG) is not None


def test_what_somebody_else_deleted_meanwhile_is_deleted(registry: Registry, double: RegistryDouble) -> None:
    double.plan("GET", "/v2/", Answer(body=b"{}"))
    push_all(registry)

    def forget(seen: Seen) -> Answer:
        double.tags.clear()
        return fault(404, "MANIFEST_UNKNOWN")

    double.plan("DELETE", ".*", forget)
    assert registry.delete(TAG) == ROOT.digest


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "DIGEST_INVALID"])
def test_a_manifest_is_put_again_while_another_client_pushes_a_blob_of_it(
    registry: Registry, double: RegistryDouble, code: str
) -> None:
    """registry:2 writes the link of a blob in two steps, and reads it meanwhile."""
    double.plan("PUT", ".*/manifests/.*", fault(400, code), times=2)
    push_all(registry)
    assert registry.fetch_tag(TAG) == (ROOT, DATA)
