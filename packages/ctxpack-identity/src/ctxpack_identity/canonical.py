"""Canonical JSON: one value, one sequence of bytes (RFC 8785), and a strict reader.

The values are those that every JSON implementation reads alike. RFC 8785 writes integral floats from 2^53 and a
negative zero in a way that does not read back as the same value: they are refused. SPEC.md, "Canonical JSON".
"""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import Any

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "canonical_json", "parse_json", "pointer"]

MAX_INTEGER = 2**53 - 1  # the largest n for which n and n + 1 are both exact in an IEEE 754 double (RFC 7493, 2.2)
MAX_DEPTH = 64  # nested arrays and objects; deeper documents are refused by some JSON implementations


def pointer(parent: str, token: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a member or element of parent.

    >>> pointer("/inputs/0", "a/b")
    '/inputs/0/a~1b'
    """
    return f"{parent}/{str(token).replace('~', '~0').replace('/', '~1')}"


def canonical_json(value: Any, *, where: str = "") -> bytes:
    """Return the RFC 8785 bytes of value, built from dict, list, tuple, str, int, float, bool and None.

    where: the name of value in errors. Raises: InvalidInput for any other type (also for subclasses, which may have a
    meaning of their own), non-string keys, NaN, infinities, a negative zero, integers and integral floats beyond
    2^53 - 1, lone surrogates, and more than MAX_DEPTH levels.

    >>> canonical_json({"b": 1.0, "a": [True, None, "ü"]})
    b'{"a":[true,null,"\\xc3\\xbc"],"b":1}'
    """
    parts: list[str] = []
    _write(value, "", 0, parts, where)
    return "".join(parts).encode()


def parse_json(data: bytes | str, *, where: str = "") -> Any:
    """Return the value of a JSON document that has exactly one reading.

    where: the name of the document in errors. Raises: InvalidInput for anything but UTF-8 JSON, for duplicate
    names, and for every value that canonical_json refuses; the error names the JSON pointer.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "not UTF-8",
            where=where,
            got=f"byte {data[error.start]:#04x} at offset {error.start}",
            fix="save it as UTF-8",
            code="E_JSON",
        ) from error
    if text.startswith("\ufeff"):
        raise InvalidInput(
            "starts with a byte order mark", where=where, fix="save it as UTF-8 without BOM", code="E_JSON"
        )
    try:
        raw = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_integer, parse_float=_float, parse_constant=_Refused.constant
        )
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"not JSON: {error.msg}",
            where=f"{where + ', ' if where else ''}line {error.lineno}, column {error.colno}",
            fix="check the commas, quotes and brackets there",
            code="E_JSON",
        ) from error
    except RecursionError as error:
        raise _too_deep(where) from error
    return _read(raw, "", 0, where)


class _Pairs(list[tuple[str, Any]]):
    """An object as the document has it, with duplicate names."""


class _Refused:
    """A number without a canonical form, kept until its pointer is known."""

    def __init__(self, code: str, expected: str, got: str) -> None:
        self.code, self.expected, self.got = code, expected, got

    @classmethod
    def constant(cls, text: str) -> _Refused:
        return cls("E_NAN", "a finite number", text)

    def error(self, at: str, where: str) -> InvalidInput:
        fix = "write it as a text in quotes"
        return _at(at, where, "number has no canonical form", self.expected, self.got, self.code, fix)


_INTEGER_RANGE = "an integer within ±(2^53-1)"


def _integer(text: str) -> int | _Refused:
    if text == "-0":
        return _Refused("E_NEGATIVE_ZERO", "0", text)
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        return _Refused("E_INT_RANGE", _INTEGER_RANGE, text if len(text) < 40 else f"{len(text)} digits")
    return int(text)


def _float(text: str) -> float | _Refused:
    value = float(text)
    shown = text if len(text) < 40 else f"{text[:37]}..."
    if math.isinf(value):
        return _Refused("E_FLOAT_RANGE", "a number that an IEEE 754 double can hold", shown)
    return _float_fault(value, shown) or value


def _float_fault(value: float, shown: str) -> _Refused | None:
    if not math.isfinite(value):
        return _Refused("E_NAN", "a finite number", shown)
    if value == 0 and math.copysign(1, value) < 0:
        return _Refused("E_NEGATIVE_ZERO", "0", shown)
    if value.is_integer() and abs(value) > MAX_INTEGER:
        return _Refused("E_FLOAT_RANGE", "an integral number within ±(2^53-1)", shown)
    return None


