"""docs/errors.md has one row for each error code in the sources, with the exit codes of the classes that have it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"

EXIT_CODES = {
    "CtxPackError": 1,
    "LocalFailure": 1,
    "InvalidInput": 2,
    "ContractInvalid": 2,
    "WrongCall": 2,
    "NotFound": 3,
    "AccessDenied": 4,
    "IntegrityError": 5,
    "Unavailable": 6,
    "PolicyRefused": 7,
    "ResultDenied": 7,
    "Conflict": 8,
}

# These calls take the code as their first argument; ContractInvalid raises what they collect.
FAULTS = {"fault": "ContractInvalid", "Fault": "ContractInvalid"}

# Codes that no call of an error class names: why, the class, the codes.
PASSED_ON = [
    (
        "the reader and the writer of canonical JSON give the code to a function of their own, which makes the error",
        "InvalidInput",
        {
            "E_DUP_KEY",
            "E_FLOAT_RANGE",
            "E_INT_RANGE",
            "E_NAN",
            "E_NEGATIVE_ZERO",
            "E_NON_STRING_KEY",
            "E_SURROGATE",
        },
    ),
    (
        "the cache looks the code up in a table, by the errno of the system",
        "LocalFailure",
        {"E_FILE_TOO_BIG", "E_PERMISSION", "E_READ_ONLY"},
    ),
]

MANY = 60  # with fewer codes, the sources were not found or not read

_is_code = re.compile(r"E_[A-Z0-9_]+").fullmatch


class Row(NamedTuple):
    """A row of the catalogue. code: without backticks; exits: as in the second cell; cells: all of them."""

    code: str
    exits: list[int]
    cells: list[str]


def rows() -> list[Row]:
    """Return the rows of docs/errors.md that begin with a code."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `E_"):
            cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
            found.append(Row(cells[0].strip("`"), [int(text) for text in cells[1].split(",")], cells))
    return found


def nodes() -> list[ast.AST]:
    """Return the syntax tree nodes of the sources of all packages."""
    files = sorted(ROOT.glob("packages/*/src/**/*.py"))
    return [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]


def codes_in(*parts: ast.AST) -> set[str]:
    """Return the string constants in parts of a source that are codes."""
    constants = [node.value for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str) and _is_code(value)}


def named(call: ast.Call) -> str:
    """Return the last part of the name that is called: `fault` of `read.fault(…)`."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def constants() -> dict[str, str]:
    """Return the constants of the sources that hold a code, by name."""
    found: dict[str, str] = {}
    for node in nodes():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [target.id for target in node.targets if isinstance(target, ast.Name) and target.id.isupper()]
            for name in names if _is_code(str(node.value.value)) else ():
                code = found.setdefault(name, str(node.value.value))
                assert code == node.value.value, f"{name} holds several codes"
    return found


def carried() -> dict[str, set[int]]:
    """Return the exit codes of each code that a class has by default, or that a call of a class or of FAULTS names."""
    exits: dict[str, set[int]] = defaultdict(set)
    by_constant = constants()
    for node in nodes():
        codes: set[str] = set()
        name = ""
        if isinstance(node, ast.ClassDef):
            name, codes = node.name, codes_in(*(part for part in node.body if isinstance(part, ast.Assign)))
        elif isinstance(node, ast.Call):
            name = named(node)
            if name in FAULTS:
                name, codes = FAULTS[name], codes_in(*node.args[:1])
            else:
                given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                names = {part.id for one in given for part in ast.walk(one) if isinstance(part, ast.Name)}
                codes = codes_in(*given) | {by_constant[one] for one in names & set(by_constant)}
        for code in codes:
            assert name in EXIT_CODES, f"{code} is given to {name}, which is no error class known here"
            exits[code].add(EXIT_CODES[name])
    return exits


def test_the_page_has_a_row_for_each_code_of_the_sources_and_for_no_other() -> None:
    codes = codes_in(*(node for node in nodes() if isinstance(node, ast.Constant)))
    assert len(codes) > MANY
    assert {row.code for row in rows()} == codes
    assert set(re.findall(r"\bE_[A-Z0-9_]+\b", PAGE.read_text(encoding="utf-8"))) == codes


def test_a_row_has_the_exit_codes_of_the_classes_that_carry_its_code() -> None:
    exits = carried()
    assert len(exits) > MANY
    for reason, name, codes in PASSED_ON:
        seen = codes & set(exits)
        assert not seen, f"take {seen} off the list of codes that are passed on: {reason}"
        exits |= {code: {EXIT_CODES[name]} for code in codes}
    assert {row.code: row.exits for row in rows()} == {code: sorted(found) for code, found in exits.items()}


def test_every_error_class_has_an_exit_code_here() -> None:
    classes = [node for node in nodes() if isinstance(node, ast.ClassDef)]
    assert set(EXIT_CODES) <= {node.name for node in classes}
    for node in classes:
        if any(isinstance(base, ast.Name) and base.id in EXIT_CODES for base in node.bases):
            assert node.name in EXIT_CODES


def test_a_row_has_no_empty_cell() -> None:
    for row in rows():
        assert len(row.cells) == 4, row.code
        assert all(row.cells), row.code


def test_rows_are_sorted_by_exit_code_and_code_and_unique() -> None:
    order = [(row.exits[0], row.code) for row in rows()]
    assert order == sorted(order)
    codes = [row.code for row in rows()]
    assert len(codes) == len(set(codes))
