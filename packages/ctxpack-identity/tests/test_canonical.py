"""Canonical JSON beyond the vectors: values built in Python, and a comparison with another implementation."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import pathlib
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, canonical, canonical_json, parse_json
from ctxpack_identity.canonical import MAX_DEPTH, MAX_INTEGER, MAX_MEMBERS, MAX_NAME_BYTES, pointer

integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != 0 or math.copysign(1, x) > 0)
small_floats = st.floats(-1e-3, 1e-3).filter(lambda x: x != 0)
large_floats = st.floats(2.0**53, 1e24) | st.floats(-1e24, -(2.0**53))  # where the ways to print a number change
# Characters whose order differs between UTF-8 and UTF-16 are rare; the samples make them frequent.
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("a\n\x1f\uff0a\U0001f600\U0010ffff"))
values = st.recursive(
    st.none() | st.booleans() | integers | floats | small_floats | large_floats | texts,
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


def printed_integer(value: float) -> int:
    """Return the integer that ECMAScript prints for an integral double: its shortest digits, then zeros."""
    return int(decimal.Decimal(repr(value)))


# Half of them are printed by a double, a quarter is one beside it; of the rest, most beyond 2^53 are not.
large_integers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-(10**320), 10**320),
    (large_floats | floats.filter(float.is_integer)).map(printed_integer),
    st.tuples(large_floats.map(printed_integer), st.sampled_from([-1, 0, 1])).map(sum),
)


@given(large_integers)
def test_an_integer_is_kept_to_the_digit_or_refused(value: int) -> None:
    try:
        kept = printed_integer(float(value)) == value
    except OverflowError:
        kept = False
    if kept:
        data = canonical_json(value)
        assert decimal.Decimal(data.decode()) == value
        assert data == canonical_json(parse_json(str(value))) == canonical_json(parse_json(data))
        assert type(parse_json(str(value))) is (int if abs(value) <= MAX_INTEGER else float)
    else:
        for attempt in (lambda: canonical_json(value), lambda: parse_json(str(value))):
            with pytest.raises(InvalidInput) as caught:
                attempt()
            assert caught.value.code == "E_INT_RANGE"


@pytest.mark.parametrize(
    ("bits", "written"),
    [
        ("0000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
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
def test_the_number_samples_of_rfc8785_appendix_b(bits: str, written: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == written.encode() == rfc8785.dumps(number)
    assert parse_json(written) == number


@pytest.mark.parametrize(
    ("bits", "code"),
    [
        ("8000000000000000", "E_NEGATIVE_ZERO"),  # our choice: RFC 8785 writes it as 0
        ("7fffffffffffffff", "E_NAN"),
        ("7ff0000000000000", "E_NAN"),
    ],
)
def test_three_samples_of_rfc8785_appendix_b_are_refused(bits: str, code: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    with pytest.raises(InvalidInput, match="number has no canonical form") as caught:
        canonical_json(number)
    assert caught.value.code == code


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
        (2**53 + 1, "E_INT_RANGE"),
        (-(2**53) - 1, "E_INT_RANGE"),
        (2**64, "E_INT_RANGE"),
        (10**309, "E_INT_RANGE"),
        (10**400, "E_INT_RANGE"),
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


def test_an_integer_that_python_does_not_print_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected a number that an IEEE 754 double can hold, got 16610 bits"):
        canonical_json(10**5000)


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


def members_of(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(members_of, value.values()))
    return len(value) + sum(map(members_of, value)) if isinstance(value, list) else 0


# Texts that look like structure to a careless count.
misleading = st.text('a,[]{}"\\ \n:', max_size=8)
containers = st.recursive(
    st.none() | st.integers(0, 9) | misleading,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(misleading, inner, max_size=5),
    max_leaves=25,
)


@given(containers.filter(members_of), st.sampled_from([None, 0, 1]), st.integers(1, 9))
def test_members_are_counted_alike_by_reader_and_writer_in_every_layout(value: Any, indent: Any, block: int) -> None:
    document = json.dumps(value, indent=indent)
    members = members_of(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "_BLOCK", block)  # texts begin and end in other blocks
        patch.setattr(canonical, "MAX_MEMBERS", members)
        assert canonical_json(parse_json(document)) == canonical_json(value)
        patch.setattr(canonical, "MAX_MEMBERS", members - 1)
        patch.setattr(json, "loads", lambda *_, **__: pytest.fail("read a document with too many members"))
        for attempt in (lambda: canonical_json(value), lambda: parse_json(document)):
            with pytest.raises(InvalidInput) as caught:
                attempt()
            assert caught.value.code == "E_TOO_LARGE"


@pytest.mark.parametrize(
    "value",
    [
        [0] * (MAX_MEMBERS + 1),
        [[0] * (MAX_MEMBERS // 2)] * 2,
        {"a": dict.fromkeys(map(str, range(MAX_MEMBERS)))},
        {"a" * (MAX_NAME_BYTES + 1): 0},
        {"a": [{"ü" * (MAX_NAME_BYTES // 2) + "a": 0}]},
    ],
    ids=["elements", "elements of arrays that are one", "members", "name", "name beyond ASCII"],
)
def test_the_writer_refuses_what_a_reader_may_refuse(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        canonical_json(value)
    assert caught.value.code == "E_TOO_LARGE"


def test_a_value_of_shared_arrays_is_refused_before_it_is_written() -> None:
    value: Any = "leaf"
    for _ in range(MAX_DEPTH - 1):
        value = [value, value]  # 2^63 leaves, in 63 arrays
    with pytest.raises(InvalidInput, match="too many values"):
        canonical_json(value)


def nested(times: int, inner: str) -> str:
    return '{"a":' * times + inner + "}" * times


MIB = 1 << 20
WORST: dict[str, Callable[[], str]] = {
    "empty arrays": lambda: f"[{','.join(['[]'] * MAX_MEMBERS)}]",
    "objects in objects": lambda: f"[{','.join([nested(62, '{}')] * (MAX_MEMBERS // 63))}]",
    "many names": lambda: "{" + ",".join(f'"{number:06}":0' for number in range(MAX_MEMBERS)) + "}",
    "long names above many elements": lambda: (
        "".join(f'{{"{number:04096}":' for number in range(63)) + f"[{'0,' * (MAX_MEMBERS - 64)}0]" + "}" * 63
    ),
    "long names beside each other": lambda: "{" + ",".join(f'"{number:04096}":0' for number in range(4000)) + "}",
    "one text": lambda: f'"{"x" * (16 * MIB - 2)}"',
    "one text of commas": lambda: f'"{"," * (16 * MIB - 2)}"',
}
TOO_MANY: dict[str, Callable[[], str]] = {
    "open arrays": lambda: "[" * 4_000_000,
    "empty arrays": lambda: "[" + "[]," * 4_000_000 + "[]]",
    "a long name above many elements": lambda: '{"' + "x" * (8 * MIB) + '":[' + "0," * 3_000_000 + "0]}",
    "texts": lambda: "[" + '"",' * 4_000_000 + '""]',
}

# In a process of its own, so that its peak memory is that of this work alone.
READ_AND_WRITE = """
import re, sys
from ctxpack_identity import InvalidInput, canonical_json, parse_json

