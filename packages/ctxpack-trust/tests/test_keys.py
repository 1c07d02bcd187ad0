"""Keys: one id for each key in every encoding, only two algorithms, and no secret in any text."""

from __future__ import annotations

import copy
import hashlib
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust_samples import KEYS, cases, key, vectors

from ctxpack_identity import InvalidInput
from ctxpack_trust import (
    ALGORITHMS,
    PublicKey,
    generate_key,
    is_encrypted,
    parse_private_key,
    parse_public_key,
    public_key_of,
)
from ctxpack_trust import keys as keys_module
from ctxpack_trust.base64text import decode_base64, encode_base64
from ctxpack_trust.pem import encode_pem, parse_pem

NAMED = [pytest.param(case, id=case["name"]) for case in vectors("keys.json")["valid"]]


@pytest.mark.parametrize("case", NAMED)
def test_every_encoding_of_a_public_key_has_one_id(case: Any) -> None:
    for public in case["public"]:
        read = parse_public_key(public["pem"].encode(), where=public["what"])
        assert encode_base64(read.spki) == case["spki"]
        assert (read.key_id, read.hint, read.algorithm) == (case["key_id"], case["hint"], case["algorithm"])
        assert read.key_id == hashlib.sha256(read.spki).hexdigest() == decode_base64(read.hint, where="hint").hex()
    assert parse_public_key(read.as_pem(), where="pem") == read
    assert read.as_pem() == case["public"][0]["pem"].encode()
    assert public_key_of(read.spki, where="spki") == read


@pytest.mark.parametrize("case", NAMED)
def test_every_encoding_of_a_private_key_is_read(case: Any) -> None:
    password = case["password"].encode()
    for private in case["private"]:
        pem = private["pem"].encode()
        assert not is_encrypted(pem)
        for ignored in (None, b"", b"any"):  # CTXPACK_KEY_PASSWORD may be set for another key
            assert parse_private_key(pem, ignored, where="key").public.key_id == case["key_id"]
    for private in case["encrypted"]:
        pem = private["pem"].encode()
        assert is_encrypted(pem)
        assert parse_private_key(pem, password, where="key").public.key_id == case["key_id"]


@pytest.mark.parametrize("case", NAMED)
@pytest.mark.parametrize("password", [None, b"", b"wrong", b"correct horse "])
def test_without_its_password_a_key_stays_closed(case: Any, password: bytes | None) -> None:
    for private in case["encrypted"]:
        with pytest.raises(InvalidInput) as caught:
            parse_private_key(private["pem"].encode(), password, where="ci.key")
        assert (caught.value.code, caught.value.where) == ("E_PASSWORD", "ci.key")
        assert "CTXPACK_KEY_PASSWORD" in caught.value.fix


@pytest.mark.parametrize("case", cases("keys.json", "invalid"))
def test_what_is_no_public_key_is_refused(case: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_public_key(case["pem"].encode(), where="ci.pub")
    assert (caught.value.code, caught.value.where) == ("E_KEY", "ci.pub")
    assert "-----BEGIN" not in str(caught.value).replace("'-----BEGIN ...-----'", "")


def test_a_private_key_given_as_a_public_one_is_named_secret() -> None:
    with pytest.raises(InvalidInput, match=r"give the file NAME\.pub: NAME\.key is secret"):
        parse_public_key(vectors("keys.json")["valid"][0]["private"][0]["pem"].encode(), where="ci.key")


EC_PARAMETERS = encode_pem("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107"))


def test_the_curve_that_openssl_writes_before_a_key_is_skipped() -> None:
    plain = vectors("keys.json")["valid"][0]["private"][1]["pem"].encode()
    assert parse_private_key(EC_PARAMETERS + plain, None, where="key").public == key("p256").public


def private_pem(label: str, data: bytes) -> bytes:
    return encode_pem(label, data)


