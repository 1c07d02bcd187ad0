"""Claims: what is written to the byte, what is read, and about what; the rest is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust_samples import CLAIM, EVERYTHING, IMAGE, URI, cases, claim_of, key, vectors

from ctxpack_identity import CtxUri, Digest, IntegrityError, InvalidInput, canonical_json, digest_of, uri_for
from ctxpack_trust import (
    COUNTING,
    KINDS,
    MAX_CLAIM_BYTES,
    MAX_SOURCES,
    OWN,
    Claim,
    Dependency,
    OutputRoot,
    Source,
    Tool,
    encode_claim,
    is_key_id,
    parse_claim,
    read_claim,
    sign_claim,
    verified_payload,
)
from ctxpack_trust.claim import MAX_PARAMS_BYTES
from ctxpack_trust.dsse import pre_authentication_encoding

VECTORS = vectors("claims.json")
VECTOR_IMAGE, VECTOR_URI = Digest(VECTORS["image"]), CtxUri(VECTORS["uri"])


@pytest.mark.parametrize("case", cases("claims.json", "valid"))
def test_a_claim_is_written_and_signed_to_the_byte(case: Any) -> None:
    claim = claim_of(case["claim"])
    payload = encode_claim(claim)
    assert payload.decode() == case["payload"]
    assert pre_authentication_encoding(payload).decode() == case["pae"]
    for name, bundle in case["bundles"].items():
        public = key(name).public
        assert verified_payload(bundle.encode(), public) == payload
        assert read_claim(bundle.encode(), public, image=VECTOR_IMAGE, uri=VECTOR_URI) == claim
        if public.algorithm == "ed25519":  # which has one signature for each payload
            assert sign_claim(claim, key(name)).decode() == bundle


@pytest.mark.parametrize("case", cases("claims.json", "readable"))
def test_claims_of_other_writers_are_read(case: Any) -> None:
    public = key("p256").public
    assert read_claim(case["bundle"].encode(), public, image=VECTOR_IMAGE, uri=VECTOR_URI) == claim_of(case["claim"])


@pytest.mark.parametrize(
    "case", [each for each in cases("claims.json", "invalid") if each.values[0]["code"] == "E_CLAIM"]
)
def test_what_is_signed_but_no_claim_about_this_is_refused(case: Any) -> None:
    public = key(case["key"]).public
    payload = verified_payload(case["bundle"].encode(), public)
    with pytest.raises(IntegrityError) as caught:
        parse_claim(payload, image=VECTOR_IMAGE, uri=VECTOR_URI)
    assert caught.value.code == "E_CLAIM"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["p256", "ed25519"])
def test_a_claim_comes_back(kind: str, name: str) -> None:
    claim = EVERYTHING._replace(kind=kind)
    bundle = sign_claim(claim, key(name))
    assert read_claim(bundle, key(name).public, image=IMAGE, uri=URI) == claim
    assert read_claim(bundle, key(name).public, image=IMAGE) == claim


def test_of_the_kinds_two_count() -> None:
    assert set(COUNTING) < set(KINDS)
    assert set(KINDS) - set(COUNTING) == {"seed", "vouch"}


def test_a_claim_about_another_image_or_uri_is_refused() -> None:
    payload = encode_claim(CLAIM)
    with pytest.raises(IntegrityError, match="claim is about another image manifest"):
        parse_claim(payload, image=digest_of(b"another"), uri=URI)
    with pytest.raises(IntegrityError, match="claim is about another contract"):
        parse_claim(payload, image=IMAGE, uri=uri_for(digest_of(b"another")))


def statement(claim: Claim = CLAIM) -> Any:
    return json.loads(encode_claim(claim))


def test_both_places_of_the_contract_are_compared() -> None:
    for change in ("subject", "parameters"):
        value = statement()
        if change == "subject":
            value["subject"][0]["annotations"]["contract"] = uri_for(IMAGE)
        else:
            value["predicate"]["buildDefinition"]["externalParameters"]["contract"] = uri_for(IMAGE)
        for uri in (None, URI, uri_for(IMAGE)):
            with pytest.raises(IntegrityError):
                parse_claim(canonical_json(value), image=IMAGE, uri=uri)


def test_an_older_statement_needs_no_annotations_but_those_it_has_must_agree() -> None:
    """`cosign attest` writes Statement v0.1, whose subjects have none."""
    value = statement()
    value["_type"] = "https://in-toto.io/Statement/v0.1"
    assert parse_claim(canonical_json(value), image=IMAGE, uri=URI) == CLAIM
    del value["subject"][0]["annotations"]
    assert parse_claim(canonical_json(value), image=IMAGE, uri=URI) == CLAIM
    others: tuple[object, ...] = ({}, {"contract": uri_for(IMAGE)}, {"contract": 5}, [])
    for those in others:
        value["subject"][0]["annotations"] = those
        with pytest.raises(IntegrityError):
            parse_claim(canonical_json(value), image=IMAGE, uri=URI)


def test_large_params_are_left_out() -> None:
    fits, large = '"' + "a" * (MAX_PARAMS_BYTES - 2) + '"', '"' + "ü" * (MAX_PARAMS_BYTES // 2 - 1) + 'x"'
    claim = CLAIM._replace(tools=(Tool("fits", "1", fits), Tool("large", "1", large)))
    assert parse_claim(encode_claim(claim), image=IMAGE).tools == (Tool("fits", "1", fits), Tool("large", "1", ""))


def test_the_limits_of_size_and_sources() -> None:
    sources = tuple(Source(digest_of(b"%d" % number), (OWN,)) for number in range(MAX_SOURCES + 1))
    assert parse_claim(encode_claim(CLAIM._replace(sources=sources[1:])), image=IMAGE).sources == sources[1:]
    for large, what in (
        (CLAIM._replace(sources=sources), "too many sources: expected at most 1000, got 1001"),
        (CLAIM._replace(invocation="x" * MAX_CLAIM_BYTES), "claim is too large: expected at most 1048576 bytes"),
    ):
        with pytest.raises(InvalidInput, match=what) as caught:
            encode_claim(large)
        assert caught.value.code == "E_CLAIM"
        with pytest.raises(InvalidInput, match=what):
            sign_claim(large, key("p256"))


def test_more_sources_or_bytes_are_not_read_either() -> None:
    value = statement(EVERYTHING)
    dependencies = value["predicate"]["buildDefinition"]["resolvedDependencies"]
    dependencies += [dependencies[-1]] * (MAX_SOURCES - 1)
    for data in (canonical_json(value), b" " * (MAX_CLAIM_BYTES + 1) + encode_claim(CLAIM)):
        with pytest.raises(IntegrityError) as caught:
            parse_claim(data, image=IMAGE)
        assert caught.value.code == "E_CLAIM"


@pytest.mark.parametrize(
    "claim",
    [
        CLAIM._replace(kind="guess"),
        CLAIM._replace(kind=""),
        CLAIM._replace(image=Digest("sha256:00")),
        CLAIM._replace(outputs=Digest("0" * 64)),
        CLAIM._replace(uri=CtxUri(IMAGE)),
        CLAIM._replace(roots=(OutputRoot("out", "link"),)),
        CLAIM._replace(sources=(Source(IMAGE, ("ci",)),)),
        CLAIM._replace(sources=(Source(IMAGE, (OWN, key("p256").public.key_id)),)),
        CLAIM._replace(dependencies=(Dependency("items", IMAGE),)),
        CLAIM._replace(dependencies=(Dependency("inputs/a", Digest("md5:00")),)),
        CLAIM._replace(finished="yesterday"),
        CLAIM._replace(finished="2026-11-26T12:00:00+01:00"),
    ],
    ids=range(12),
)
def test_what_could_not_be_read_is_not_written(claim: Claim) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_claim(claim)
    assert caught.value.code == "E_CLAIM"


def test_text_that_is_no_unicode_is_not_written() -> None:
    with pytest.raises(InvalidInput):
        encode_claim(CLAIM._replace(invocation="\ud800"))


def test_no_flip_of_a_bit_of_the_payload_gives_a_claim_about_something_else() -> None:
    """The signature is checked before; even without it, image and contract cannot drift apart."""
    payload = bytearray(encode_claim(CLAIM))
    for place in range(len(payload) * 8):
        payload[place // 8] ^= 1 << place % 8
        try:
            read = parse_claim(bytes(payload), image=IMAGE, uri=URI)
        except IntegrityError:
            pass
        else:
            assert (read.image, read.uri) == (IMAGE, URI)
        payload[place // 8] ^= 1 << place % 8


def test_every_flip_of_a_bit_of_the_image_manifest_makes_it_another_one() -> None:
    manifest = bytearray(b'{"schemaVersion":2,"config":{},"layers":[]}')
    payload = encode_claim(CLAIM._replace(image=digest_of(manifest)))
    for place in range(len(manifest) * 8):
        manifest[place // 8] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            parse_claim(payload, image=digest_of(manifest))
        manifest[place // 8] ^= 1 << place % 8


HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
DIGESTS = st.binary(max_size=4).map(digest_of)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
CLAIMS = st.builds(
    Claim,
    kind=st.sampled_from(KINDS),
    uri=DIGESTS.map(uri_for),
    image=DIGESTS,
    outputs=DIGESTS,
    roots=st.lists(st.builds(OutputRoot, TEXT, st.sampled_from(["file", "folder"])), max_size=3).map(tuple),
    pack=DIGESTS,
    tools=st.lists(st.builds(Tool, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    dependencies=st.lists(st.builds(Dependency, TEXT.filter("items".__ne__), DIGESTS), max_size=3).map(tuple),
    sources=st.lists(
        st.builds(Source, DIGESTS, st.just((OWN,)) | st.lists(HEX, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
    version=TEXT,
    finished=st.just("") | st.datetimes().map(lambda when: f"{when:%Y}".rjust(4, "0") + f"{when:-%m-%dT%H:%M:%SZ}"),
    invocation=TEXT,
)


@given(CLAIMS)
def test_every_claim_comes_back(claim: Claim) -> None:
    payload = encode_claim(claim)
    assert parse_claim(payload, image=claim.image, uri=claim.uri) == claim
    assert encode_claim(parse_claim(payload, image=claim.image)) == payload
    pretty = json.dumps(json.loads(payload), indent=3).encode()
    assert parse_claim(pretty, image=claim.image, uri=claim.uri) == claim


@given(CLAIMS, st.sampled_from(["image", "uri"]), DIGESTS)
def test_a_claim_is_about_its_image_and_uri_alone(claim: Claim, member: str, other: Digest) -> None:
    asked = claim._replace(image=other) if member == "image" else claim._replace(uri=uri_for(other))
    if asked != claim:
        with pytest.raises(IntegrityError):
            parse_claim(encode_claim(claim), image=asked.image, uri=asked.uri)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", "own", None, 5, b"0" * 64])
def test_what_is_no_key_id(text: object) -> None:
    assert not is_key_id(text)
    assert is_key_id(key("p256").public.key_id)
