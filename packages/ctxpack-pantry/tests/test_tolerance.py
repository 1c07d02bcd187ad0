"""Numbers of four formats may differ within a tolerance; everything else of a file must be equal."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput
from ctxpack_pantry import tolerance
from ctxpack_pantry.tolerance import Nearness, Tolerances, compare_files, parse_tolerances


def npy(numbers: Sequence[float], descr: str = "<f8", shape: str = "", version: int = 1) -> bytes:
    """Return a file as numpy writes it: the header padded with blanks, and a line feed."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape or f'{len(numbers)},'}), }}"
    length = 2 if version == 1 else 4
    room = 8 + length + len(header) + 1
    text = header.encode() + b" " * (-room % 64) + b"\n"
    codes = {"f2": "e", "f4": "f", "f8": "d", "i4": "i", "u8": "Q", "i1": "b"}
    order = "<" if descr[0] == "|" else descr[0]
    data = struct.pack(f"{order}{len(numbers)}{codes[descr[1:]]}", *numbers)
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(length, "little") + text + data


class Files:
    """Compares two contents as files of one name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def compare(self, name: str, one: str | bytes, other: str | bytes, value: float = 1e-6) -> Nearness:
        paths = []
        for side, content in (("one", one), ("other", other)):
            path = self._folder / side / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            paths.append(str(path))
        return compare_files(paths[0], paths[1], value)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


NEAR: list[tuple[str, str | bytes, str | bytes]] = [
    ("a.json", '{"loss": 0.5, "n": 3}', '{"loss": 0.5000001, "n": 3}'),
    ("a.json", "[1e300]", "[1.0000000001e300]"),
    ("a.json", "[1]", "[1.0000001]"),
    ("a.json", "[0]", "[-1e-9]"),
    ("a.json", "[1, 2]", "[1,\n  2.0000001\n]\n"),
    ("a.json", '{"\\"1.5": 1.0}', '{"\\"1.5": 1.0000001}'),
    ("A.JSON", "1", "1.0000001"),
    ("a.jsonl", '{"x": 1.0}\n{"x": 2.0}\n', '{"x": 1.0000001}\n{"x": 2.0}\n'),
    ("a.csv", "x,y\n1.0,2\n", "x,y\n1.0000001,2\n"),
    ("a.csv", "x,y\r\n1.0,2", "x,y\r\n1.0000001,2\r\n"[:-2]),
    ("a.csv", "x\n1.0", "x\n1.0000001\n"),
    ("a.csv", '"a ""b"", c",.5\n', '"a ""b"", c",+0.5000001\n'),
    ("a.csv", "nan,1.0\n", "nan,1.0000001\n"),
    ("a.npy", npy([1.0, 2.0]), npy([1.0, 2.0000001])),
    ("a.npy", npy([1.0, 2.0], ">f4"), npy([1.0, 2.0000002], ">f4")),
    ("a.npy", npy([math.nan, math.inf, 1.0]), npy([math.nan, math.inf, 1.0000001])),
    ("a.npy", npy([1.0], version=2), npy([1.0000001], version=2)),
    ("a.npy", npy([0.0]), npy([-0.0])),
]


@pytest.mark.parametrize(("name", "one", "other"), NEAR)
def test_numbers_that_are_near(files: Files, name: str, one: str | bytes, other: str | bytes) -> None:
    found = files.compare(name, one, other)
    assert found.reason == ""
    assert found == files.compare(name, other, one)


FAR: list[tuple[str, str | bytes, str | bytes, str]] = [
    ("a.json", "[1.0]", "[1.1]", "the number '1.0' is '1.1' now"),
    ("a.json", "[1e-9]", "[1e-3]", "the number '1e-9' is '1e-3' now"),
    ("a.json", '["1.0"]', '["1.0000001"]', "'\"1.0\"' is '\"1.0000001\"' now"),
    ("a.json", '{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "'\"a\"' is '\"b\"' now"),
    ("a.json", "[1]", "[true]", "'1' is 'true' now"),
    ("a.json", "[1]", "[null]", "'1' is 'null' now"),
    ("a.json", "[1]", '["1"]', "'1' is '\"1\"' now"),
    ("a.json", "[1]", "[1, 1]", "']' is ',' now"),
    ("a.json", "[1]", "[1]2", "one has more than the other"),
    ("a.json", "[NaN]", "[1]", "not JSON"),
    ("a.json", "[1]", "[1.]", "not JSON"),
    ("a.json", '["a]', '["b]', "not JSON"),
    ("a.json", "\ufeff[1]", "[1]", "not JSON"),
    ("a.json", "[1e999999999999999999]", "[1e999999999999999998]", "the number"),
    ("a.json", f"[{'1' * 500}]", f"[{'1' * 499}2]", "the number"),
    ("a.jsonl", "1\n2\n", "1 2\n", "'\\n' is '2' now"),
    ("a.jsonl", "1\n2\n", "1\n2", "one has more than the other"),
    ("a.csv", "1.0;2.0\n", "1.0;2.1\n", "'1.0;2.0' is '1.0;2.1' now"),
    ("a.csv", '"1.0"\n', '"1.0000001"\n', "'\"1.0\"' is '\"1.0000001\"' now"),
    ("a.csv", "1.0,\n", "1.0\n", "',' is '\\n' now"),
    ("a.csv", "a,1.0\n", "b,1.0\n", "'a' is 'b' now"),
    ("a.csv", "nan\n", "1.0\n", "'nan' is '1.0' now"),
    ("a.csv", " 1.0\n", "1.0\n", "' 1.0' is '1.0' now"),
    ("a.csv", "1\r2\n", "1\n2\n", "not CSV"),
    ("a.csv", '"1\n', '"2\n', "not CSV"),
    ("a.npy", npy([1.0]), npy([1.1]), "the number 1.0 is 1.1 now"),
    ("a.npy", npy([1.0]), npy([math.nan]), "the number 1.0 is nan now"),
    ("a.npy", npy([math.inf]), npy([-math.inf]), "the number inf is -inf now"),
    ("a.npy", npy([1.0]), npy([1.0], "<f4"), "the arrays have other types or shapes"),
    ("a.npy", npy([1.0, 2.0]), npy([1.0, 2.0], shape="2, 1"), "the arrays have other types or shapes"),
    ("a.npy", npy([1.0, 2.0]), npy([1.0, 2.0])[:-8], "an array is cut short"),
    ("a.npy", npy([1.0])[:-4], npy([2.0])[:-4], "an array is cut short"),
    ("a.npy", b"", npy([1.0]), "not a .npy file"),
    ("a.npy", npy([1.0]).replace(b"<f8", b"<c8"), npy([2.0]).replace(b"<f8", b"<c8"), "not a .npy file of real"),
    ("a.npy", npy([1.0]).replace(b"<f8", b"|O8"), npy([2.0]).replace(b"<f8", b"|O8"), "not a .npy file of real"),
    ("a.txt", "1.0", "1.0000001", "only .json, .jsonl, .csv, .npy can be compared with a tolerance"),
    ("json", "1.0", "1.0000001", "only .json, .jsonl, .csv, .npy can be compared with a tolerance"),
    ("a.parquet", b"1", b"2", "only .json, .jsonl, .csv, .npy can be compared with a tolerance"),
]


@pytest.mark.parametrize(("name", "one", "other", "reason"), FAR)
def test_what_is_not_near_says_why(files: Files, name: str, one: str | bytes, other: str | bytes, reason: str) -> None:
    assert files.compare(name, one, other).reason.startswith(reason)


def test_how_many_numbers_differ_and_by_how_much(files: Files) -> None:
    assert files.compare("a.json", "[1, 2, 3]", "[1.125, 2, 3.25]", 0.5) == Nearness(2, 0.25)
    assert files.compare("a.npy", npy([1, 2], "<i4"), npy([3, 2], "<i4"), 1) == Nearness(1, 2.0)
    assert files.compare("a.csv", "1e400\n", "1.1e400\n", 0.5).largest == pytest.approx(1.797e308, rel=1e-3)


def test_relative_above_one_and_absolute_below(files: Files) -> None:
    assert files.compare("a.json", "1000", "1000.9", 1e-3).reason == ""
    assert files.compare("a.json", "1000", "1001.1", 1e-3).reason != ""
    assert files.compare("a.json", "0.001", "0.0019", 1e-3).reason == ""
    assert files.compare("a.json", "0.001", "0.0021", 1e-3).reason != ""


def test_integers_are_not_rounded(files: Files) -> None:
    large = 2**60
    assert files.compare("a.json", str(large), str(large + 1), 1e-30).reason != ""
    assert files.compare("a.json", str(large), str(large + 1), 1e-17).reason == ""


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_where_a_block_of_a_file_ends_does_not_matter(
    files: Files, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(tolerance, "_BLOCK", block)
    for name, one, other in NEAR:
        if not name.endswith(".npy"):
            assert files.compare(name, one, other).reason == "", (name, one, other)
    for name, one, other, reason in FAR:
        if not name.endswith(".npy"):
            assert files.compare(name, one, other).reason.startswith(reason), (name, one, other)


_scalars = st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_document_is_near_itself_however_it_is_written(files: Files, value: object) -> None:
    text = json.dumps(value)
    assert files.compare("a.json", text, json.dumps(value, indent=3)).reason == ""


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r")), min_size=1), min_size=1))
def test_a_table_is_near_itself_with_other_numbers_at_its_end(files: Files, rows: list[list[str]]) -> None:
    texts = []
    for number in ("0.5", "0.50000001"):
        with io.StringIO(newline="") as text:
            csv.writer(text).writerows([*row, number] for row in rows)
            texts.append(text.getvalue())
    assert files.compare("a.csv", texts[0], texts[1]).reason == ""


@given(st.lists(st.floats(width=32), min_size=1, max_size=50), st.sampled_from(["<f4", ">f4", "<f8"]))
def test_an_array_is_near_itself_with_signs_of_zero_changed(files: Files, numbers: list[float], descr: str) -> None:
    other = [-number if number == 0 else number for number in numbers]
    assert files.compare("a.npy", npy(numbers, descr), npy(other, descr)) == Nearness(0, 0.0)


def test_a_tolerance_is_for_all_outputs_or_for_one() -> None:
    found = parse_tolerances(["1e-6", "metrics=0.01", "a=b=2"], ["metrics", "vectors", "a=b"])
    assert found == Tolerances({"metrics": 0.01, "a=b": 2.0}, 1e-6)
    assert (found.of("metrics"), found.of("vectors")) == (0.01, 1e-6)
    assert parse_tolerances(["metrics=0.01"], ["metrics", "vectors"]).of("vectors") is None


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1e999", "much", "metrics=", "metrics=0", "metrics=x"])
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_tolerances([text], ["metrics"])
    assert (caught.value.what, caught.value.code) == ("not a tolerance", "E_USAGE")


@pytest.mark.parametrize("texts", [["1", "2"], ["metrics=1", "metrics=1"]])
def test_what_is_said_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidInput, match="given already"):
        parse_tolerances(texts, ["metrics"])


def test_an_output_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_tolerances(["metric=1"], ["vectors", "metrics"])
    assert (caught.value.expected, caught.value.got) == ("metrics, vectors", "metric")
