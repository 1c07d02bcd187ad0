"""Private keys under a password: PKCS #8 (RFC 5958) with PBES2 (RFC 8018), scrypt (RFC 7914) and AES-256-CBC.

`cryptography` reads this, as OpenSSL does, but writes PBKDF2 with 2048 rounds only: a thief of the file would try a
hundred times more passwords in a second.
"""

from __future__ import annotations

import hashlib
import os

__all__ = ["encrypt_private_key"]

# 16 MiB and five passes: what OWASP asks for at this size, and the most that OpenSSL reads without a setting (32 MiB).
_COST, _BLOCK_SIZE, _PARALLEL = 1 << 14, 8, 5
_BLOCK = 16  # bytes of AES

_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13
_SCRYPT = bytes.fromhex("06092b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
_AES_256_CBC = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42

_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30


def encrypt_private_key(key: bytes, password: bytes) -> bytes:
    """Return the EncryptedPrivateKeyInfo (DER) of key, a PrivateKeyInfo (DER). Salt and vector are new each time."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    salt, vector = os.urandom(16), os.urandom(_BLOCK)
    secret = hashlib.scrypt(password, salt=salt, n=_COST, r=_BLOCK_SIZE, p=_PARALLEL, dklen=32)
    padding = _BLOCK - len(key) % _BLOCK
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(key + bytes([padding]) * padding) + encryptor.finalize()

    numbers = map(_integer, (_COST, _BLOCK_SIZE, _PARALLEL))
    derivation = _tagged(_SEQUENCE, _SCRYPT, _tagged(_SEQUENCE, _tagged(_OCTETS, salt), *numbers))
    cipher = _tagged(_SEQUENCE, _AES_256_CBC, _tagged(_OCTETS, vector))
    scheme = _tagged(_SEQUENCE, _PBES2, _tagged(_SEQUENCE, derivation, cipher))
    return _tagged(_SEQUENCE, scheme, _tagged(_OCTETS, encrypted))


def _integer(value: int) -> bytes:
    return _tagged(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _tagged(tag: int, *parts: bytes) -> bytes:
    """DER: tag, length, content."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
