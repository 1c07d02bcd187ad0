"""Tolerance: whether two files are the same but for their numbers, and how much those differ.

It is about four formats: JSON and JSONL, CSV with commas, and ``.npy`` of real numbers. All else must be equal, down to
the order of members and rows; white space between the tokens of JSON is none of it. Numbers a and b are near when
``|a - b| <= value * max(1, |a|, |b|)``: absolute up to one, relative above. What is near is not the same: it is
reported, never signed, and never noted as rebuilt.
"""

from __future__ import annotations

import math
import os
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Context as Arithmetic
from decimal import Decimal
from itertools import zip_longest
from typing import BinaryIO, NamedTuple

from ctxpack_identity import InvalidInput

__all__ = ["FORMATS", "Nearness", "Tolerances", "compare_files", "parse_tolerances"]

FORMATS = (".json", ".jsonl", ".csv", ".npy")

_BLOCK = 1 << 20  # bytes read at once
_LONGEST = 8 << 20  # bytes of one token, a string for example
_DIGITS = 400  # of a number: more than any double has, and few enough that comparing them is quick

_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+(?=[ \t\r\n,\]}])"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# A match that ends where the bytes read so far end may go on; a number is followed by what is none of it.
_JSON = re.compile(rb"(?s:(?P<number>%b)|%b|[\[\]{}:,]|true|false|null|(?P<blank>[ \t\r\n]++))" % (_NUMBER, _STRING))
_JSONL = re.compile(rb"(?s:(?P<number>%b)|%b|[\[\]{}:,\n]|true|false|null|(?P<blank>[ \t\r]++))" % (_NUMBER, _STRING))
_CELL = rb"[+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+"
_CSV = re.compile(
    rb'(?s:(?P<number>%b)(?=[,\r\n])|(?P<blank>(?!))|"(?:[^"]|"")*+"|[^",\r\n]++|,|\r?\n)' % _CELL,
)
_TOKENS = {".json": _JSON, ".jsonl": _JSONL, ".csv": _CSV}
_STANDARDS = {".json": "JSON (RFC 8259)", ".jsonl": "JSON (RFC 8259)", ".csv": "CSV (RFC 4180)"}

