"""Keys: ECDSA on P-256 with SHA-256, and Ed25519. One key has one id, whatever encoding it came in.

`cryptography` is imported by the functions that need it: to load it takes longer than all else that a hit does. A
public key in the normal form (that of each policy) is read without it.
"""

from __future__ import annotations

import hashlib

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_trust.base64text import encode_base64
from ctxpack_trust.pem import encode_pem, parse_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "ALGORITHMS",
    "PrivateKey",
    "PublicKey",
    "generate_key",
    "is_encrypted",
    "parse_private_key",
    "parse_public_key",
    "public_key_of",
]

ECDSA_P256, ED25519 = ALGORITHMS = ("ecdsa-p256", "ed25519")

_MAX_DER_BYTES = 4096
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"

# SubjectPublicKeyInfo (RFC 5480) with the named curve secp256r1 and an uncompressed point: its 64 bytes follow.
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1  # FIPS 186-4, D.1.2.3
_P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

# SubjectPublicKeyInfo (RFC 8410): the 32 bytes of the point follow.
_ED25519 = bytes.fromhex("302a300506032b6570032100")
_ED25519_P = 2**255 - 19
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# The second coordinates of the points of order 1, 2, 4 and 8: a key there accepts signatures that nobody made.
_SMALL_ORDER = frozenset({0, 1, _ED25519_P - 1, _ORDER_8, _ED25519_P - _ORDER_8})


class PublicKey(NamedTuple):
    """A public key. spki: SubjectPublicKeyInfo, DER, in the normal form: named curve, uncompressed point.

    Made by parse_public_key and public_key_of, which see to that form.
    """

    spki: bytes

    @property
    def key_id(self) -> str:
        """64 hexadecimal digits: the SHA-256 of spki."""
        return hashlib.sha256(self.spki).hexdigest()

    @property
    def hint(self) -> str:
        """The same 32 bytes in base64, as a Sigstore bundle names the key."""
        return encode_base64(hashlib.sha256(self.spki).digest())

    @property
    def algorithm(self) -> str:
        """One of ALGORITHMS."""
        return ED25519 if self.spki.startswith(_ED25519) else ECDSA_P256

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether signature is this key's of message. ECDSA: DER. Never raises, whatever the bytes are."""
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256

        if not _is_normal(self.spki):
            return False
        try:
            key = _load(self.spki)
            if isinstance(key, Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ECDSA(SHA256()))
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
            return False
        return True

    def as_pem(self) -> bytes:
        """Return the PEM text, as `openssl pkey -pubout` writes it."""
        return encode_pem("PUBLIC KEY", self.spki)


