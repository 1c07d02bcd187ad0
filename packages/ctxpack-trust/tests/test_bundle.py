"""Bundles: what key signed comes out, and nothing else, whatever the bytes are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust_samples import CLAIM, EVERYTHING, KEYS, cases, key, vectors

from ctxpack_identity import IntegrityError, InvalidInput, canonical_json
from ctxpack_trust import (
    BUNDLE_MEDIA_TYPE,
    MAX_BUNDLE_BYTES,
    MAX_CLAIM_BYTES,
    encode_claim,
    hint_of,
    sign_claim,
    verified_payload,
)
from ctxpack_trust.bundle import sign_payload

PAYLOAD = encode_claim(CLAIM)
BUNDLES = {name: sign_payload(PAYLOAD, secret) for name, secret in KEYS.items()}


def accepted(bundle: bytes, name: str) -> bytes | None:
    """Return the payload that the reader accepts as signed by a key, or None. No other error may come out."""
    try:
        return verified_payload(bundle, key(name).public)
    except IntegrityError as error:
        if error.code not in ("E_BUNDLE", "E_SIGNATURE"):
            raise
        return None


@pytest.mark.parametrize("name", KEYS)
def test_what_was_signed_comes_out(name: str) -> None:
    bundle = BUNDLES[name]
    assert verified_payload(bundle, key(name).public) == PAYLOAD
    assert hint_of(bundle) == key(name).public.hint
    assert canonical_json(json.loads(bundle)) == bundle
    assert json.loads(bundle)["mediaType"] == BUNDLE_MEDIA_TYPE


@pytest.mark.parametrize("name", KEYS)
def test_another_key_accepts_nothing(name: str) -> None:
    for other in KEYS.keys() - {name}:
        with pytest.raises(IntegrityError) as caught:
            verified_payload(BUNDLES[name], key(other).public)
        assert caught.value.code == "E_SIGNATURE"


def test_the_largest_payload_fits_and_a_larger_one_is_refused() -> None:
    largest = b"x" * MAX_CLAIM_BYTES
    bundle = sign_payload(largest, key("p256"))
    assert len(bundle) <= MAX_BUNDLE_BYTES
    assert accepted(bundle, "p256") == largest
    with pytest.raises(InvalidInput) as caught:
        sign_payload(largest + b"x", key("p256"))
    assert caught.value.code == "E_CLAIM"


def test_a_larger_payload_is_not_read_even_if_it_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxpack_trust import bundle as module

    with monkeypatch.context() as lifted:
        lifted.setattr(module, "MAX_CLAIM_BYTES", MAX_CLAIM_BYTES + 1)
        bundle = sign_payload(b"x" * (MAX_CLAIM_BYTES + 1), key("p256"))
    assert accepted(bundle, "p256") is None
    assert accepted(b" " * (MAX_BUNDLE_BYTES - len(BUNDLES["p256"])) + BUNDLES["p256"], "p256") == PAYLOAD
    assert accepted(b" " * (MAX_BUNDLE_BYTES - len(BUNDLES["p256"]) + 1) + BUNDLES["p256"], "p256") is None


@pytest.mark.parametrize(
    "case", [each for each in cases("claims.json", "invalid") if each.values[0]["code"] != "E_CLAIM"]
)
def test_what_is_no_bundle_or_not_signed_is_refused(case: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        verified_payload(case["bundle"].encode(), key(case["key"]).public)
    assert caught.value.code == case["code"]


@pytest.mark.parametrize(
    "case", [each for each in cases("claims.json", "invalid") if each.values[0]["code"] == "E_BUNDLE"]
)
def test_no_hint_is_read_of_what_is_no_bundle(case: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        hint_of(case["bundle"].encode())
    assert caught.value.code == "E_BUNDLE"


@pytest.mark.parametrize("name", ["p256", "ed25519"])
def test_no_flip_of_a_bit_of_the_bundle_changes_what_is_accepted(name: str) -> None:
    bundle = bytearray(BUNDLES[name])
    for place in range(len(bundle) * 8):
        bundle[place // 8] ^= 1 << place % 8
        assert accepted(bytes(bundle), name) in (None, PAYLOAD), f"bit {place}"
        bundle[place // 8] ^= 1 << place % 8
    assert bytes(bundle) == BUNDLES[name]


@pytest.mark.parametrize("name", ["p256", "ed25519"])
def test_no_flip_of_a_bit_of_the_payload_is_accepted(name: str) -> None:
    parts = json.loads(BUNDLES[name])
    payload = bytearray(PAYLOAD)
    from ctxpack_trust.base64text import encode_base64

    for place in range(len(payload) * 8):
        payload[place // 8] ^= 1 << place % 8
        parts["dsseEnvelope"]["payload"] = encode_base64(bytes(payload))
        assert accepted(json.dumps(parts).encode(), name) is None, f"bit {place}"
        payload[place // 8] ^= 1 << place % 8


def changed(data: bytes) -> st.SearchStrategy[bytes]:
    """data with parts of it removed, repeated, overwritten or moved."""
    words = [b"\0", b'"', b"\\u0041", b"\xff", b"{", b"}", b",", b"=", b"A", b" ", b'"keyid":"",', b"null", b"[]"]
    place = st.integers(0, len(data))
    edit = st.tuples(place, st.integers(0, 40), st.sampled_from(words) | st.binary(max_size=8) | st.none())

    def apply(edits: list[tuple[int, int, bytes | None]]) -> bytes:
        result = data
        for start, size, word in edits:
            piece = result[start : start + size] * 2 if word is None else word
            result = result[:start] + piece + result[start + size :]
        return result

    return st.lists(edit, min_size=1, max_size=3).map(apply)


@given(st.binary(max_size=400) | changed(BUNDLES["p256"]) | changed(BUNDLES["ed25519"]))
def test_no_bytes_make_the_reader_accept_what_was_not_signed(data: bytes) -> None:
    for name in KEYS:
        assert accepted(data, name) in (None, PAYLOAD)


LEAVES: dict[str, list[Any]] = {
    name: [
        value
        for bundle in (BUNDLES[name], sign_claim(EVERYTHING, key(name)))
        for value in (json.loads(bundle)["dsseEnvelope"]["payload"], json.loads(bundle)["dsseEnvelope"]["signatures"])
    ]
    for name in KEYS
}
EVERY = [leaf for leaves in LEAVES.values() for leaf in leaves]
SIGNED = {PAYLOAD, encode_claim(EVERYTHING)}


@given(
    st.sampled_from([each for each in EVERY if isinstance(each, str)]) | st.text(max_size=8),
    st.sampled_from([each for each in EVERY if isinstance(each, list)]),
    st.sampled_from([secret.public.hint for secret in KEYS.values()]),
)
def test_parts_of_signed_bundles_put_together_give_only_what_was_signed(
    payload: str, signatures: Any, hint: str
) -> None:
    bundle = {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}},
        "dsseEnvelope": {
            "payload": payload,
            "payloadType": "application/vnd.in-toto+json",
            "signatures": signatures,
        },
    }
    for name in KEYS:
        found = accepted(json.dumps(bundle).encode(), name)
        assert found is None or (found in SIGNED and payload in LEAVES[name] and signatures in LEAVES[name])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS = (
    ("mediaType",),
    ("verificationMaterial",),
    ("verificationMaterial", "publicKey"),
    ("verificationMaterial", "publicKey", "hint"),
    ("verificationMaterial", "tlogEntries"),
    ("verificationMaterial", "timestampVerificationData"),
    ("dsseEnvelope",),
    ("dsseEnvelope", "payload"),
    ("dsseEnvelope", "payloadType"),
    ("dsseEnvelope", "signatures"),
)


@given(st.sampled_from(PATHS), JSON)
def test_members_of_any_other_value_are_refused(path: tuple[str, ...], value: Any) -> None:
    bundle = json.loads(BUNDLES["p256"])
    holder = bundle
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    assert accepted(json.dumps(bundle).encode(), "p256") in (None, PAYLOAD)


def test_the_vectors_have_a_bundle_for_each_code() -> None:
    assert {case["code"] for case in vectors("claims.json")["invalid"]} == {"E_BUNDLE", "E_CLAIM", "E_SIGNATURE"}
