"""Canonical JSON: one value, one sequence of bytes (RFC 8785), and a strict reader.

The values are those that every JSON implementation reads alike, within limits that keep time linear and memory flat. A
negative zero is refused: RFC 8785 writes it as 0, which is another value. SPEC.md, "Canonical JSON" and "Limits".
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from io import BytesIO
from json.encoder import encode_basestring

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "MAX_MEMBERS", "MAX_NAME_BYTES", "canonical_json", "parse_json", "pointer"]

MAX_INTEGER = 2**53 - 1  # the largest n for which n and n + 1 are both exact in an IEEE 754 double (RFC 7493, 2.2)
MAX_DEPTH = 64  # nested arrays and objects; deeper documents are refused by some JSON implementations
MAX_NAME_BYTES = 4096  # of a member's name in UTF-8
MAX_MEMBERS = 262_144  # members and elements of all objects and arrays together: some 50 MiB of Python objects

_MAX_DIGITS = 309  # of an integer that a double can hold
_MAX_SHOWN = 40  # characters of a number in a message
_BLOCK = 1 << 16  # characters of a text that are looked at or written at once


def pointer(parent: str, token: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a member or element of parent.

    >>> pointer("/inputs/0", "a/b")
    '/inputs/0/a~1b'
    """
    return f"{parent}/{str(token).replace('~', '~0').replace('/', '~1')}"


def canonical_json(value: Any, *, where: str = "") -> bytes:
    """Return the RFC 8785 bytes of value, built from dict, list, tuple, str, int, float, bool and None.

    where: the name of value in errors. Raises: InvalidInput for any other type (also for subclasses, which may have a
    meaning of their own), non-string keys, NaN, infinities, a negative zero, integers that ECMAScript would print as
    another number, lone surrogates, and for what is beyond MAX_DEPTH, MAX_NAME_BYTES and MAX_MEMBERS.

    >>> canonical_json({"b": 1.0, "a": [True, None, "ü"]})
    b'{"a":[true,null,"\\xc3\\xbc"],"b":1}'
    """
    _Check(where).value(value)
    written = BytesIO()
    _write(value, written.write)
    return written.getvalue()


def parse_json(data: bytes | str, *, where: str = "") -> Any:
    """Return the value of a JSON document that has exactly one reading. Integers beyond MAX_INTEGER are floats.

    where: the name of the document in errors. Raises: InvalidInput for anything but UTF-8 JSON, for duplicate
    names, and for every value that canonical_json refuses; the error names the JSON pointer. The number of members is
    counted before anything is built. The size of data is the caller's to limit.
    """
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_MEMBERS and _count_members(raw) > MAX_MEMBERS:
        raise _too_many(where)
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
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
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
    _Check(where).value(value)
    return value


def _count_members(raw: bytes) -> int:
    """Return the number of members and elements: one for each comma, and one for each container that is not empty.

    Of bytes that are not JSON, it is at least the number of those before the first fault.
    """
    bare = raw.replace(rb"\\", b"").replace(rb"\"", b"")  # now every quotation mark begins or ends a text
    outside = bytearray()
    begun = b""
    for start in range(0, len(bare), _BLOCK):  # not at once: re.sub keeps an object for each text
        block = begun + bare[start : start + _BLOCK]
        begun = b'"' if block.count(b'"') % 2 else b""
        outside += re.sub(rb'"[^"]*(?:"|\Z)', b'"', block).translate(None, b" \t\n\r")
    return sum(map(outside.count, (b",", b"[", b"{"))) - outside.count(b"[]") - outside.count(b"{}")


class _Refused:
    """What the reader found and canonical JSON lacks, kept in its place until that is known.

    text: the number as it was written; for E_DUP_KEY, the name.
    """

    __slots__ = ("code", "text")

    def __init__(self, code: str, text: str) -> None:
        self.code, self.text = code, text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Refused:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
    return _Refused("E_DUP_KEY", repeated)


def _constant(text: str) -> _Refused:
    return _Refused("E_NAN", text)


