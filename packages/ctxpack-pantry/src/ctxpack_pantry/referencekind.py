"""Kinds of reference: which of them a text is. A URI, the first digits of a cached one, a contract file, or a name.

A text is of the first of these kinds that fits; a name (`names`) is what is left, and `ctxpack tag` gives none that
would be read as another kind.
"""

from __future__ import annotations

import re

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_identity.uri import parse_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ANY",
    "CONTRACT",
    "LOCAL",
    "LONGEST_NAME",
    "NAME",
    "PREFIX",
    "SHORTEST_PREFIX",
    "URI",
    "Reference",
    "parse_name",
    "parse_reference",
]

# Every cached hit loads this module.

URI = "uri"
PREFIX = "prefix"
CONTRACT = "contract"
NAME = "name"
ANY = (URI, PREFIX, CONTRACT, NAME)
LOCAL = (URI, PREFIX)

SHORTEST_PREFIX = 8  # digits; SPEC.md of ctxpack-identity, "Context URI"
LONGEST_NAME = 123  # characters: a tag has at most 128 (distribution-spec, "Pulling manifests"), with "name-"

_is_prefix = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}").fullmatch
_is_hex = re.compile(r"[0-9A-Fa-f]+").fullmatch
_is_name = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}").fullmatch

_WORDS = {URI: "a URI", PREFIX: "the first digits of a cached one", CONTRACT: "a contract file", NAME: "a name"}


class Reference(NamedTuple):
    """What a user wrote, and its kind: URI, PREFIX, CONTRACT or NAME."""

    kind: str
    text: str


def parse_reference(text: str, *, kinds: Sequence[str] = ANY) -> Reference:
    """Return the reference that text is. kinds: those that the caller can use.

    ``ctx:…`` is a URI, 8 to 64 lower-case hexadecimal digits are a prefix, a text with ``/`` or with ``.json`` at its
    end is a contract file, and the rest is a name.
    Raises: InvalidInput when text is none of them, or of another kind than kinds.

    >>> parse_reference("rag-index"), parse_reference("1f2e3d4c").kind, parse_reference("./rag-index").kind
    (Reference(kind='name', text='rag-index'), 'prefix', 'contract')
    """
    reference = Reference(_kind_of(text), text)
    if reference.kind not in kinds:
        fix = "`ctxpack ls` lists the cached packs"
        raise _malformed(text, f"{_WORDS[reference.kind]} cannot stand here", kinds, fix=fix)
    return reference


def parse_name(text: str) -> str:
    """Return text if it is a name: letters, digits, ``.``, ``_`` and ``-``, and of no other kind.

    Raises: InvalidInput.
    """
    try:
        parse_reference(text, kinds=(NAME,))
    except InvalidInput as error:
        raise InvalidInput(
            "cannot be a name",
            where=repr(text)[:160],
            expected=f"1 to {LONGEST_NAME} letters, digits, '.', '_' and '-', of which the first is a letter or digit; "
            "not .json at the end, nor 8 or more hexadecimal digits alone",
            fix="choose another name",
            code="E_NAME",
        ) from error
    return text


def _kind_of(text: str) -> str:
    if text[:4].lower() == "ctx:":
        parse_uri(text)
        return URI
    if _is_prefix(text):
        return PREFIX
    if len(text) >= SHORTEST_PREFIX and _is_hex(text):
        fix = f"write {SHORTEST_PREFIX} to 64 digits in lower case, or ctx://sha256: and all 64"
        raise _malformed(text, "not the beginning of a URI", (PREFIX,), fix=fix)
    if "\0" not in text and ("/" in text or text.endswith(".json")):
        return CONTRACT
    if _is_name(text):
        return NAME
    fix = "write ctx:// before a digest" if text.startswith("sha256:") else "write ./ before the name of a file"
    raise _malformed(text, "names no pack", ANY, fix=fix)


def _malformed(text: str, what: str, kinds: Sequence[str], *, fix: str) -> InvalidInput:
    words = [_WORDS[kind] for kind in kinds]
    expected = ", ".join(words[:-1]) + " or " * (len(words) > 1) + words[-1]
    return InvalidInput(what, where=repr(text)[:160], expected=expected, fix=fix, code="E_REFERENCE")
