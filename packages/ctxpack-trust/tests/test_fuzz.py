"""For any bytes, each parser returns a value or raises its own error: no other exception escapes."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from trust_samples import EVERYTHING, IMAGE, URI, key, vectors

from ctxpack_identity import IntegrityError, InvalidInput
from ctxpack_trust import (
    encode_claim,
    hint_of,
    is_encrypted,
    parse_claim,
    parse_policy,
    parse_private_key,
    parse_public_key,
    public_key_of,
    read_claim,
    sign_claim,
)
from ctxpack_trust.bundle import sign_payload
from ctxpack_trust.pem import encode_pem, parse_pem

PAYLOAD = encode_claim(EVERYTHING)
BUNDLE = sign_claim(EVERYTHING, key("p256"))
POLICY = vectors("policies.json")["valid"][0]["written"].encode()
KEY = vectors("keys.json")["valid"][0]
PUBLIC = key("p256").public.as_pem()
PRIVATE = KEY["private"][0]["pem"].encode()
# Not the scrypt one: a changed cost of scrypt asks for gigabytes, and the file is the user's own.
ENCRYPTED = KEY["encrypted"][1]["pem"].encode()

WORDS = [b"\0", b'"', b"\\ud800", b"\xff", b"{", b"}", b"[", b",", b"-1", b"1e9", b"9" * 320, b"\n", b"-----", b"null"]


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """data with parts of it removed, repeated, overwritten or moved."""
    place = st.integers(0, len(data))
    edit = st.tuples(place, place, st.one_of(st.sampled_from(WORDS), st.binary(max_size=20), st.just(None)))

    def apply(edits: list[tuple[int, int, bytes | None]]) -> bytes:
        changed = data
        for start, end, word in edits:
            piece = changed[min(start, end) : max(start, end)][:600] if word is None else word
            changed = changed[:start] + piece + changed[min(max(start, end), start + 40) :]
        return changed

    return st.lists(edit, min_size=1, max_size=4).map(apply)


ANYTHING = st.binary(max_size=600)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def replaced(document: Any) -> st.SearchStrategy[bytes]:
    """document with one of its values, at any depth, replaced by any other value."""
    places: list[tuple[Any, ...]] = [()]
    for place in places:
        value = document
        for token in place:
            value = value[token]
        tokens = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        places += [(*place, token) for token in tokens]

    def put(place: tuple[Any, ...], value: Any) -> bytes:
        if not place:
            return json.dumps(value).encode()
        copy = json.loads(json.dumps(document))
        holder = copy
        for token in place[:-1]:
            holder = holder[token]
        holder[place[-1]] = value
        return json.dumps(copy).encode()

    return st.builds(put, st.sampled_from(places), JSON)


@given(st.one_of(ANYTHING, mutations(BUNDLE), replaced(json.loads(BUNDLE))))
def test_bundles(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        hint_of(data)
    with contextlib.suppress(IntegrityError):
        assert read_claim(data, key("p256").public, image=IMAGE, uri=URI) == EVERYTHING


@given(st.one_of(ANYTHING, mutations(PAYLOAD), replaced(json.loads(PAYLOAD))))
def test_statements(data: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        claim = parse_claim(data, image=IMAGE, uri=URI)
        assert (claim.image, claim.uri) == (IMAGE, URI)
        assert claim.kind in ("run", "rebuild", "seed", "vouch")
    with contextlib.suppress(IntegrityError):  # a signer's own rubbish, too
        read_claim(sign_payload(data, key("ed25519")), key("ed25519").public, image=IMAGE)


@given(st.one_of(ANYTHING, mutations(POLICY), replaced(json.loads(POLICY))))
def test_policies(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        parse_policy(data, where="policy.json").scope_of("ghcr.io/team/packs")


DER = parse_pem(PUBLIC, where="")[0].data
PRIVATE_DER = parse_pem(PRIVATE, where="")[0].data


@given(st.one_of(ANYTHING, mutations(PUBLIC), mutations(DER).map(lambda der: encode_pem("PUBLIC KEY", der))))
def test_public_keys(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        public = parse_public_key(data, where="key")
        assert public_key_of(public.spki, where="key") == public
    with contextlib.suppress(InvalidInput):
        public_key_of(data, where="key")


@given(
    st.one_of(
        ANYTHING,
        mutations(PRIVATE),
        mutations(PRIVATE_DER).map(lambda der: encode_pem("PRIVATE KEY", der)),
        mutations(PRIVATE_DER).map(lambda der: encode_pem("EC PRIVATE KEY", der)),
        mutations(ENCRYPTED),
    ),
    st.sampled_from([None, b"", KEY["password"].encode(), b"\xff"]),
)
def test_private_keys(data: bytes, password: bytes | None) -> None:
    is_encrypted(data)
    with contextlib.suppress(InvalidInput):
        parse_private_key(data, password, where="key")


@given(st.lists(st.tuples(st.sampled_from(["PUBLIC KEY", "X", "EC PARAMETERS"]), ANYTHING), min_size=1, max_size=3))
def test_pem_comes_back(blocks: list[tuple[str, bytes]]) -> None:
    text = b"\n".join(encode_pem(*block) for block in blocks)
    assert parse_pem(text, where="key") == blocks
    assert parse_pem(text.replace(b"\n", b"\r\n"), where="key") == blocks
