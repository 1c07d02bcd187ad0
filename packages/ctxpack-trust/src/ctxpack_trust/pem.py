"""PEM (RFC 7468): base64 between a line that begins and a line that ends a block. No text around the blocks."""

from __future__ import annotations

import re

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import NamedTuple
from ctxpack_trust.base64text import decode_base64, encode_base64

__all__ = ["MAX_PEM_BYTES", "Block", "encode_pem", "parse_pem"]

MAX_PEM_BYTES = 1 << 16  # a key of P-256 has some 500

_LINE = 64  # characters (RFC 7468, section 2)
_is_old_encryption = re.compile(rb"^Proc-Type:[ \t]*4,[ \t]*ENCRYPTED", re.MULTILINE).search  # RFC 1421, 4.6.1.1
_BLOCK = re.compile(rb"\s*-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?\n([^-]*)-----END \1-----")


class Block(NamedTuple):
    """One block. label: what it says it holds, such as ``PUBLIC KEY``."""

    label: str
    data: bytes


def parse_pem(text: bytes, *, where: str) -> list[Block]:
    """Return the blocks of text, in order; at least one.

    Raises: InvalidInput (E_KEY) when there is anything else in text, or headers in a block, as old encryption has.
    """
    blocks: list[Block] = []
    position = 0
    if len(text) <= MAX_PEM_BYTES:
        while match := _BLOCK.match(text, position):
            body = b"".join(match[2].split())
            try:
                data = decode_base64(body.decode("latin-1"), where=where)
            except InvalidInput:
                break
            blocks.append(Block(match[1].decode(), data))
            position = match.end()
    if _is_old_encryption(text[position:MAX_PEM_BYTES]):
        raise InvalidInput(
            "the key is encrypted in a way that is out of use",
            where=where,
            expected="a block 'ENCRYPTED PRIVATE KEY' (PKCS #8), without headers",
            got="'Proc-Type: 4,ENCRYPTED'",
            fix="convert it: `openssl pkcs8 -topk8 -in OLD -out NEW`",
            code="E_KEY",
        )
    if not blocks or text[position:].strip():
        raise InvalidInput(
            "not a key in PEM",
            where=where,
            expected="'-----BEGIN ...-----', base64 and '-----END ...-----', and nothing else",
            fix="give the file that `ctxpack keygen` or `openssl pkey` wrote",
            code="E_KEY",
        )
    return blocks


def encode_pem(label: str, data: bytes) -> bytes:
    """Return the block of data, with a final line feed."""
    text = encode_base64(data)
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
