"""Manifests that name another one as their subject: lists by strangers, and the index that clients keep."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_double import INDEX, Answer, RegistryDouble, Seen, fault

from ctxpack_identity.errors import (
    AccessDenied,
    Conflict,
    CtxPackError,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    Descriptor,
    ImageManifest,
    Layout,
    Target,
    describe,
    embedded,
    encode_image_manifest,
    parse_image_manifest,
)
from ctxpack_oci.referrers import (
    MAX_REFERRERS,
    candidates_in,
    fallback_tag,
    names_subject,
    parse_referrer,
    with_referrer,
)
from ctxpack_oci.registry import Registry

EMPTY = describe(b"{}", "application/vnd.oci.empty.v1+json")
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
REF_NAME = "org.opencontainers.image.ref.name"


def image(number: int = 0, **members: Any) -> tuple[Descriptor, bytes]:
    data = encode_image_manifest(ImageManifest(config=EMPTY, layers=(), annotations={"n": str(number)}, **members))
    return describe(data, IMAGE_MANIFEST_MEDIA_TYPE), data


PACK, PACK_DATA = image()
OTHER, OTHER_DATA = image(1)
TAG = fallback_tag(PACK.digest)
API = f"/v2/team/packs/referrers/{PACK.digest}"
FALLBACK = f"/v2/team/packs/manifests/{TAG}"


def claim(number: int, subject: Descriptor = PACK) -> tuple[Descriptor, bytes]:
    return image(number, subject=subject, artifact_type=BUNDLE)


def index_of(*entries: object, **members: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, **members}).encode()


def entry(number: int, **members: object) -> dict[str, object]:
    return {"mediaType": IMAGE_MANIFEST_MEDIA_TYPE, "digest": f"sha256:{number:064x}", "size": 7, **members}


def listing(*entries: object) -> Answer:
    return Answer(headers={"Content-Type": INDEX}, body=index_of(*entries))


def put_tag(double: RegistryDouble, data: bytes, media_type: str = INDEX) -> None:
    described = describe(data, media_type)
    double.manifests[described.digest] = (media_type, data)
    double.tags[TAG] = described.digest


def fallback_in(double: RegistryDouble) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(double.manifests[double.tags[TAG]][1])["manifests"]
    return found


@pytest.fixture
def packs(registry: Registry) -> Registry:
    """A repository with the pack that is to be claimed, and another one."""
    registry.push(EMPTY, b"{}")
    registry.push(PACK, PACK_DATA)
    registry.push(OTHER, OTHER_DATA)
    return registry


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "packs")
    layout.push(EMPTY, b"{}")
    layout.push(PACK, PACK_DATA)
    layout.tag(PACK, "pack")
    return layout


@pytest.fixture(params=["api", "fallback", "layout"])
def target(request: pytest.FixtureRequest, double: RegistryDouble) -> Target:
    double.lists_referrers = request.param == "api"
    found: Target = request.getfixturevalue("layout" if request.param == "layout" else "packs")
    return found


def digests(found: list[Descriptor] | None) -> list[str]:
    assert found is not None
    return [one.digest for one in found]


# -- what is attached is found ----------------------------------------------------------------------------------------


def test_what_was_attached_is_listed_for_its_subject_alone(target: Target) -> None:
    assert target.referrers(PACK.digest) == []
    for number in range(3):
        target.attach(*claim(number))
    assert sorted(digests(target.referrers(PACK.digest))) == sorted(claim(number)[0].digest for number in range(3))
    assert target.referrers(OTHER.digest) == []
    for found in target.referrers(PACK.digest) or ():
        assert parse_image_manifest(target.fetch(found), found).subject == PACK


def test_a_second_time_changes_nothing(target: Target) -> None:
    for _ in range(2):
        target.attach(*claim(1))
    assert digests(target.referrers(PACK.digest)) == [claim(1)[0].digest]


def test_what_is_attached_can_have_a_tag_too(target: Target) -> None:
    target.attach(*claim(1))
    target.tag(claim(1)[0], "claim")
    assert digests(target.referrers(PACK.digest)) == [claim(1)[0].digest]
    found = target.fetch_tag("claim")
    assert found is not None
    assert found.data == claim(1)[1]


def test_what_is_attached_gets_its_tag_in_the_same_request(target: Target) -> None:
    target.attach(*claim(1), "claim")
    assert target.resolve_tag("claim") == claim(1)[0].digest
    assert digests(target.referrers(PACK.digest)) == [claim(1)[0].digest]
    target.attach(*claim(2), "claim")
    assert target.resolve_tag("claim") == claim(2)[0].digest
    with pytest.raises(InvalidInput, match="not a tag"):
        target.attach(*claim(3), "no tag")


def test_a_tag_is_set_though_the_list_is_not_written(packs: Registry, double: RegistryDouble) -> None:
    double.plan("PUT", FALLBACK, fault(400, "MANIFEST_INVALID", "we want no index"), times=99)
    with pytest.raises(IntegrityError) as caught:
        packs.attach(*claim(1), "claim")
    assert caught.value.code == "E_REFERRERS"
    assert packs.resolve_tag("claim") == claim(1)[0].digest


@pytest.mark.parametrize("lists", [False, True])
def test_an_immutable_tag_that_names_it_already_is_no_error(
    packs: Registry, double: RegistryDouble, lists: bool
) -> None:
    double.lists_referrers = lists
    packs.attach(*claim(1), "claim")
    double.plan("PUT", ".*/claim", fault(409, "TAG_INVALID", "immutable"), times=99)
    packs.attach(*claim(1), "claim")
    assert digests(packs.referrers(PACK.digest)) == [claim(1)[0].digest]
    assert (TAG in double.tags) is not lists
    with pytest.raises(Conflict, match="tag is immutable and names another manifest"):
        packs.attach(*claim(2), "claim")


@pytest.mark.parametrize("manifest", [image(5), (claim(5)[0], claim(5)[1] + b" "), (claim(5)[0], b"{}")])
def test_only_a_whole_image_manifest_with_a_subject_is_attached(
    target: Target, manifest: tuple[Descriptor, bytes]
) -> None:
    with pytest.raises(IntegrityError):
        target.attach(*manifest)
    with pytest.raises(NotFound):
        target.fetch(manifest[0])


def test_a_subject_that_is_not_there_is_no_error(target: Target) -> None:
    absent, _ = image(9)
    target.attach(*claim(1, absent))
    assert digests(target.referrers(absent.digest)) == [claim(1, absent)[0].digest]


# -- the list of the registry -----------------------------------------------------------------------------------------


def test_a_registry_that_lists_referrers_gets_no_index(packs: Registry, double: RegistryDouble) -> None:
    double.lists_referrers = True
    packs.attach(*claim(1))
    assert TAG not in double.tags
    assert not double.asked("GET")


@pytest.mark.parametrize("answer", ["another digest", "", "sha256:" + "0" * 64])
def test_another_subject_in_the_answer_means_that_the_registry_lists_nothing(
    packs: Registry, double: RegistryDouble, answer: str
) -> None:
    double.plan("PUT", ".*", Answer(status=201, headers={"OCI-Subject": answer}))
    double.manifests[claim(1)[0].digest] = (IMAGE_MANIFEST_MEDIA_TYPE, claim(1)[1])
    packs.attach(*claim(1))
    assert digests(packs.referrers(PACK.digest)) == [claim(1)[0].digest]


def test_all_pages_are_read(packs: Registry, double: RegistryDouble) -> None:
    def page(seen: Seen) -> Answer:
        number = int(seen.query.get("next", "0"))
        link = {"Link": f'<{API}?next={number + 1}>; rel="next"'} if number < 5 else {}
        return Answer(headers={"Content-Type": INDEX, **link}, body=index_of(entry(2 * number), entry(2 * number + 1)))

    double.plan("GET", API, page, times=99)
    assert len(digests(packs.referrers(PACK.digest))) == 12


def test_pages_that_do_not_end_are_an_error(packs: Registry, double: RegistryDouble) -> None:
    def page(seen: Seen) -> Answer:
        number = int(seen.query.get("next", "0")) + 1
        link = {"Link": f'<{API}?next={number}>; rel="next"'}
        return Answer(headers={"Content-Type": INDEX, **link}, body=index_of(entry(7)))

    double.plan("GET", API, page, times=999)
    with pytest.raises(IntegrityError, match="the list does not end"):
        packs.referrers(PACK.digest)


def test_a_next_page_of_another_server_is_not_followed(
    packs: Registry, double: RegistryDouble, other: RegistryDouble
) -> None:
    link = {"Link": f'<{other.url}{API}>; rel="next"'}
    double.plan("GET", API, Answer(headers={"Content-Type": INDEX, **link}, body=index_of(entry(1))))
    with pytest.raises(IntegrityError, match="next page is not followed"):
        packs.referrers(PACK.digest)
    assert not other.seen


@pytest.mark.parametrize("many", [MAX_REFERRERS + 1, 5000])
@pytest.mark.parametrize("where", ["api", "fallback"])
def test_of_a_flood_nothing_is_handed_out(packs: Registry, double: RegistryDouble, many: int, where: str) -> None:
    entries = [entry(number, artifactType=BUNDLE) for number in range(many)]
    if where == "api":
        double.plan("GET", API, listing(*entries), times=2)
    else:
        put_tag(double, index_of(*entries))
    assert packs.referrers(PACK.digest) is None
    assert packs.referrers(PACK.digest, BUNDLE) is None


def test_a_long_list_is_not_read_to_its_end(packs: Registry, double: RegistryDouble) -> None:
    def page(seen: Seen) -> Answer:
        number = int(seen.query.get("next", "0"))
        link = {"Link": f'<{API}?next={number + 1}>; rel="next"'}
        entries = [entry(400 * number + one) for one in range(400)]
        return Answer(headers={"Content-Type": INDEX, **link}, body=index_of(*entries))

    double.plan("GET", API, page, times=99)
    assert packs.referrers(PACK.digest, BUNDLE) is None
    assert len(double.asked("GET", API)) == 3


@pytest.mark.parametrize("others", [MAX_REFERRERS, 900])
def test_of_a_long_list_only_what_is_said_to_be_of_another_type_is_left_out(
    packs: Registry, double: RegistryDouble, others: int
) -> None:
    sbom, wanted = "application/spdx+json", [entry(1001, artifactType=BUNDLE), entry(1002)]
    entries = [entry(number, artifactType=sbom) for number in range(others)]
    double.plan("GET", API, listing(*entries, *wanted), times=2)
    found = packs.referrers(PACK.digest, BUNDLE)
    assert found is not None
    assert digests(found) == [one["digest"] for one in wanted]
    assert packs.referrers(PACK.digest) is None


def test_of_a_short_list_nothing_is_left_out(packs: Registry, double: RegistryDouble) -> None:
    double.plan("GET", API, listing(*[entry(number, artifactType="another/type") for number in range(MAX_REFERRERS)]))
    assert len(digests(packs.referrers(PACK.digest, BUNDLE))) == MAX_REFERRERS


def test_the_same_manifest_again_is_no_flood(packs: Registry, double: RegistryDouble) -> None:
    double.plan("GET", API, listing(*[entry(number % MAX_REFERRERS) for number in range(999)]))
    assert len(digests(packs.referrers(PACK.digest))) == MAX_REFERRERS


def test_what_cannot_be_a_claim_is_left_out(packs: Registry, double: RegistryDouble) -> None:
    kept = entry(3, artifactType=BUNDLE, annotations={"a": "b"}, data="e30=", urls=["https://example.org/"])
    left_out = [
        entry(1, digest="sha512:" + "0" * 128),
        entry(1, digest="sha256:../../x"),
        entry(1, size=2**62),
        entry(1, size=-1),
        entry(1, mediaType="application/octet-stream"),
        entry(1, mediaType=""),
    ]
    double.plan("GET", API, listing(*left_out, kept, *left_out))
    assert packs.referrers(PACK.digest) == [
        Descriptor(
            media_type=IMAGE_MANIFEST_MEDIA_TYPE,
            digest=kept["digest"],  # type: ignore[arg-type]
            size=7,
            annotations={"a": "b"},
            artifact_type=BUNDLE,
        )
    ]


MALFORMED = [
    b"",
    b"no JSON",
    b"\xff\xfe",
    b"[" * 100_000,
    b"null",
    b"[]",
    b"{}",
    b'{"errors":[]}',
    b'{"manifests":{}}',
    index_of("x"),
    index_of(entry(1, size="7")),
    index_of(entry(1, digest=None)),
    index_of(entry(1, annotations=[])),
    index_of(mediaType=IMAGE_MANIFEST_MEDIA_TYPE),
    index_of(mediaType="application/vnd.docker.distribution.manifest.list.v2+json"),
    index_of()[:-1],
    PACK_DATA,
]


@pytest.mark.parametrize("body", MALFORMED)
def test_a_list_that_cannot_be_read_is_an_error(packs: Registry, double: RegistryDouble, body: bytes) -> None:
    double.plan("GET", API, Answer(headers={"Content-Type": INDEX}, body=body))
    with pytest.raises(IntegrityError, match="not a list of referrers") as caught:
        packs.referrers(PACK.digest)
    assert caught.value.code == "E_REFERRERS"


def test_a_list_without_any_media_type_is_an_error(packs: Registry, double: RegistryDouble) -> None:
    double.plan("GET", API, Answer(headers={"Content-Type": "application/json"}, body=b'{"manifests":[]}'))
    with pytest.raises(IntegrityError, match=r"expected .*index.*, got application/json"):
        packs.referrers(PACK.digest)


def test_null_is_an_empty_list(packs: Registry, double: RegistryDouble) -> None:
    double.plan("GET", API, Answer(headers={"Content-Type": f"{INDEX}; charset=utf-8"}, body=b'{"manifests":null}'))
    assert packs.referrers(PACK.digest) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fault(401, "UNAUTHORIZED"), AccessDenied),
        (fault(403, "DENIED"), AccessDenied),
        (fault(429, "TOOMANYREQUESTS"), Unavailable),
        (fault(500, "UNKNOWN"), Unavailable),
        (fault(503, "BUSY"), Unavailable),
        (fault(418, "TEAPOT"), CtxPackError),
        (Answer(hang_up=True), Unavailable),
        (Answer(body=b"x" * 5_000_000), IntegrityError),
        (Answer(status=204), IntegrityError),
    ],
)
@pytest.mark.parametrize("path", [API, FALLBACK])
def test_a_list_that_fails_is_never_an_empty_one(
    packs: Registry, double: RegistryDouble, answer: Answer, expected: type[CtxPackError], path: str
) -> None:
    double.plan("GET", path, answer, times=99)
    with pytest.raises(expected):
        packs.referrers(PACK.digest)


# -- registries that list none, or say so -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        fault(404, "NOT_FOUND"),
        fault(404, "NAME_UNKNOWN"),
        Answer(status=404, headers={"Content-Type": "text/plain"}, body=b"404 page not found\n"),
        fault(400, "UNSUPPORTED"),
        Answer(status=405),
        Answer(status=406),
        Answer(status=501),
        Answer(headers={"Content-Type": "text/html"}, body=b"<p>Welcome</p>"),
        listing(),
        listing(entry(1, digest="sha512:" + "0" * 128)),
    ],
)
def test_the_index_stands_in_for_a_list_that_is_not_there_or_empty(
    packs: Registry, double: RegistryDouble, answer: Answer
) -> None:
    packs.attach(*claim(1))
    double.plan("GET", API, answer, times=99)
    double.plan("GET", "/v2/", Answer(body=b"{}"))
    assert digests(packs.referrers(PACK.digest)) == [claim(1)[0].digest]


def test_a_list_with_entries_is_the_list(packs: Registry, double: RegistryDouble) -> None:
    double.plan("GET", API, listing(entry(1)))
    packs.referrers(PACK.digest)
    assert not double.asked("GET", FALLBACK)


def test_a_404_of_another_web_server_is_no_empty_list(packs: Registry, double: RegistryDouble) -> None:
    page = Answer(status=404, headers={"Content-Type": "text/html"}, body=b"<h1>Not Found</h1>")
    double.plan("GET", f"{API}|{FALLBACK}|/v2/", page, times=99)
    with pytest.raises(Unavailable) as caught:
        packs.referrers(PACK.digest)
    assert caught.value.code == "E_NO_REGISTRY"


@pytest.mark.parametrize("body", [body for body in MALFORMED if body != PACK_DATA])
def test_an_index_that_cannot_be_read_is_an_error_and_is_not_overwritten(
    packs: Registry, double: RegistryDouble, body: bytes
) -> None:
    put_tag(double, body)
    with pytest.raises(IntegrityError):
        packs.referrers(PACK.digest)
    with pytest.raises(IntegrityError):
        packs.attach(*claim(1))
    assert double.manifests[double.tags[TAG]][1] == body


def test_an_image_manifest_in_the_place_of_the_index_is_an_error(packs: Registry, double: RegistryDouble) -> None:
    double.tags[TAG] = OTHER.digest
    with pytest.raises(IntegrityError, match="not a list of referrers"):
        packs.referrers(PACK.digest)
    with pytest.raises(IntegrityError, match="not a list of referrers"):
        packs.attach(*claim(1))
    assert double.tags[TAG] == OTHER.digest


def test_a_registry_that_takes_the_tag_for_the_digest_has_no_index(packs: Registry, double: RegistryDouble) -> None:
    """GitLab does."""
    double.tags[TAG] = PACK.digest
    assert packs.referrers(PACK.digest) == []
    packs.attach(*claim(1))
    assert packs.fetch(claim(1)[0]) == claim(1)[1]
    assert double.tags[TAG] == PACK.digest


# -- the index that clients keep --------------------------------------------------------------------------------------


def test_an_entry_says_what_the_specification_wants(packs: Registry, double: RegistryDouble) -> None:
    packs.attach(*claim(1))
    manifest = encode_image_manifest(ImageManifest(config=EMPTY, layers=(), subject=PACK))
    packs.attach(describe(manifest, IMAGE_MANIFEST_MEDIA_TYPE), manifest)
    first, second = fallback_in(double)
    assert first == {
        "mediaType": IMAGE_MANIFEST_MEDIA_TYPE,
        "digest": claim(1)[0].digest,
        "size": claim(1)[0].size,
        "annotations": {"n": "1"},
        "artifactType": BUNDLE,
    }
    assert second["artifactType"] == EMPTY.media_type
    [(media_type, _)] = [double.manifests[double.tags[TAG]]]
    assert media_type == INDEX


def test_what_other_tools_wrote_is_kept(packs: Registry, double: RegistryDouble) -> None:
    others = [
        {"mediaType": IMAGE_MANIFEST_MEDIA_TYPE, "digest": OTHER.digest, "size": OTHER.size, "platform": {"os": "x"}},
    ]
    put_tag(double, index_of(*others, annotations={"by": "another tool"}))
    packs.attach(*claim(1))
    written = json.loads(double.manifests[double.tags[TAG]][1])
    assert written["annotations"] == {"by": "another tool"}
    assert written["manifests"][0] == others[0]
    assert len(written["manifests"]) == 2


def test_entries_whose_manifests_are_gone_are_dropped_when_the_registry_refuses_them(
    packs: Registry, double: RegistryDouble
) -> None:
    for number in range(4):
        packs.attach(*claim(number))
    for number in (0, 2):
        del double.manifests[claim(number)[0].digest]
    packs.attach(*claim(9))
    assert [one["digest"] for one in fallback_in(double)] == [claim(number)[0].digest for number in (1, 3, 9)]


def test_a_refusal_for_another_reason_drops_nothing(packs: Registry, double: RegistryDouble) -> None:
    packs.attach(*claim(0))
    double.plan("PUT", FALLBACK, fault(400, "MANIFEST_INVALID", "we want no index"), times=99)
    with pytest.raises(IntegrityError, match=r"takes no list of referrers: .*we want no index") as caught:
        packs.attach(*claim(1))
    assert caught.value.code == "E_REFERRERS"
    assert packs.fetch(claim(1)[0]) == claim(1)[1]
    assert [one["digest"] for one in fallback_in(double)] == [claim(0)[0].digest]


def test_an_index_that_another_push_replaces_is_written_again(packs: Registry, double: RegistryDouble) -> None:
    packs.attach(*claim(0))
    rival = index_of(*fallback_in(double))

    def overwritten(seen: Seen) -> Answer:
        put_tag(double, rival)
        return Answer(status=201)

    double.plan("PUT", FALLBACK, overwritten, times=3)
    packs.attach(*claim(1))
    assert [one["digest"] for one in fallback_in(double)] == [claim(0)[0].digest, claim(1)[0].digest]


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "DIGEST_INVALID"])
def test_an_index_is_written_again_when_the_registry_does_not_know_what_others_push(
    packs: Registry, double: RegistryDouble, code: str
) -> None:
    packs.attach(*claim(0))
    double.plan("PUT", FALLBACK, fault(400, code), times=3)
    packs.attach(*claim(1))
    assert [one["digest"] for one in fallback_in(double)] == [claim(0)[0].digest, claim(1)[0].digest]


def test_an_index_that_others_always_replace_is_an_error(packs: Registry, double: RegistryDouble) -> None:
    double.plan("PUT", FALLBACK, Answer(status=201), times=99)
    with pytest.raises(Unavailable, match="other pushes change this list of referrers at the same time") as caught:
        packs.attach(*claim(1))
    assert caught.value.code == "E_REFERRERS"
    assert packs.fetch(claim(1)[0]) == claim(1)[1]


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        (fault(409, "TAG_INVALID", "immutable"), IntegrityError, "E_REFERRERS"),
        (fault(413, "SIZE_INVALID"), IntegrityError, "E_REFERRERS"),
        (fault(403, "DENIED"), AccessDenied, ""),
        (fault(503, "BUSY"), Unavailable, ""),
        (Answer(hang_up=True), Unavailable, ""),
        (Answer(status=201, headers={"Docker-Content-Digest": OTHER.digest}), IntegrityError, "E_DIGEST"),
    ],
)
def test_an_index_that_is_not_stored_is_an_error_that_says_whether_the_registry_wants_none(
    packs: Registry, double: RegistryDouble, answer: Answer, expected: type[CtxPackError], code: str
) -> None:
    double.plan("PUT", FALLBACK, answer, times=99)
    with pytest.raises(expected) as caught:
        packs.attach(*claim(1))
    assert caught.value.code == (code or expected.code)


def test_a_very_long_index_is_not_made_longer(packs: Registry, double: RegistryDouble) -> None:
    put_tag(double, index_of(*[entry(number) for number in range(1000)]))
    with pytest.raises(IntegrityError, match="too many referrers: expected at most 1000, got 1000"):
        packs.attach(*claim(1))


def test_signers_one_after_the_other_are_all_kept(
    packs: Registry, double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    for number in range(8):
        open_registry(double).attach(*claim(number))
    assert len(digests(packs.referrers(PACK.digest))) == 8


def test_signers_at_the_same_time_lose_no_manifest(
    packs: Registry, double: RegistryDouble, open_registry: Callable[..., Registry]
) -> None:
    def sign(number: int) -> None:
        registry = open_registry(double)
        with contextlib.suppress(Unavailable):  # the others were faster each time
            registry.attach(*claim(number))
        registry.tag(claim(number)[0], f"claim-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sign, range(8)))
    assert sorted(tag for tag in packs.tags() if tag.startswith("claim-")) == [f"claim-{number}" for number in range(8)]
    assert set(digests(packs.referrers(PACK.digest))) <= {claim(number)[0].digest for number in range(8)}


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_a_layout_lists_it_as_others_do_without_a_tag(layout: Layout, tmp_path: Path) -> None:
    layout.attach(*claim(1))
    index = json.loads((tmp_path / "packs" / "index.json").read_bytes())
    assert index["manifests"][1] == {
        "mediaType": IMAGE_MANIFEST_MEDIA_TYPE,
        "digest": claim(1)[0].digest,
        "size": claim(1)[0].size,
        "artifactType": BUNDLE,
    }
    assert list(layout.tags()) == ["pack"]


def test_an_annotation_does_not_become_a_tag_of_a_layout(layout: Layout) -> None:
    data = encode_image_manifest(
        ImageManifest(config=EMPTY, layers=(), subject=PACK, annotations={REF_NAME: "ctx-forged"})
    )
    layout.attach(describe(data, IMAGE_MANIFEST_MEDIA_TYPE), data)
    assert list(layout.tags()) == ["pack"]
    assert len(digests(layout.referrers(PACK.digest))) == 1


def test_a_layout_needs_the_blobs_of_what_is_attached(layout: Layout) -> None:
    lacking = describe(b"absent", "a/b")
    data = encode_image_manifest(ImageManifest(config=EMPTY, layers=(lacking,), subject=PACK))
    with pytest.raises(NotFound):
        layout.attach(describe(data, IMAGE_MANIFEST_MEDIA_TYPE), data)
    assert layout.referrers(PACK.digest) == []


@pytest.mark.parametrize("harm", ["missing", "flipped", "cut"])
def test_a_damaged_manifest_in_a_layout_hides_no_other(layout: Layout, tmp_path: Path, harm: str) -> None:
    for number in range(2):
        layout.attach(*claim(number))
    file = tmp_path / "packs" / "blobs" / "sha256" / claim(0)[0].digest.removeprefix("sha256:")
    data = file.read_bytes()
    file.unlink()
    if harm != "missing":
        file.write_bytes(data[:-1] + (b"" if harm == "cut" else b"]"))
    assert digests(layout.referrers(PACK.digest)) == [claim(1)[0].digest]


def test_entries_of_other_tools_in_a_layout_do_not_matter(layout: Layout, tmp_path: Path) -> None:
    layout.attach(*claim(1))
    path = tmp_path / "packs" / "index.json"
    index = json.loads(path.read_bytes())
    index["manifests"] += [{}, entry(1, digest="sha512:" + "0" * 128), entry(2, size="x"), entry(3)]
    path.write_text(json.dumps(index))
    assert digests(layout.referrers(PACK.digest)) == [claim(1)[0].digest]


def test_an_index_under_the_tag_counts_in_a_layout_too(layout: Layout) -> None:
    layout.push(*claim(1))
    index = index_of(entry(5), {"mediaType": IMAGE_MANIFEST_MEDIA_TYPE, "digest": claim(1)[0].digest, "size": 3})
    layout.push(describe(index, INDEX), index)
    layout.tag(describe(index, INDEX), TAG)
    assert claim(1)[0].digest in digests(layout.referrers(PACK.digest))


def test_of_a_flood_in_a_layout_nothing_is_handed_out(layout: Layout) -> None:
    for number in range(MAX_REFERRERS + 1):
        layout.attach(*claim(number))
    assert layout.referrers(PACK.digest) is None


def test_a_layout_that_does_not_exist_has_no_referrers(tmp_path: Path) -> None:
    assert Layout(tmp_path / "none").referrers(PACK.digest) == []


def test_writers_of_one_layout_at_the_same_time_are_all_kept(layout: Layout, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Layout(tmp_path / "packs").attach(*claim(number)), range(8)))
    assert len(digests(layout.referrers(PACK.digest))) == 8


# -- values -----------------------------------------------------------------------------------------------------------


def test_embedded_content_is_what_the_descriptor_says_or_nothing() -> None:
    right = msgspec.structs.replace(describe(b"bundle", BUNDLE), data=b"bundle")
    assert embedded(right) == b"bundle"
    assert embedded(describe(b"bundle", BUNDLE)) is None
    for wrong in (b"bundlE", b"bundle ", b"bundl"):
        assert embedded(msgspec.structs.replace(right, data=wrong)) is None
    assert embedded(msgspec.structs.replace(right, size=7)) is None
    assert embedded(describe(b"", BUNDLE)) == b""


DOCUMENTS = st.recursive(
    st.none() | st.just(PACK.digest),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["subject", "digest", "x"]), inner),
).map(lambda document: json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_embedded_content_survives_the_manifest(content: bytes) -> None:
    layer = msgspec.structs.replace(describe(content, BUNDLE), data=content)
    data = encode_image_manifest(ImageManifest(config=EMPTY, layers=(layer,)))
    assert embedded(parse_image_manifest(data).layers[0]) == content


@pytest.mark.parametrize("data", ["e3=", "e30", "e30= ", "\\n", "_-8=", 7, None])
def test_content_that_is_no_base64_refuses_the_manifest(data: object) -> None:
    manifest = json.loads(encode_image_manifest(ImageManifest(config=EMPTY, layers=(EMPTY,))))
    manifest["layers"][0]["data"] = data
    with pytest.raises(IntegrityError, match="not an OCI image manifest"):
        parse_image_manifest(json.dumps(manifest).encode())


@given(st.binary(max_size=200) | DOCUMENTS)
def test_no_bytes_name_a_subject_by_accident_or_raise(manifest: bytes) -> None:
    try:
        expected = json.loads(manifest)["subject"]["digest"] == PACK.digest
    except (ValueError, LookupError, TypeError):
        expected = False
    assert names_subject(manifest, PACK.digest) == expected


def test_a_manifest_of_any_kind_names_its_subject() -> None:
    assert names_subject(claim(1)[1], PACK.digest)
    assert names_subject(index_of(subject={"digest": PACK.digest}), PACK.digest)
    assert not names_subject(claim(1, OTHER)[1], PACK.digest)
    assert not names_subject(image(1, subject=OTHER)[1].replace(b'"1"', f'"{PACK.digest}"'.encode()), PACK.digest)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_list_of_referrers_raise_another_error(index: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        list(candidates_in(index, media_type=INDEX, where="x"))


@given(st.integers(0, 20), st.sets(st.integers(0, 19)))
def test_appending_keeps_order_drops_the_dead_and_ends_with_the_new(many: int, gone: set[int]) -> None:
    index = None
    for number in range(many):
        index = with_referrer(index, parse_referrer(*claim(number), where="x")[1], where="x")
    dead = {claim(number)[0].digest for number in gone}
    new = parse_referrer(*claim(99), where="x")[1]
    written = with_referrer(index, new, dead=dead, where="x")
    assert digests(list(candidates_in(written, media_type="", where="x"))) == [
        claim(number)[0].digest for number in [*(n for n in range(many) if n not in gone), 99]
    ]
