"""The Sigstore bundle v0.3 around one signature: written as cosign takes it, read so that nothing in it is ignored.

Source: sigstore/protobuf-specs, sigstore_bundle.proto; CLAIM.md, "Bundle". Only bundles signed with a plain key.
"""

from __future__ import annotations

from functools import lru_cache

from ctxpack_identity.canonical import canonical_json, parse_json, pointer
from ctxpack_identity.errors import IntegrityError, InvalidInput
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_trust.base64text import decode_base64, encode_base64
from ctxpack_trust.dsse import PAYLOAD_TYPE, pre_authentication_encoding
from ctxpack_trust.keys import PrivateKey, PublicKey

__all__ = [
    "BUNDLE_MEDIA_TYPE",
    "MAX_BUNDLE_BYTES",
    "MAX_CLAIM_BYTES",
    "hint_of",
    "sign_payload",
    "verified_payload",
]

BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_CLAIM_BYTES = 1 << 20  # of a payload
MAX_BUNDLE_BYTES = 3 << 19  # 1.5 MiB: the largest payload in base64, and 100 KiB for the rest

_WHERE = "bundle"
# What protobuf's JSON may write for members that are not there.
_EMPTY: dict[str, tuple[Any, ...]] = {
    "tlogEntries": ([],),
    "timestampVerificationData": (None, {}, {"rfc3161Timestamps": []}),
}


class _Signed(NamedTuple):
    payload: bytes
    signature: bytes
    hint: str


def sign_payload(payload: bytes, key: PrivateKey) -> bytes:
    """Return the bundle of payload, signed by key: canonical JSON.

    Raises: InvalidInput (E_CLAIM) for a payload above MAX_CLAIM_BYTES.
    """
    if len(payload) > MAX_CLAIM_BYTES:
        raise InvalidInput(
            "claim is too large",
            where="claim",
            expected=f"at most {MAX_CLAIM_BYTES} bytes",
            got=str(len(payload)),
            fix="use fewer inputs, tools or sources",
            code="E_CLAIM",
        )
    signature = key.sign(pre_authentication_encoding(payload))
    return canonical_json(
        {
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
            "dsseEnvelope": {
                "payload": encode_base64(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": encode_base64(signature)}],
            },
        }
    )


def verified_payload(bundle: bytes, key: PublicKey) -> bytes:
    """Return the payload of bundle, if key signed it.

    Raises: IntegrityError, E_BUNDLE for what is no bundle v0.3 with exactly one signature by a plain key, and for any
    member that is not known; E_SIGNATURE when the bundle names another key, or the signature is wrong.
    """
    signed = _parse(bundle)
    if signed.hint != key.hint:
        raise IntegrityError(
            "signed by another key",
            where=_WHERE,
            expected=f"the hint {key.hint}",
            got=repr(signed.hint)[:80],
            fix="check it with that key",
            code="E_SIGNATURE",
        )
    if not key.verifies(signed.signature, pre_authentication_encoding(signed.payload)):
        raise IntegrityError(
            "signature is wrong",
            where=_WHERE,
            expected=f"a signature by the key {key.key_id}",
            fix="do not use the pack: somebody changed the claim, or made it up",
            code="E_SIGNATURE",
        )
    return signed.payload


def hint_of(bundle: bytes) -> str:
    """Return which key bundle says it is signed by: base64 of the SHA-256 of the key. Not verified.

    Raises: IntegrityError (E_BUNDLE) as verified_payload.
    """
    return _parse(bundle).hint


@lru_cache(maxsize=4)  # it is asked for its key, and then checked
def _parse(bundle: bytes) -> _Signed:
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise _fault("", f"at most {MAX_BUNDLE_BYTES} bytes", str(len(bundle)))
    try:
        value = parse_json(bundle, where=_WHERE)
    except InvalidInput as error:
        raise IntegrityError(
            error.what, where=error.where, expected=error.expected, got=error.got, fix=_FIX, code="E_BUNDLE"
        ) from error
    _check_members(value, "", ("dsseEnvelope", "mediaType", "verificationMaterial"))
    if value["mediaType"] != BUNDLE_MEDIA_TYPE:
        raise _fault("/mediaType", BUNDLE_MEDIA_TYPE, value["mediaType"])
    envelope, material = value["dsseEnvelope"], value["verificationMaterial"]

    at = "/verificationMaterial"
    _check_members(material, at, ("publicKey",), tuple(_EMPTY))
    for name, empty in _EMPTY.items():
        if name in material and material[name] not in empty:
            raise _fault(f"{at}/{name}", "nothing: logs and timestamps are not checked", material[name])
    _check_members(material["publicKey"], f"{at}/publicKey", ("hint",))
    hint = material["publicKey"]["hint"]
    if len(_decoded(hint, f"{at}/publicKey/hint")) != 32:
        raise _fault(f"{at}/publicKey/hint", "base64 of a SHA-256", hint)

    at = "/dsseEnvelope"
    _check_members(envelope, at, ("payload", "payloadType", "signatures"))
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise _fault(f"{at}/payloadType", PAYLOAD_TYPE, envelope["payloadType"])
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise _fault(f"{at}/signatures", "exactly one signature", signatures)
    at = f"{at}/signatures/0"
    _check_members(signatures[0], at, ("sig",), ("keyid",))
    if signatures[0].get("keyid", "") != "":
        raise _fault(f"{at}/keyid", "none", signatures[0]["keyid"])
    payload = _decoded(envelope["payload"], "/dsseEnvelope/payload")
    if len(payload) > MAX_CLAIM_BYTES:
        raise _fault("/dsseEnvelope/payload", f"at most {MAX_CLAIM_BYTES} bytes", str(len(payload)))
    return _Signed(payload, _decoded(signatures[0]["sig"], f"{at}/sig"), hint)


def _check_members(value: Any, at: str, needed: tuple[str, ...], allowed: tuple[str, ...] = ()) -> None:
    if not isinstance(value, dict):
        raise _fault(at, "an object", value)
    missing = sorted(set(needed) - set(value))
    unknown = sorted(set(value) - set(needed) - set(allowed))
    if unknown:
        raise _fault(pointer(at, unknown[0]), f"only {', '.join(needed + allowed)}", unknown[0])
    if missing:
        raise _fault(at, f"a member {missing[0]}", "none")


def _decoded(text: Any, at: str) -> bytes:
    try:
        return decode_base64(text, where=at)
    except InvalidInput as error:
        raise _fault(at, "canonical base64", text) from error


_FIX = "skip it: it is no claim, or needs a newer ctxpack"


def _fault(at: str, expected: str, got: Any) -> IntegrityError:
    text = got if isinstance(got, str) else repr(got)
    where = f"{_WHERE}, {at}" if at else _WHERE
    return IntegrityError(
        "not a bundle that this version reads",
        where=where,
        expected=expected,
        got=text[:120],
        fix=_FIX,
        code="E_BUNDLE",
    )
