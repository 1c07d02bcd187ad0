"""Where claims lie: under a tag of each signer, and as referrers. What is no claim is skipped and shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pantry_target import FaultyTarget, each_stop, wait_until_idle

import ctxpack_trust
from ctxpack_cache import Cache
from ctxpack_identity import (
    AccessDenied,
    CtxPackError,
    CtxUri,
    Digest,
    IntegrityError,
    Unavailable,
    digest_of,
    hex_of,
)
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    Descriptor,
    ImageManifest,
    describe,
    encode_image_manifest,
)
from ctxpack_pantry.claimnotes import MAX_BUNDLE_BYTES
from ctxpack_pantry.claims import (
    ClaimNotes,
    FoundClaim,
    ListedClaims,
    claim_tag,
    fetch_claim,
    fetch_claims,
    list_claims,
    publish_claim,
    read_claim_tag,
    send_bundle,
)
from ctxpack_trust import BUNDLE_MEDIA_TYPE, Claim, OutputRoot, PrivateKey, generate_key, read_claim, sign_claim

ONE, OTHER, THIRD = generate_key(), generate_key("ed25519"), generate_key()
URI = CtxUri("ctx://sha256:" + "1" * 64)
WHEN = "2026-11-26T12:00:00Z"
EMPTY = describe(b"{}", "application/vnd.oci.empty.v1+json")


@pytest.fixture
def image(registry: FaultyTarget) -> Descriptor:
    """An image manifest in the registry, that claims are about."""
    return push_manifest(registry, artifact_type="application/vnd.ctxpack.pack.v1")


def push_manifest(registry: FaultyTarget, **members: Any) -> Descriptor:
    """Store an image manifest with these members, and the empty config; return its descriptor."""
    registry.layout.push(EMPTY, b"{}")
    data = encode_image_manifest(ImageManifest(**{"config": EMPTY, "layers": (), **members}))
    manifest = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    registry.layout.push(manifest, data)
    return manifest


def bundle_of(image: Descriptor, key: PrivateKey = ONE, **changes: Any) -> bytes:
    claim = Claim("run", URI, image.digest, digest_of(b"outputs"), (OutputRoot("out", "folder"),), digest_of(b"pack"))
    return sign_claim(claim._replace(**changes), key)


def publish(registry: FaultyTarget, image: Descriptor, key: PrivateKey = ONE, **changes: Any) -> bytes:
    """Publish a claim about image; return its bundle."""
    bundle = bundle_of(image, key, **changes)
    publish_claim(registry, image, bundle, key.public, created=WHEN)
    return bundle


def put(registry: FaultyTarget, image: Descriptor, *, data: bytes | None = None, **changes: Any) -> Descriptor:
    """Put a manifest like that of a claim by ONE, with other members, under its tag and among the referrers.

    data: of the layer's descriptor, by default the bundle.
    """
    bundle = bundle_of(image)
    layer = describe(bundle, BUNDLE_MEDIA_TYPE)
    registry.layout.push(layer, bundle)
    usual = {
        "artifact_type": BUNDLE_MEDIA_TYPE,
        "layers": (structs.replace(layer, data=bundle if data is None else data),),
        "subject": image,
        "annotations": {"dev.ctxpack.claim.key": base64.b64encode(ONE.public.spki).decode()},
    }
    claim = push_manifest(registry, **usual | changes)
    if changes.get("subject", image) is not None:
        registry.layout.attach(claim, registry.layout.fetch(claim))
    registry.layout.tag(claim, claim_tag(image.digest, ONE.public.key_id))
    return claim


def listed_and_tagged(registry: FaultyTarget, image: Descriptor) -> tuple[ListedClaims, list[FoundClaim], list[str]]:
    skipped: list[str] = []
    tagged = fetch_claims(registry, image.digest, [ONE.public], skip=skipped.append)
    return list_claims(registry, image.digest), tagged, skipped


def test_a_claim_is_found_by_its_signer_and_by_anybody_who_asks_for_referrers(
    registry: FaultyTarget, image: Descriptor
) -> None:
    bundle = publish(registry, image)
    [tagged] = fetch_claims(registry, image.digest, [ONE.public])
    listed = list_claims(registry, image.digest)
    assert tagged.bundle == bundle
    assert tagged.spki == ONE.public.spki
    assert listed.skipped == ()
    assert [found._replace(where="") for found in listed.found] == [tagged._replace(where="")]
    assert read_claim(tagged.bundle, ONE.public, image=image.digest, uri=URI).kind == "run"


def test_the_manifest_of_a_claim_is_what_other_tools_read(registry: FaultyTarget, image: Descriptor) -> None:
    bundle = publish(registry, image)
    tagged = registry.layout.fetch_tag(claim_tag(image.digest, ONE.public.key_id))
    assert tagged is not None
    assert json.loads(tagged.data) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": digest_of(bundle),
                "size": len(bundle),
                "data": base64.b64encode(bundle).decode(),
            }
        ],
        "subject": {"mediaType": image.media_type, "digest": image.digest, "size": image.size},
        "annotations": {
            "dev.ctxpack.claim.key": base64.b64encode(ONE.public.spki).decode(),
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1",
            "org.opencontainers.image.created": WHEN,
        },
    }
    assert registry.blob(digest_of(bundle)).read_bytes() == bundle
    assert registry.blob(EMPTY.digest).read_bytes() == b"{}"


def test_each_signer_costs_one_request(registry: FaultyTarget, image: Descriptor) -> None:
    bundles = [publish(registry, image, key) for key in (ONE, OTHER)]
    before = len(registry.calls)
    keys = [ONE.public, OTHER.public, THIRD.public, ONE.public]
    found = fetch_claims(registry, image.digest, keys)
    assert [claim.bundle for claim in found] == bundles
    calls = registry.calls[before:]
    tags = {claim_tag(image.digest, key.key_id) for key in keys}
    assert (len(calls), {call.method for call in calls}, {call.subject for call in calls}) == (3, {"fetch_tag"}, tags)


def test_nobody_signed(registry: FaultyTarget, image: Descriptor) -> None:
    assert fetch_claims(registry, image.digest, [ONE.public, OTHER.public]) == []
    assert fetch_claims(registry, image.digest, []) == []
    assert fetch_claim(registry, image.digest, ONE.public.key_id) is None
    assert list_claims(registry, image.digest) == ListedClaims((), ())


def test_a_later_claim_by_the_same_key_takes_the_place_under_the_tag_and_both_are_listed(
    registry: FaultyTarget, image: Descriptor
) -> None:
    bundles = [publish(registry, image, kind=kind) for kind in ("seed", "run")]
    assert [claim.bundle for claim in fetch_claims(registry, image.digest, [ONE.public])] == bundles[1:]
    assert {claim.bundle for claim in list_claims(registry, image.digest).found} == {*bundles}


def big(bundle: bytes) -> bytes:
    return bundle + b" " * (MAX_BUNDLE_BYTES + 1 - len(bundle))


LAYER = describe(b"x", BUNDLE_MEDIA_TYPE)

NO_CLAIMS: dict[str, tuple[Callable[[Descriptor], dict[str, Any]], str]] = {
    "another artifact type": (
        lambda image: {"artifact_type": "application/x"},
        "artifactType: expected",
    ),
    "no artifact type": (lambda image: {"artifact_type": ""}, "got nothing"),
    "two layers": (lambda image: {"layers": (LAYER, LAYER)}, "not a claim about this pack: layers"),
    "no layer": (lambda image: {"layers": ()}, "not a claim about this pack: layers"),
    "a layer of another kind": (
        lambda image: {"layers": (structs.replace(LAYER, media_type="application/x"),)},
        "not a claim about this pack: layers",
    ),
    "a bundle that is too large": (
        lambda image: {"layers": (structs.replace(LAYER, size=MAX_BUNDLE_BYTES + 1),)},
        f"size of the bundle: expected at most {MAX_BUNDLE_BYTES} bytes",
    ),
    "a bundle that is not there": (
        lambda image: {"layers": (structs.replace(LAYER, digest=Digest("sha256:" + "7" * 64)),)},
        "not there",
    ),
    "data that is not the layer, which is not there": (
        lambda image: {"layers": (structs.replace(LAYER, digest=Digest("sha256:" + "7" * 64), data=b"y"),)},
        "not there",
    ),
    "no bundle": (lambda image: {"layers": (structs.replace(LAYER, data=b"x"),)}, "not JSON"),
}


@pytest.mark.parametrize("name", NO_CLAIMS)
def test_what_is_no_claim_is_skipped_and_shown(
    registry: FaultyTarget, image: Descriptor, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    changes, message = NO_CLAIMS[name]
    monkeypatch.setattr(registry.layout, "_require_parts", lambda *given: None)
    put(registry, image, **changes(image))
    sound = publish(registry, image, OTHER)
    listed, tagged, skipped = listed_and_tagged(registry, image)
    assert ([found.bundle for found in listed.found], tagged) == ([sound], [])
    for [line] in (listed.skipped, skipped):
        assert message in line
        assert line.startswith(registry.name)


@pytest.mark.parametrize("subject", [None, describe(b"other", IMAGE_MANIFEST_MEDIA_TYPE)])
def test_a_claim_about_another_image_manifest_is_skipped_under_the_tag(
    registry: FaultyTarget, image: Descriptor, subject: Descriptor | None
) -> None:
    put(registry, image, subject=subject)
    listed, tagged, [line] = listed_and_tagged(registry, image)
    assert (listed, tagged) == (ListedClaims((), ()), [])
    got = "nothing" if subject is None else subject.digest
    tag = claim_tag(image.digest, ONE.public.key_id)
    assert line == f"{registry.name}:{tag}: not a claim about this pack: subject: expected {image.digest}, got {got}"


def test_a_referrer_that_is_missing_or_damaged_is_skipped_and_shown(
    registry: FaultyTarget, image: Descriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a garbage collection leaves one, or a failing disk."""
    publish(registry, image)
    tagged = registry.layout.fetch_tag(claim_tag(image.digest, ONE.public.key_id))
    assert tagged is not None
    claim = tagged.descriptor
    registry.blob(claim.digest).unlink()
    monkeypatch.setattr(registry.layout, "referrers", lambda *asked: [claim])
    [line] = list_claims(registry, image.digest).skipped
    assert claim.digest[:19] in line
    assert "is not there" in line
    registry.blob(claim.digest).write_bytes(b"{}")
    [line] = list_claims(registry, image.digest).skipped
    assert "size differs" in line
    skipped: list[str] = []
    assert fetch_claims(registry, image.digest, [ONE.public], skip=skipped.append) == []
    assert len(skipped) == 1


