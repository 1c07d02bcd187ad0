"""Canonical JSON beyond the vectors: values built in Python, and a comparison with another implementation."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import pathlib
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, canonical_json, parse_json
from ctxpack_identity.canonical import MAX_DEPTH, MAX_INTEGER, pointer

integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: not (x.is_integer() and abs(x) > MAX_INTEGER) and not (x == 0 and math.copysign(1, x) < 0)
)
small_floats = st.floats(-1e-3, 1e-3).filter(lambda x: x != 0)
# Characters whose order differs between UTF-8 and UTF-16 are rare; the samples make them frequent.
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("a\n\x1f\uff0a\U0001f600\U0010ffff"))
values = st.recursive(
    st.none() | st.booleans() | integers | floats | small_floats | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=25,
)


@given(values)
def test_the_rfc8785_package_writes_the_same_bytes(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@given(values)
def test_canonical_bytes_read_back_as_the_value(value: Any) -> None:
    data = canonical_json(value)
    assert parse_json(data) == value
    assert canonical_json(parse_json(data)) == data


@given(values, st.sampled_from([None, 0, 1, 7]), st.booleans(), st.randoms(use_true_random=False))
def test_layout_and_member_order_do_not_matter(value: Any, indent: int | None, ascii_only: bool, random: Any) -> None:
    text = json.dumps(_shuffled(value, random), indent=indent, ensure_ascii=ascii_only)
    assert canonical_json(parse_json(text)) == canonical_json(value)
    assert canonical_json(parse_json(text.encode())) == canonical_json(value)


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        members = [(name, _shuffled(item, random)) for name, item in value.items()]
        random.shuffle(members)
        return dict(members)
    return [_shuffled(item, random) for item in value] if isinstance(value, list) else value


@given(values, values)
def test_two_values_have_the_same_bytes_only_if_they_are_equal(one: Any, other: Any) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (_typed(one) == _typed(other))


def _typed(value: Any) -> Any:
    """Tell True from 1, which are equal in Python but not in JSON."""
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in value.items()}
    return [_typed(item) for item in value] if isinstance(value, list) else (isinstance(value, bool), value)


@pytest.mark.parametrize(
    ("bits", "written"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", None),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", None),
        ("ffefffffffffffff", None),
        ("4340000000000000", None),
        ("c340000000000000", None),
        ("4430000000000000", None),
        ("7fffffffffffffff", None),
        ("7ff0000000000000", None),
        ("44b52d02c7e14af6", None),
        ("444b1ae4d6e2ef50", None),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_the_number_samples_of_rfc8785_appendix_b(bits: str, written: str | None) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    if written is None:  # RFC 8785 has a form, but it does not read back as the same value
        with pytest.raises(InvalidInput, match="number has no canonical form"):
            canonical_json(number)
    else:
        assert canonical_json(number) == written.encode() == rfc8785.dumps(number)


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"bytes", "E_TYPE"),
        ({1, 2}, "E_TYPE"),
        (frozenset(), "E_TYPE"),
        (decimal.Decimal("1"), "E_TYPE"),
        (datetime.date(2026, 1, 1), "E_TYPE"),
        (pathlib.PurePosixPath("a"), "E_TYPE"),
        (Colour.RED, "E_TYPE"),
        (Text("a"), "E_TYPE"),
        (1j, "E_TYPE"),
        (object(), "E_TYPE"),
        (range(3), "E_TYPE"),
        ({1: 2}, "E_NON_STRING_KEY"),
        ({None: 2}, "E_NON_STRING_KEY"),
        ({True: 2}, "E_NON_STRING_KEY"),
        ({("a",): 2}, "E_NON_STRING_KEY"),
        ({Text("a"): 2}, "E_NON_STRING_KEY"),
        (float("nan"), "E_NAN"),
        (float("inf"), "E_NAN"),
        (-0.0, "E_NEGATIVE_ZERO"),
        (2**53, "E_INT_RANGE"),
        (-(2**53), "E_INT_RANGE"),
        (10**400, "E_INT_RANGE"),
        (2.0**53, "E_FLOAT_RANGE"),
        (1e300, "E_FLOAT_RANGE"),
        ("\ud800", "E_SURROGATE"),
        ({"\udc00": 1}, "E_SURROGATE"),
    ],
)
@pytest.mark.parametrize("place", ["alone", "in an array", "in an object"])
def test_what_is_not_a_json_value_is_refused_in_every_place(value: Any, code: str, place: str) -> None:
    whole, at = {
        "alone": (value, ""),
        "in an array": ([0, value], "/1"),
        "in an object": ({"a/b": value}, "/a~1b"),
    }[place]
    with pytest.raises(InvalidInput) as caught:
        canonical_json(whole)
    assert caught.value.code == code
    assert caught.value.where.startswith(at)


def test_a_tuple_is_an_array() -> None:
    assert canonical_json((1, (2, ()))) == canonical_json([1, [2, []]]) == b"[1,[2,[]]]"


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidInput, match="nested too deep: expected at most 64 levels"):
        canonical_json(endless)


def test_depth_is_counted_alike_by_reader_and_writer() -> None:
    value: Any = "leaf"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert parse_json(canonical_json(value)) == value
    with pytest.raises(InvalidInput) as caught:
        canonical_json([value])
    assert caught.value.code == "E_DEPTH"


def test_text_and_bytes_are_read_alike() -> None:
    assert parse_json('{"ü":1}') == parse_json('{"ü":1}'.encode()) == {"ü": 1}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b'{"a":1,}', "c.json, line 1, column 8: not JSON: "),
        (b"\xff", "c.json: not UTF-8: got byte 0xff at offset 0; save it as UTF-8"),
        (b"\xef\xbb\xbf{}", "c.json: starts with a byte order mark; save it as UTF-8 without BOM"),
        (b"", "c.json, line 1, column 1: not JSON: Expecting value; check the commas, quotes and brackets there"),
        (b'{"a":[NaN]}', "c.json, /a/0: number has no canonical form: expected a finite number, got NaN"),
        (b'{"a":1,"a":2}', "c.json, /a: name appears twice in one object: expected unique names, got 'a'; keep"),
        (
            b"9007199254740993",
            "c.json, (whole document): number has no canonical form: "
            "expected an integer within ±(2^53-1), got 9007199254740993; write it as a text in quotes",
        ),
        (b"1" + b"0" * 5000, "c.json, (whole document): number has no canonical form: expected an integer within"),
        (b"1e999", "c.json, (whole document): number has no canonical form: expected a number that an IEEE 754 double"),
        (b"-0", "c.json, (whole document): number has no canonical form: expected 0, got -0"),
        (b'"\\ud800"', "c.json, (whole document): lone surrogate in text: expected Unicode text, got U+D800"),
        (b"[" * 65 + b"]" * 65, "c.json: nested too deep: expected at most 64 levels; use fewer arrays and objects"),
        (b"[" * 100_000, "c.json: nested too deep: expected at most 64 levels"),
    ],
)
def test_an_error_has_the_place_the_fault_and_the_value(document: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_json(document, where="c.json")
    assert str(caught.value).startswith(message)


def test_an_error_has_the_place_even_if_the_document_has_no_name() -> None:
    with pytest.raises(InvalidInput, match=r"^line 2, column 1: not JSON: "):
        parse_json("[\nx]")
    with pytest.raises(InvalidInput, match=r"^/0: number has no canonical form"):
        parse_json("[NaN]")


@pytest.mark.parametrize(
    ("tokens", "expected"), [([], ""), (["a"], "/a"), (["a/b", "~", 0, ""], "/a~1b/~0/0/"), (["~1"], "/~01")]
)
def test_pointers_are_escaped_as_in_rfc6901(tokens: list[str | int], expected: str) -> None:
    at = ""
    for token in tokens:
        at = pointer(at, token)
    assert at == expected