_NPY = b"\x93NUMPY"
_MOST_HEADER = 64 << 10  # bytes; of an array of numbers it has some hundred
_is_header = re.compile(
    rb"\{'descr': '(?P<order>[<>|])(?P<kind>f2|f4|f8|i1|i2|i4|i8|u1|u2|u4|u8)', "
    rb"'fortran_order': (?:True|False), 'shape': \([0-9, ]*\), \} *\n"
).fullmatch
_CODES = dict(zip(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"), "efdbhiqBHIQ", strict=True))

_exact = Arithmetic(prec=2 * _DIGITS, traps=[])


class Nearness(NamedTuple):
    """How two files compare. reason: why they are not near, "" when they are.

    numbers: how many of them differ; largest: the largest absolute difference; both of near files.
    """

    numbers: int
    largest: float
    reason: str = ""


class Tolerances(NamedTuple):
    """What may differ. by_name: tolerances of outputs; of_others: that of all others, None if they must be equal."""

    by_name: Mapping[str, float]
    of_others: float | None

    def of(self, output: str) -> float | None:
        """Return the tolerance of the output with this name, None when it must be equal."""
        return self.by_name.get(output, self.of_others)


def parse_tolerances(texts: Sequence[str], outputs: Iterable[str]) -> Tolerances:
    """Return tolerances as they are written: ``VALUE`` for all outputs, ``NAME=VALUE`` for the output of that name.

    outputs: the names that there are. Raises: InvalidInput for anything else, and for what is said twice.
    """
    names = sorted(outputs)
    by_name: dict[str, float] = {}
    of_others: float | None = None
    for text in texts:
        name, equals, written = text.rpartition("=")
        value = _value(written, text)
        if (name in by_name) if equals else (of_others is not None):
            raise _bad("this tolerance was given already", text, "each output once", "")
        if not equals:
            of_others = value
        elif name not in names:
            raise _bad("the contract declares no such output", text, ", ".join(names), name)
        else:
            by_name[name] = value
    return Tolerances(by_name, of_others)


def compare_files(one: str, other: str, value: float) -> Nearness:
    """Return whether the file at the path other is near that at the path one, which it differs from.

    Memory: some MiB, whatever their size. Raises: OSError.
    """
    kind = os.path.splitext(one)[1].lower()
    if kind not in FORMATS:
        return Nearness(0, 0.0, f"only {', '.join(FORMATS)} can be compared with a tolerance")
    with open(one, "rb") as first, open(other, "rb") as second:
        try:
            if kind == ".npy":
                return _arrays(first, second, value)
            return _texts(_tokens(first, _TOKENS[kind], kind), _tokens(second, _TOKENS[kind], kind), value)
        except _NotOfFormat as error:
            return Nearness(0, 0.0, str(error))


class _NotOfFormat(Exception):
    """A file is not what its name says."""


class _Numbers:
    """Pairs of numbers that differ, and are near so far."""

    def __init__(self, value: float) -> None:
        self._value, self._exact_value = value, Decimal(value)
        self._count, self._largest = 0, 0.0

    def are_near(self, one: bytes, other: bytes) -> bool:
        """Take two numbers as they are written; return whether they are near."""
        if max(len(one), len(other)) > _DIGITS:
            return False
        a, b = (_exact.create_decimal(text.decode("ascii")) for text in (one, other))
        if not (a.is_finite() and b.is_finite()):
            return False
        difference = _exact.abs(_exact.subtract(a, b))
        allowed = _exact.multiply(self._exact_value, max(Decimal(1), a.copy_abs(), b.copy_abs()))
        return difference <= allowed and self._take(float(difference))

    def are_near_doubles(self, a: float, b: float) -> bool:
        """Take two elements of arrays; NaN is near NaN only."""
        if a == b or (a != a and b != b):
            return True
        if not (math.isfinite(a) and math.isfinite(b)):
            return False
        difference = abs(a - b)
        return difference <= self._value * max(1.0, abs(a), abs(b)) and self._take(float(difference))

    def _take(self, difference: float) -> bool:
        if difference:
            self._count += 1
            self._largest = max(self._largest, min(difference, sys.float_info.max))
        return True

    def nearness(self) -> Nearness:
        return Nearness(self._count, self._largest)


def _texts(one: Iterator[tuple[bytes, bool]], other: Iterator[tuple[bytes, bool]], value: float) -> Nearness:
    """Compare the tokens of two texts; a token is its bytes, and whether it is a number."""
    numbers = _Numbers(value)
    for first, second in zip_longest(one, other):
        if first == second:
            continue
        if first is None or second is None:
            return Nearness(0, 0.0, "one has more than the other")
        if not (first[1] and second[1]):
            return Nearness(0, 0.0, f"{_shown(first[0])} is {_shown(second[0])} now")
        if not numbers.are_near(first[0], second[0]):
            return Nearness(0, 0.0, f"the number {_shown(first[0])} is {_shown(second[0])} now")
    return numbers.nearness()


def _tokens(file: BinaryIO, pattern: re.Pattern[bytes], kind: str) -> Iterator[tuple[bytes, bool]]:
    """Yield the tokens of a file, but for white space. Raises: _NotOfFormat."""
    waiting, ended = b"", False
    while not ended:
        block = file.read(_BLOCK)
        if not block:
            ended = True
            if kind != ".csv":
                block = b" "
            elif waiting and not waiting.endswith(b"\n"):
                block = b"\n"  # the last row may end without one
        waiting += block
        position = 0
        while position < len(waiting):
            found = pattern.match(waiting, position)
            if found is None or (found.end() == len(waiting) and not ended):
                break
            if found["blank"] is None:
                yield found[0], found["number"] is not None
            position = found.end()
        waiting = waiting[position:]
        if waiting and (ended or len(waiting) > _LONGEST):
            raise _NotOfFormat(f"not {_STANDARDS[kind]} at {_shown(waiting)}")


def _arrays(one: BinaryIO, other: BinaryIO, value: float) -> Nearness:
    """Compare two files of numpy's format, version 1 to 3 (numpy.lib.format)."""
    code, header = _header(one)
    if _header(other)[1] != header:
        return Nearness(0, 0.0, "the arrays have other types or shapes")
    size = struct.calcsize(code)
    numbers = _Numbers(value)
    while True:
        first, second = one.read(_BLOCK), other.read(_BLOCK)  # _BLOCK is a multiple of size
        if len(first) != len(second) or len(first) % size:
            raise _NotOfFormat("an array is cut short")
        if not first:
            return numbers.nearness()
        if first == second:
            continue
        elements = f"{code[0]}{len(first) // size}{code[1:]}"
        for a, b in zip(struct.unpack(elements, first), struct.unpack(elements, second), strict=True):
            if a != b and not numbers.are_near_doubles(a, b):
                return Nearness(0, 0.0, f"the number {a!r} is {b!r} now")


def _header(file: BinaryIO) -> tuple[str, bytes]:
    """Return byte order and code (see struct) of an array's elements, and its header. Raises: _NotOfFormat."""
    head = file.read(len(_NPY) + 2)
    if head[:-2] != _NPY or head[-2] not in (1, 2, 3):
        raise _NotOfFormat("not a .npy file")
    length = 2 if head[-2] == 1 else 4
    size = int.from_bytes(file.read(length), "little")
    header = file.read(min(size, _MOST_HEADER))
    found = _is_header(header)
    if found is None:
        raise _NotOfFormat("not a .npy file of real numbers")
    order = found["order"].decode()
    return f"{'<' if order == '|' else order}{_CODES[found['kind'].decode()]}", header


def _value(written: str, where: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        expected = "VALUE or NAME=VALUE, a number above 0 such as 1e-6"
        raise _bad("not a tolerance", where, expected, written)
    return value


def _bad(what: str, where: str, expected: str, got: str) -> InvalidInput:
    return InvalidInput(what, where=f"--tolerance {where}", expected=expected, got=got, code="E_USAGE")


def _shown(token: bytes) -> str:
    return ascii(token[:40].decode(errors="backslashreplace"))