PKCS8 = parse_pem(vectors("keys.json")["valid"][0]["private"][0]["pem"].encode(), where="")[0].data


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"\xff",
        b"secret",
        EC_PARAMETERS,
        key("p256").public.as_pem(),
        private_pem("PRIVATE KEY", PKCS8) * 2,
        private_pem("PRIVATE KEY", PKCS8[:-1]),
        private_pem("PRIVATE KEY", PKCS8 + b"\0"),
        private_pem("RSA PRIVATE KEY", PKCS8),
        private_pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"{}"),
        b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nQQ==\n-----END EC PRIVATE KEY-----\n",
    ],
    ids=range(11),
)
def test_what_is_no_private_key_is_refused_and_not_shown(pem: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_private_key(pem, None, where="key")
    assert caught.value.code == "E_KEY"
    assert encode_base64(PKCS8)[:40] not in str(caught.value)
    if b"SIGSTORE" in pem:
        assert "cosign" in caught.value.fix
    assert (b"Proc-Type" in pem) is ("openssl pkcs8 -topk8" in caught.value.fix)


def test_keys_of_other_algorithms_are_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    for other in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
    ):
        pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(InvalidInput) as caught:
            parse_private_key(pem, None, where="ci.key")
        assert (caught.value.code, caught.value.where) == ("E_KEY", "ci.key")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_new_key_signs_and_comes_back_from_its_file(algorithm: str) -> None:
    made = generate_key(algorithm)
    assert made.public.algorithm == algorithm
    assert made.public != generate_key(algorithm).public
    pem = made.as_pem(b"pass\xff")
    assert is_encrypted(pem)
    assert pem != made.as_pem(b"pass\xff")  # another salt
    again = parse_private_key(pem, b"pass\xff", where="key")
    assert again.public == made.public
    signature = again.sign(b"message")
    assert made.public.verifies(signature, b"message")
    assert not made.public.verifies(signature, b"messages")
    assert not any(other.public.verifies(signature, b"message") for other in KEYS.values())


def test_a_password_may_be_long_but_not_empty() -> None:
    long = b"a" * 5000
    assert parse_private_key(key("p256").as_pem(long), long, where="key").public == key("p256").public
    with pytest.raises(InvalidInput) as caught:
        key("p256").as_pem(b"")
    assert caught.value.code == "E_PASSWORD"


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected ecdsa-p256 or ed25519, got 'rsa'"):
        generate_key("rsa")


def test_a_key_file_is_what_openssl_reads() -> None:
    """PBES2 with scrypt: 16384, 8, 5, which OpenSSL takes without a setting."""
    der = parse_pem(key("p256").as_pem(b"x"), where="")[0].data
    assert bytes.fromhex("06092a864886f70d01050d") in der
    assert bytes.fromhex("02024000020108020105") in der
    assert PKCS8 not in der


def test_a_private_key_shows_its_id_and_cannot_leave_the_process() -> None:
    secret = key("ed25519")
    assert repr(secret) == str(secret) == f"<PrivateKey {secret.public.key_id}>"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leave(secret)
    with pytest.raises(AttributeError):
        secret.note = "x"  # type: ignore[attr-defined]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_key_verifies_nothing_that_was_not_signed_and_never_raises(signature: bytes, message: bytes) -> None:
    for each in KEYS.values():
        assert not each.public.verifies(signature, message)


@given(st.binary(max_size=120))
def test_a_public_key_that_is_none_verifies_nothing(spki: bytes) -> None:
    assert not PublicKey(spki).verifies(key("p256").sign(b"x"), b"x")


def test_a_key_in_another_form_than_the_normal_one_verifies_nothing() -> None:
    """Else one key would have two ids."""
    pem = vectors("keys.json")["valid"][0]["public"][1]["pem"].encode()
    compressed = PublicKey(parse_pem(pem, where="")[0].data)
    assert not compressed.verifies(key("p256").sign(b"x"), b"x")


def test_a_coordinate_of_p256_that_is_not_reduced_is_refused() -> None:
    """5 and 5 + p are one number modulo p: two texts of one key."""
    p, b = keys_module._P256_P, keys_module._P256_B
    y = pow(5**3 - 3 * 5 + b, (p + 1) // 4, p)
    prefix = key("p256").public.spki[:27]
    point = prefix + (5).to_bytes(32, "big") + y.to_bytes(32, "big")
    assert public_key_of(point, where="key").spki == point
    with pytest.raises(InvalidInput):
        public_key_of(prefix + (5 + p).to_bytes(32, "big") + y.to_bytes(32, "big"), where="key")


def test_the_points_of_small_order_are_all() -> None:
    """Eight times each of them is the neutral element, and there are five second coordinates."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p

    def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = one, other
        t = d * x1 * x2 * y1 * y2 % p
        x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, p) % p
        return x, (y1 * y2 + x1 * x2) * pow(1 - t, -1, p) % p

    root = pow(2, (p - 1) // 4, p)
    for y in keys_module._SMALL_ORDER:
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if x * x % p == square else x * root % p
        assert x * x % p == square, "not on the curve"
        point = (x, y)
        for _ in range(3):
            point = add(point, point)
        assert point == (0, 1)
    assert len(keys_module._SMALL_ORDER) == 5


def test_the_normal_form_is_read_without_cryptography() -> None:
    """A policy is read on a hit, and to load cryptography takes longer than all else there."""
    spkis = [each.public.spki for each in KEYS.values()]
    script = (
        "import sys; from ctxpack_trust import public_key_of;"
        f"[public_key_of(spki, where='') for spki in {spkis}];"
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