try:
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    print("same" if canonical_json(parse_json(data)) == data else "differs")
except InvalidInput as error:
    print(error.what)
with open("/proc/self/status") as status:
    print(re.search(r"VmHWM:\\s*([0-9]+) kB", status.read())[1])
"""


def read_and_write(document: str, folder: pathlib.Path) -> tuple[str, int]:
    """Return what came of a document, and the most memory in MiB that its process had."""
    (folder / "document").write_text(document)
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_WRITE, folder / "document"], capture_output=True, text=True, check=True
    )
    came, peak = done.stdout.splitlines()
    return came, int(peak) >> 10


@pytest.mark.parametrize("made", WORST.values(), ids=WORST)
def test_the_worst_documents_are_read_and_written_in_bounded_memory(
    made: Callable[[], str], tmp_path: pathlib.Path
) -> None:
    came, peak = read_and_write(made(), tmp_path)
    assert came == "same"
    assert peak < 90


@pytest.mark.parametrize("made", TOO_MANY.values(), ids=TOO_MANY)
def test_a_document_with_too_many_members_is_refused_before_it_takes_memory(
    made: Callable[[], str], tmp_path: pathlib.Path
) -> None:
    came, peak = read_and_write(made(), tmp_path)
    assert came == "too many values"
    assert peak < 60  # MiB; of JSON that Python has read: hundreds


def test_a_pointer_is_made_only_for_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str | int] = []

    def counted(parent: str, token: str | int) -> str:
        made.append(token)
        return pointer(parent, token)

    monkeypatch.setattr(canonical, "pointer", counted)
    document = f'{{"a":[{"0," * 1000}{{"b":[0,0]}}]}}'
    assert canonical_json(parse_json(document)) == document.encode()
    assert made == []
    with pytest.raises(InvalidInput, match=r"^/a/1000/b/1: number"):
        parse_json(document.replace("[0,0]", "[0,NaN]"))
    assert made == ["a", 1000, "b", 1]


def test_text_and_bytes_are_read_alike() -> None:
    assert parse_json('{"ü":1}') == parse_json('{"ü":1}'.encode()) == {"ü": 1}
    with pytest.raises(InvalidInput, match=r"^/0: lone surrogate in text"):
        parse_json('["\ud800"]')


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
            "expected 9007199254740992, the nearest that JSON readers agree on, got 9007199254740993; "
            "write it as a text in quotes",
        ),
        (
            b"1" + b"0" * 5000,
            "c.json, (whole document): number has no canonical form: expected a number that an IEEE 754 double can "
            "hold, got 1000000000000000000000000000000000000... (5001 characters); write it as a text in quotes",
        ),
        (b"1e999", "c.json, (whole document): number has no canonical form: expected a number that an IEEE 754 double"),
        (b"-0", "c.json, (whole document): number has no canonical form: expected 0, got -0"),
        (b"[-1e-400]", "c.json, /0: number has no canonical form: expected 0, got -1e-400"),
        (b'"\\ud800"', "c.json, (whole document): lone surrogate in text: expected Unicode text, got U+D800"),
        (
            b'{"a":{"%s":0}}' % (b"b" * 5000),
            "c.json, /a: name is too long: expected at most 4096 bytes, got 5000; use a shorter name",
        ),
        (
            b"[%s0]" % (b"0," * MAX_MEMBERS),
            "c.json: too many values: expected at most 262144 members and elements; move long lists into a file",
        ),
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
