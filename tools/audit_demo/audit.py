"""Audit one file of Python code: write a report of what a reviewer should look at.

    python3 audit.py FILE REPORT

The report is JSON: the number of functions, and the findings by line. A finding is a function without a docstring, one
with more branches than the params of the contract allow, a bare ``except``, or a call of ``eval`` or ``exec``. It
depends on nothing but the bytes of the file and the params: no path, no time. The contract is that of the file, which
``ctxpack map`` names in CTXPACK_CONTRACT.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)
DYNAMIC = ("eval", "exec")


class Finding(NamedTuple):
    """What to look at. line: counted from 1; what: the name of a function, or ""."""

    line: int
    kind: str
    what: str


def audited(source: bytes, most_branches: int) -> dict[str, Any]:
    """Return the report on a file. Raises: SyntaxError."""
    tree = ast.parse(source)
    functions = list(functions_of(tree))
    found = [*findings_in(tree)]
    for name, function in functions:
        if ast.get_docstring(function) is None:
            found.append(Finding(function.lineno, "no docstring", name))
        if branches(function) > most_branches:
            found.append(Finding(function.lineno, "too many branches", name))
    return {"functions": len(functions), "findings": [finding._asdict() for finding in sorted(found)]}


def functions_of(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Yield every function, with its name after those of the classes and functions around it."""
    rest: list[tuple[str, ast.AST]] = [("", tree)]
    while rest:
        around, node = rest.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield around + child.name, child
            inside = f"{around}{child.name}." if isinstance(child, Function | ast.ClassDef) else around
            rest.append((inside, child))


def branches(function: Function) -> int:
    """Return how many branches a function has. Those of a function inside of it count too."""
    return sum(
        len(node.values) - 1 if isinstance(node, ast.BoolOp) else isinstance(node, BRANCHES)
        for node in ast.walk(function)
    )


def findings_in(tree: ast.Module) -> Iterator[Finding]:
    """Yield the findings that are no functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield Finding(node.lineno, "bare except", "")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DYNAMIC:
            yield Finding(node.lineno, "dynamic code", node.func.id)


def main() -> None:
    file, report = map(Path, sys.argv[1:])
    contract = json.loads(Path(os.environ["CTXPACK_CONTRACT"]).read_text(encoding="utf-8"))
    [transform] = contract["transforms"]
    written = audited(file.read_bytes(), transform["params"]["most_branches"])
    report.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"audited {file}: {len(written['findings'])} findings")


if __name__ == "__main__":
    main()