class PrivateKey:
    """A private key. public: its public key. It is shown by its key id, and cannot be pickled."""

    __slots__ = ("_key", "public")

    def __init__(self, key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._key = key
        self.public = public_key_of(spki, where="private key")

    def __repr__(self) -> str:
        return f"<PrivateKey {self.public.key_id}>"

    def __reduce__(self) -> Any:
        raise TypeError("a private key is not pickled: it would leave this process")

    def sign(self, message: bytes) -> bytes:
        """Return a signature of message. ECDSA: DER, another one each time. Ed25519: pure, not Ed25519ph."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256

        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ECDSA(SHA256()))

    def as_pem(self, password: bytes) -> bytes:
        """Return the PEM text of the key, encrypted with password (PKCS #8).

        Raises: InvalidInput (E_PASSWORD) for an empty password.
        """
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        from ctxpack_trust.pkcs8 import encrypt_private_key  # only for new keys

        if not password:
            raise InvalidInput("password is empty", where="private key", fix="choose a password", code="E_PASSWORD")
        plain = self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return encode_pem(_ENCRYPTED, encrypt_private_key(plain, password))


def generate_key(algorithm: str = ECDSA_P256) -> PrivateKey:
    """Return a new key. Raises: InvalidInput (E_KEY) for what is not one of ALGORITHMS."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if algorithm == ED25519:
        return PrivateKey(ed25519.Ed25519PrivateKey.generate())
    if algorithm == ECDSA_P256:
        return PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    raise InvalidInput(
        "unknown algorithm",
        where="key",
        expected=" or ".join(ALGORITHMS),
        got=repr(algorithm)[:80],
        fix="choose one of them",
        code="E_KEY",
    )


def parse_public_key(data: bytes, *, where: str) -> PublicKey:
    """Return the key of a PEM file that holds one block ``PUBLIC KEY``, in any encoding, in the normal form.

    Raises: InvalidInput (E_KEY) for other curves and algorithms, private keys, certificates and rubbish.
    """
    blocks = parse_pem(data, where=where)
    label = blocks[0].label
    if len(blocks) != 1 or label != "PUBLIC KEY":
        raise InvalidInput(
            "not a public key",
            where=where,
            expected="one block 'PUBLIC KEY'",
            got=f"{len(blocks)} blocks" if len(blocks) > 1 else repr(label),
            fix="give the file NAME.pub: NAME.key is secret" if "PRIVATE" in label else "give the file NAME.pub",
            code="E_KEY",
        )
    return public_key_of(blocks[0].data, where=where)


def public_key_of(spki: bytes, *, where: str) -> PublicKey:
    """Return the key of a SubjectPublicKeyInfo (DER), in the normal form: also of a compressed point.

    Raises: InvalidInput (E_KEY) as parse_public_key.
    """
    if _is_normal(spki):
        return PublicKey(spki)
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    normal = b""
    if len(spki) <= _MAX_DER_BYTES:
        try:
            normal = _load(spki).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except Exception:  # of hostile bytes it is not known what a foreign parser raises
            normal = b""
    if not _is_normal(normal):
        raise _not_usable("not a public key that can be used", where)
    return PublicKey(normal)


def is_encrypted(pem: bytes) -> bool:
    """Whether pem is a private key that needs a password. Of what is no key: False."""
    try:
        return any(block.label == _ENCRYPTED for block in parse_pem(pem, where="key"))
    except InvalidInput:
        return False


def parse_private_key(pem: bytes, password: bytes | None, *, where: str) -> PrivateKey:
    """Return the private key of a PEM file: PKCS #8, encrypted or not, or ``EC PRIVATE KEY``.

    password: of an encrypted key; else it is not looked at. Raises: InvalidInput, E_PASSWORD when it is missing or
    wrong, E_KEY for what is no private key of ALGORITHMS. No error shows any of the key.
    """
    # `openssl ecparam -genkey` writes the curve first, in a block of its own.
    blocks = [block for block in parse_pem(pem, where=where) if block.label != "EC PARAMETERS"]
    labels = [block.label for block in blocks]
    if labels == [_ENCRYPTED]:
        if not password:
            raise InvalidInput(
                "key needs a password",
                where=where,
                fix="set CTXPACK_KEY_PASSWORD, or run the command on a terminal",
                code="E_PASSWORD",
            )
        return _open(blocks[0].data, password, where)
    if labels in (["PRIVATE KEY"], ["EC PRIVATE KEY"]):
        return _open(blocks[0].data, None, where)
    foreign = any("COSIGN" in label or "SIGSTORE" in label for label in labels)
    raise InvalidInput(
        "not a private key",
        where=where,
        expected=f"one block '{_ENCRYPTED}'",
        got=", ".join(map(repr, labels[:3])) or "none",
        fix="cosign's own format is not read: make a key with `ctxpack keygen`"
        if foreign
        else "give the file NAME.key that `ctxpack keygen` wrote",
        code="E_KEY",
    )


def _open(der: bytes, password: bytes | None, where: str) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(der, password)
    except ValueError as error:
        if password is None:
            raise _not_usable("not a private key that can be used", where) from error
        raise InvalidInput(
            "the password is wrong, or the key is damaged",
            where=where,
            fix="correct CTXPACK_KEY_PASSWORD, or type it again",
            code="E_PASSWORD",
        ) from error
    except Exception as error:  # of hostile bytes it is not known what a foreign parser raises
        raise _not_usable("not a private key that can be used", where) from error
    if isinstance(key, Ed25519PrivateKey):
        return PrivateKey(key)
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return PrivateKey(key)
    raise _not_usable("not a private key that can be used", where)


def _not_usable(what: str, where: str) -> InvalidInput:
    return InvalidInput(
        what,
        where=where,
        expected="ECDSA on the curve P-256, or Ed25519",
        fix="make one with `ctxpack keygen`",
        code="E_KEY",
    )


def _load(spki: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(spki)


def _is_normal(spki: bytes) -> bool:
    """Whether spki is the normal form of a key that can be used: the point is on its curve, and not of small order."""
    if len(spki) == len(_P256) + 64 and spki.startswith(_P256):
        x, y = int.from_bytes(spki[-64:-32], "big"), int.from_bytes(spki[-32:], "big")
        return max(x, y) < _P256_P and (y * y - x * x * x + 3 * x - _P256_B) % _P256_P == 0
    if len(spki) == len(_ED25519) + 32 and spki.startswith(_ED25519):
        y = int.from_bytes(spki[-32:], "little") & (1 << 255) - 1  # the last bit is the sign of the other coordinate
        return y < _ED25519_P and y not in _SMALL_ORDER
    return False