def _read(value: Any, at: str, depth: int, where: str) -> Any:
    kind = type(value)
    if depth >= MAX_DEPTH and kind in (_Pairs, list):
        raise _too_deep(where)
    if kind is _Pairs:
        members: dict[str, Any] = {}
        for name, item in value:
            here = pointer(at, name)
            _check_text(name, here, where)
            if name in members:
                fix = "keep one of the two"
                raise _at(here, where, "name appears twice in one object", "unique names", repr(name), "E_DUP_KEY", fix)
            members[name] = _read(item, here, depth + 1, where)
        return members
    if kind is list:
        return [_read(item, pointer(at, index), depth + 1, where) for index, item in enumerate(value)]
    if kind is _Refused:
        raise value.error(at, where)
    if kind is str:
        _check_text(value, at, where)
    return value


def _write(value: Any, at: str, depth: int, parts: list[str], where: str) -> None:
    kind = type(value)
    if kind is str:
        _check_text(value, at, where)
        parts.append(encode_basestring(value))
    elif kind is bool:
        parts.append("true" if value else "false")
    elif kind is int:
        if abs(value) > MAX_INTEGER:
            shown = str(value) if value.bit_length() < 128 else f"{value.bit_length()} bits"
            raise _Refused("E_INT_RANGE", _INTEGER_RANGE, shown).error(at, where)
        parts.append(str(value))
    elif kind is float:
        fault = _float_fault(value, repr(value))
        if fault:
            raise fault.error(at, where)
        parts.append(_ecmascript(value))
    elif value is None:
        parts.append("null")
    elif depth >= MAX_DEPTH and kind in (dict, list, tuple):
        raise _too_deep(where)
    elif kind is dict:
        _write_object(value, at, depth, parts, where)
    elif kind is list or kind is tuple:
        parts.append("[")
        for index, item in enumerate(value):
            if index:
                parts.append(",")
            _write(item, pointer(at, index), depth + 1, parts, where)
        parts.append("]")
    else:
        raise _at(at, where, "not a JSON value", "object, array, string, number, boolean or null", repr(kind), "E_TYPE")


def _write_object(value: dict[str, Any], at: str, depth: int, parts: list[str], where: str) -> None:
    for name in value:
        if type(name) is not str:
            raise _at(at, where, "name is not a string", "a string", repr(name)[:80], "E_NON_STRING_KEY")
        _check_text(name, pointer(at, name), where)
    parts.append("{")
    # For ASCII names, Python's own order is right; the UTF-16 codec takes a millisecond to load.
    for index, name in enumerate(sorted(value, key=None if "".join(value).isascii() else _utf16)):
        parts.append(f"{',' if index else ''}{encode_basestring(name)}:")
        _write(value[name], pointer(at, name), depth + 1, parts, where)
    parts.append("}")


def _utf16(name: str) -> bytes:
    """RFC 8785, 3.2.3: names are sorted by UTF-16 code units."""
    return name.encode("utf-16-be")


def _ecmascript(value: float) -> str:
    """ECMA-262 Number::toString, which RFC 8785 prescribes; Python's repr has the same digits, but other exponents."""
    if value.is_integer():
        return str(int(value))
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return digits
    power = int(exponent)  # below -4: larger floats with an exponent are integral
    if power < -6:
        return f"{digits}e{power}"
    sign = "-" if digits[0] == "-" else ""
    return f"{sign}0.{'0' * (-power - 1)}{digits.lstrip('-').replace('.', '')}"


def _check_text(text: str, at: str, where: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _at(
            at, where, "lone surrogate in text", "Unicode text", f"U+{ord(text[error.start]):04X}", "E_SURROGATE"
        ) from error


def _at(at: str, where: str, what: str, expected: str, got: str, code: str, fix: str = "") -> InvalidInput:
    place = f"{where}, {at or '(whole document)'}" if where else at or "value"
    return InvalidInput(what, where=place, expected=expected, got=got, fix=fix, code=code)


def _too_deep(where: str) -> InvalidInput:
    return InvalidInput(
        "nested too deep",
        where=where,
        expected=f"at most {MAX_DEPTH} levels",
        fix="use fewer arrays and objects inside each other",
        code="E_DEPTH",
    )