def test_a_referrer_of_another_kind_is_not_fetched(
    registry: FaultyTarget, image: Descriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Descriptor(media_type="application/vnd.oci.image.index.v1+json", digest=digest_of(b"i"), size=9)
    monkeypatch.setattr(registry.layout, "referrers", lambda *asked: [index])
    [line] = list_claims(registry, image.digest).skipped
    assert "mediaType: expected application/vnd.oci.image.manifest.v1+json, got application/vnd.oci.image.index" in line
    assert registry.count("fetch") == 0


@pytest.mark.parametrize("data", [b"", b"anything", b"x" * 9])
def test_a_bundle_is_fetched_when_the_manifest_does_not_bring_it(
    registry: FaultyTarget, image: Descriptor, data: bytes
) -> None:
    put(registry, image, data=data)
    [found] = fetch_claims(registry, image.digest, [ONE.public])
    assert read_claim(found.bundle, ONE.public, image=image.digest).uri == URI
    assert registry.count("fetch") == 1


@pytest.mark.parametrize(
    "annotation",
    [
        None,
        "",
        "!",
        base64.b64encode(OTHER.public.spki).decode(),
        base64.b64encode(b"key").decode(),
        "ä",
        "QQ==" * 9999,
    ],
)
def test_a_key_is_believed_only_if_the_bundle_names_it(
    registry: FaultyTarget, image: Descriptor, annotation: str | None
) -> None:
    put(registry, image, annotations={} if annotation is None else {"dev.ctxpack.claim.key": annotation})
    listed, [tagged], _ = listed_and_tagged(registry, image)
    assert [found.spki for found in (*listed.found, tagged)] == [None, None]


@pytest.mark.parametrize("error", [Unavailable("no answer"), AccessDenied("denied"), IntegrityError("no list")])
def test_a_list_that_is_not_known_is_an_error(registry: FaultyTarget, image: Descriptor, error: CtxPackError) -> None:
    publish(registry, image)

    def fail(_: object) -> None:
        raise error

    registry.on("referrers", fail)
    with pytest.raises(type(error)):
        list_claims(registry, image.digest)


def test_of_too_many_referrers_none_is_read_and_this_is_said(
    registry: FaultyTarget, image: Descriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, image)
    monkeypatch.setattr("ctxpack_oci.referrers.MAX_REFERRERS", 0)
    calls = len(registry.calls)
    listed = list_claims(registry, image.digest)
    assert (listed.found, listed.skipped) == ((), ())
    assert listed.too_many.startswith("more than 64 manifests refer to it, so none of them was looked at")
    assert [call.method for call in registry.calls[calls:]] == ["referrers"]
    assert len(fetch_claims(registry, image.digest, [ONE.public])) == 1


@pytest.mark.parametrize("method", ["fetch_tag", "fetch"])
@pytest.mark.parametrize("error", [Unavailable("no answer"), AccessDenied("denied")])
def test_a_claim_that_is_not_known_is_an_error_and_not_unsigned(
    registry: FaultyTarget, image: Descriptor, method: str, error: CtxPackError
) -> None:
    put(registry, image, data=b"")

    def fail(_: object) -> None:
        raise error

    registry.on(method, fail)
    with pytest.raises(type(error)):
        fetch_claims(registry, image.digest, [ONE.public])
    with pytest.raises(type(error)):
        fetch_claims(registry, image.digest, [OTHER.public, ONE.public, THIRD.public])
    if method == "fetch":
        with pytest.raises(type(error)):
            list_claims(registry, image.digest)
    wait_until_idle()


def test_the_tag_comes_after_the_blobs_and_is_looked_at_again(registry: FaultyTarget, image: Descriptor) -> None:
    registry.blob(digest_of(b"{}")).unlink(missing_ok=True)
    publish(registry, image)
    methods = [call.method for call in registry.calls]
    assert methods[-2:] == ["attach", "resolve_tag"]
    assert sorted(methods[:-2]) == ["exists", "push", "push"]
    registry.calls.clear()
    publish(registry, image, OTHER)
    assert sorted(call.method for call in registry.calls[:-2]) == ["exists", "push"]  # the empty config is there


def test_blobs_that_are_there_are_neither_asked_for_nor_sent(registry: FaultyTarget, image: Descriptor) -> None:
    publish(registry, image)
    registry.calls.clear()
    bundle = bundle_of(image, OTHER)
    send_bundle(registry, bundle, has_empty=True)
    assert [call.method for call in registry.calls] == ["push"]
    assert fetch_claims(registry, image.digest, [OTHER.public]) == []
    publish_claim(registry, image, bundle, OTHER.public, created=WHEN, is_sent=True)
    assert [call.method for call in registry.calls[2:]] == ["attach", "resolve_tag"]
    assert [found.bundle for found in fetch_claims(registry, image.digest, [OTHER.public])] == [bundle]


@each_stop
def test_after_a_stop_at_any_call_nobody_finds_half_a_claim_and_the_next_publication_is_whole(
    registry: FaultyTarget, image: Descriptor, error: BaseException, expected: type[BaseException]
) -> None:
    calls = ["exists", "push", "push", "attach", "resolve_tag"]
    for number, method in enumerate(calls):
        key = generate_key()
        registry.blob(digest_of(b"{}")).unlink(missing_ok=True)

        def stop() -> None:
            raise error

        registry.after(method, calls[:number].count(method), stop)
        with pytest.raises((expected, type(error))):
            publish(registry, image, key)
        wait_until_idle()
        registry.on(method, lambda _: None)
        found = fetch_claims(registry, image.digest, [key.public])
        assert len(found) == (method == "resolve_tag")
        listed = [claim for claim in list_claims(registry, image.digest).found if claim.spki == key.public.spki]
        assert len(listed) == (method == "resolve_tag")  # whole already, and a claim
        bundle = publish(registry, image, key)
        assert [claim.bundle for claim in fetch_claims(registry, image.digest, [key.public])] == [bundle]
        assert bundle in [claim.bundle for claim in list_claims(registry, image.digest).found]


def test_a_registry_that_loses_the_tag_is_found_out(registry: FaultyTarget, image: Descriptor) -> None:
    registry.on("resolve_tag", lambda call: registry.layout.delete(call.subject))
    with pytest.raises(Unavailable, match="the claim is not there, though the registry accepted it") as caught:
        publish(registry, image)
    assert caught.value.code == "E_LOST"


def test_a_list_of_referrers_that_cannot_be_written_leaves_the_tag(
    registry: FaultyTarget, image: Descriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = registry.layout.attach

    def fail(*given: Any) -> None:
        attach(*given)
        raise IntegrityError("too many referrers", where="the list", code="E_REFERRERS")

    monkeypatch.setattr(registry.layout, "attach", fail)
    notices: list[str] = []
    bundle = bundle_of(image)
    publish_claim(registry, image, bundle, ONE.public, created=WHEN, notice=notices.append)
    assert [claim.bundle for claim in fetch_claims(registry, image.digest, [ONE.public])] == [bundle]
    assert notices == [
        "other tools will not find the claim, since the list of referrers cannot be written: the list: too many "
        "referrers"
    ]


def test_the_largest_claim_can_be_published_and_read(registry: FaultyTarget, image: Descriptor) -> None:
    tools = tuple(ctxpack_trust.Tool(f"t{n}", "1", f'{{"a":"{"x" * 60_000}"}}') for n in range(17))
    bundle = publish(registry, image, tools=tools)
    assert ctxpack_trust.MAX_CLAIM_BYTES < len(bundle) < MAX_BUNDLE_BYTES
    listed, [tagged], _ = listed_and_tagged(registry, image)
    assert {claim.bundle for claim in (*listed.found, tagged)} == {bundle}


@given(st.text() | st.from_regex(r"claim-[0-9a-f]{63,65}-[0-9a-f]{15,17}\Z"))
def test_a_tag_is_that_of_a_claim_only_if_a_claim_has_it(tag: str) -> None:
    named = read_claim_tag(tag)
    assert named is None or claim_tag(Digest(f"sha256:{named[0]}"), named[1] + "0" * 48) == tag


def test_the_tag_of_a_claim_is_that_of_its_image_manifest_and_key() -> None:
    image, key_id = digest_of(b"image"), ONE.public.key_id
    assert claim_tag(image, key_id) == f"claim-{hex_of(image)}-{key_id[:16]}"
    assert read_claim_tag(claim_tag(image, key_id)) == (hex_of(image), key_id[:16])
    assert read_claim_tag(f"ctx-{hex_of(image)}") is None


# ---- notes in the cache


def test_the_cache_keeps_claims_by_image_manifest_and_key(cache: Cache) -> None:
    notes, image, other = ClaimNotes(cache), digest_of(b"image"), digest_of(b"other")
    assert notes.of(image) == []
    for key in (ONE, OTHER):
        notes.record(image, {key.public.spki: b"bundle\nof " + key.public.key_id.encode()})
    notes.record(image, {ONE.public.spki: b"later"})
    found = {claim.spki: claim.bundle for claim in ClaimNotes(cache).of(image)}
    assert found == {ONE.public.spki: b"later", OTHER.public.spki: b"bundle\nof " + OTHER.public.key_id.encode()}
    assert notes.of(other) == []
    notes.forget(image)
    assert notes.of(image) == []


@pytest.mark.parametrize(
    "note", [b"", b"\n", b"no base64!\nbundle", base64.b64encode(b"key") + b"\nbundle", b"x" * 3_000_000]
)
def test_a_note_that_does_not_have_the_key_of_its_name_is_ignored(cache: Cache, note: bytes) -> None:
    image = digest_of(b"image")
    notes = ClaimNotes(cache)
    notes.record(image, {ONE.public.spki: b"bundle"})
    notes.record(image, {OTHER.public.spki: b"sound"})
    with open(f"{cache.side('claims')}/{hex_of(image)}/{ONE.public.key_id}", "wb") as file:
        file.write(note)
    assert [claim.bundle for claim in notes.of(image)] == [b"sound"]


@given(bundle=st.binary(max_size=300))
def test_any_bundle_is_kept_as_it_is(tmp_path_factory: pytest.TempPathFactory, bundle: bytes) -> None:
    notes = ClaimNotes(Cache(tmp_path_factory.mktemp("cache")))
    notes.record(digest_of(b"image"), {ONE.public.spki: bundle})
    assert [(claim.bundle, claim.spki) for claim in notes.of(digest_of(b"image"))] == [(bundle, ONE.public.spki)]


def test_the_limit_of_a_note_is_that_of_a_bundle() -> None:
    assert MAX_BUNDLE_BYTES == ctxpack_trust.MAX_BUNDLE_BYTES