def _integer(text: str) -> int | float | _Refused:
    if text == "-0":
        return _Refused("E_NEGATIVE_ZERO", text)
    if len(text) <= len("-9007199254740991"):
        value = int(text)
        if abs(value) <= MAX_INTEGER:
            return value
    if len(text) <= _MAX_DIGITS + 1:  # and a sign
        nearest = float(text)
        if _plain(nearest) == text:
            return nearest
    return _Refused("E_INT_RANGE", text)


def _float(text: str) -> float | _Refused:
    value = float(text)
    if math.isinf(value):
        return _Refused("E_FLOAT_RANGE", text)
    return _Refused("E_NEGATIVE_ZERO", text) if _is_negative_zero(value) else value


def _is_negative_zero(value: float) -> bool:
    return value == 0 and math.copysign(1, value) < 0


class _Check:
    """Raises InvalidInput for what the canonical form lacks, and beyond the limits; for reader and writer alike.

    A pointer is made only for an error: of path, which holds the name or index on each level.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.path: list[str | int] = []
        self.members = 0

    def value(self, value: Any) -> None:
        kind = type(value)
        if kind is str:
            if not value.isascii():
                self.text(value)
        elif kind is dict:
            self.object(value)
        elif kind is list or kind is tuple:
            self.array(value)
        elif kind is int:
            if abs(value) > MAX_INTEGER:
                self.large(value)
        elif kind is float:
            if not math.isfinite(value):
                raise self.number("E_NAN", repr(value))
            if _is_negative_zero(value):
                raise self.number("E_NEGATIVE_ZERO", repr(value))
        elif kind is _Refused:
            raise self.refused(value)
        elif value is not None and kind is not bool:
            expected = "object, array, string, number, boolean or null"
            raise self.fault("not a JSON value", expected, repr(kind), "E_TYPE")

    def array(self, items: list[Any] | tuple[Any, ...]) -> None:
        self.enter(items)
        for index, item in enumerate(items):
            self.path[-1] = index
            self.value(item)
        self.path.pop()

    def object(self, members: dict[Any, Any]) -> None:
        self.enter(members)
        for name, item in members.items():
            self.path[-1] = name
            if type(name) is not str:
                raise self.name("name is not a string", "a string", repr(name)[:80], "E_NON_STRING_KEY")
            if len(name) > MAX_NAME_BYTES // 4 or not name.isascii():
                self.text(name)
                size = len(name.encode())
                if size > MAX_NAME_BYTES:
                    expected = f"at most {MAX_NAME_BYTES} bytes"
                    raise self.name("name is too long", expected, str(size), "E_TOO_LARGE", "use a shorter name")
            self.value(item)
        self.path.pop()

    def enter(self, container: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> None:
        if len(self.path) >= MAX_DEPTH:
            raise _too_deep(self.where)
        self.members += len(container)
        if self.members > MAX_MEMBERS:
            raise _too_many(self.where)
        self.path.append("")

    def text(self, text: str) -> None:
        try:
            for start in range(0, len(text), _BLOCK):
                text[start : start + _BLOCK].encode()
        except UnicodeEncodeError as error:
            lone = f"U+{ord(error.object[error.start]):04X}"
            raise self.fault("lone surrogate in text", "Unicode text", lone, "E_SURROGATE") from error

    def large(self, value: int) -> None:
        if value.bit_length() > 1024:  # a double ends there; to print such a number can take long
            raise self.number("E_INT_RANGE", f"{value.bit_length()} bits")
        text = str(value)
        if type(_integer(text)) is _Refused:
            raise self.number("E_INT_RANGE", text)

    def refused(self, refused: _Refused) -> InvalidInput:
        if refused.code != "E_DUP_KEY":
            return self.number(refused.code, refused.text)
        self.path.append(refused.text)
        what, fix = "name appears twice in one object", "keep one of the two"
        return self.fault(what, "unique names", repr(refused.text[:MAX_NAME_BYTES]), refused.code, fix)

    def number(self, code: str, text: str) -> InvalidInput:
        got = text if len(text) < _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}... ({len(text)} characters)"
        fix = "write it as a text in quotes"
        return self.fault("number has no canonical form", _expected(code, text), got, code, fix)

    def name(self, what: str, expected: str, got: str, code: str, fix: str = "") -> InvalidInput:
        self.path.pop()  # the place is the object: the name is too long or no text
        return self.fault(what, expected, got, code, fix)

    def fault(self, what: str, expected: str, got: str, code: str, fix: str = "") -> InvalidInput:
        at = ""
        for token in self.path:
            at = pointer(at, token if isinstance(token, int) else token[:MAX_NAME_BYTES])  # it may be too long
        place = f"{self.where}, {at or '(whole document)'}" if self.where else at or "value"
        return InvalidInput(what, where=place, expected=expected, got=got, fix=fix, code=code)


def _expected(code: str, text: str) -> str:
    """Return what should have been written instead of a number."""
    if code == "E_INT_RANGE" and len(text) <= _MAX_DIGITS + 1 and text.lstrip("-").isdigit():
        nearest = float(text)
        if math.isfinite(nearest):
            return f"{_ecmascript(nearest)}, the nearest that JSON readers agree on"
    return {"E_NAN": "a finite number", "E_NEGATIVE_ZERO": "0"}.get(code, "a number that an IEEE 754 double can hold")


def _too_deep(where: str) -> InvalidInput:
    return InvalidInput(
        "nested too deep",
        where=where,
        expected=f"at most {MAX_DEPTH} levels",
        fix="use fewer arrays and objects inside each other",
        code="E_DEPTH",
    )


def _too_many(where: str) -> InvalidInput:
    return InvalidInput(
        "too many values",
        where=where,
        expected=f"at most {MAX_MEMBERS} members and elements",
        fix="move long lists into a file, and name the file",
        code="E_TOO_LARGE",
    )


def _write(value: Any, write: Callable[[bytes], Any]) -> None:
    """Write what _Check has let through."""
    kind = type(value)
    if kind is str:
        _write_text(value, write)
    elif kind is dict:
        separator = b"{"
        # For ASCII names, Python's own order is right; the UTF-16 codec takes a millisecond to load.
        for name in sorted(value, key=None if all(map(str.isascii, value)) else _utf16):
            write(separator)
            _write_text(name, write)
            write(b":")
            _write(value[name], write)
            separator = b","
        write(b"}" if value else b"{}")
    elif kind is list or kind is tuple:
        separator = b"["
        for item in value:
            write(separator)
            _write(item, write)
            separator = b","
        write(b"]" if value else b"[]")
    elif kind is bool:
        write(b"true" if value else b"false")
    elif kind is int:
        write((str(value) if abs(value) <= MAX_INTEGER else _ecmascript(float(value))).encode())
    elif kind is float:
        write(_ecmascript(value).encode())
    else:
        write(b"null")


def _write_text(text: str, write: Callable[[bytes], Any]) -> None:
    if len(text) <= _BLOCK:
        write(encode_basestring(text).encode())
        return
    write(b'"')
    for start in range(0, len(text), _BLOCK):
        write(encode_basestring(text[start : start + _BLOCK])[1:-1].encode())
    write(b'"')


def _utf16(name: str) -> bytes:
    """RFC 8785, 3.2.3: names are sorted by UTF-16 code units."""
    return name.encode("utf-16-be")


def _ecmascript(value: float) -> str:
    """ECMA-262 Number::toString, which RFC 8785 prescribes; Python's repr has the same digits, but other exponents."""
    digits, _, exponent = repr(value).partition("e")
    power = int(exponent or 0)
    if power < -6:
        return f"{digits}e{power}"
    if power >= 21:
        return f"{digits}e+{power}"
    if power >= 0:
        return _plain(value) if power else digits.removesuffix(".0")
    sign = "-" if digits[0] == "-" else ""
    return f"{sign}0.{'0' * (-power - 1)}{digits.lstrip('-').replace('.', '')}"


def _plain(value: float) -> str:
    """Return an integral float in decimal: the digits of repr, then zeros."""
    digits, _, exponent = repr(value).partition("e")
    whole, _, fraction = digits.removesuffix(".0").partition(".")
    return whole + fraction.ljust(int(exponent or 0), "0")
