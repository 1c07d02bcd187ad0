"""The layer rule, checked in the sources: which package imports what, and the chain of imports that breaks the rule.

The sources are parsed, not imported, so an import inside a function, under TYPE_CHECKING or by importlib counts too.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["LAYERS", "broken_rules", "circles", "declared", "imported", "read_package", "sources"]

# ARCHITECTURE.md has the same table. Change both.
LAYERS: dict[str, frozenset[str]] = {
    "ctxpack_identity": frozenset({"fsspec"}),  # optional: the extra "urls"
    "ctxpack_bundle": frozenset({"ctxpack_identity", "isal", "msgspec", "pyfastcdc"}),
    "ctxpack_oci": frozenset({"ctxpack_identity", "msgspec", "requests", "urllib3"}),
    "ctxpack_cache": frozenset({"ctxpack_identity"}),
    "ctxpack_trust": frozenset({"cryptography", "ctxpack_identity"}),
    "ctxpack_pantry": frozenset(
        {"ctxpack_bundle", "ctxpack_cache", "ctxpack_identity", "ctxpack_oci", "ctxpack_trust", "msgspec"}
    ),
    "ctxpack_cli": frozenset({"ctxpack_pantry"}),
}


class Import(NamedTuple):
    """One import: the importing module and its target, both dotted names, and the file and line.

    only_types: it is under ``if TYPE_CHECKING``, so it is never executed.
    """

    module: str
    target: str
    file: Path
    line: int
    only_types: bool


def sources(root: Path) -> dict[str, Path]:
    """Return the source folder of each package in the repository at root, by import name."""
    return {
        folder.name: folder for folder in sorted(root.glob("packages/*/src/*")) if (folder / "__init__.py").exists()
    }


def read_package(folder: Path) -> list[Import]:
    """Return every import that the modules of the package in folder make, in file and line order."""
    return [found for file in sorted(folder.rglob("*.py")) for found in _imports_of(file, folder)]


def imported(imports: list[Import], package: str) -> set[str]:
    """Return the top-level names that package imports from outside itself and the standard library."""
    return {_root(one.target) for one in imports} - {package} - sys.stdlib_module_names


def declared(pyproject: Path) -> set[str]:
    """Return the import names of the dependencies in pyproject, those of extras too.

    Project and import name differ only in hyphens.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = [one for extra in project.get("optional-dependencies", {}).values() for one in extra]
    return {_project_name(requirement).replace("-", "_") for requirement in project["dependencies"] + extras}


def broken_rules(folders: Mapping[str, Path], layers: Mapping[str, frozenset[str]]) -> list[str]:
    """Return one text for each forbidden import: file, line, and the chain of imports.

    folders: package name to its source folder. layers: package name to the top-level names it may import.
    """
    return [text for package, folder in folders.items() for text in _broken_by(package, folder, layers)]


def circles(folder: Path) -> list[str]:
    """Return a text for each circle of modules in the package in folder: the chain of imports back to the first module.

    An import inside a function counts, one under ``if TYPE_CHECKING`` does not. That Python loads a package before its
    modules is no import of theirs. Of the circles through one module, only a shortest one is returned.
    """
    imports = [one for one in read_package(folder) if not one.only_types]
    modules = {_module_name(file, folder) for file in folder.rglob("*.py")}
    arrows: dict[str, list[str]] = {}
    for one in imports:
        # `from package import module` loads nothing that the package's own file defines.
        names = [other.target for other in imports if other[2:4] == one[2:4] and _parent(other.target) == one.target]
        if one.target in modules and not (names and modules.issuperset(names)):
            arrows.setdefault(one.module, []).append(one.target)
    found: dict[frozenset[str], str] = {}
    for module in sorted(modules):
        ways = [_way(target, module, arrows) for target in arrows.get(module, [])]
        if way := min(filter(None, ways), key=len, default=None):
            found.setdefault(frozenset(way), " -> ".join([module, *way]))
    return list(found.values())


def _broken_by(package: str, folder: Path, layers: Mapping[str, frozenset[str]]) -> Iterator[str]:
    if package not in layers:
        yield f"{folder}: {package} has no row in the layer table"
        return
    imports = read_package(folder)
    allowed = layers[package] | {package} | sys.stdlib_module_names
    for one in imports:
        if _root(one.target) not in allowed:
            chain = " -> ".join([*_way_to(one.module, package, imports), one.target])
            yield f"{one.file}:{one.line}: {chain}: {package} may import only {', '.join(sorted(layers[package]))}"


def _imports_of(file: Path, folder: Path) -> Iterator[Import]:
    module = _module_name(file, folder)
    for node, only_types in _nodes(ast.parse(file.read_bytes(), str(file)), only_types=False):
        for target in _targets(node, module, is_package=file.name == "__init__.py"):
            yield Import(module, target, file, getattr(node, "lineno", 0), only_types)


def _module_name(file: Path, folder: Path) -> str:
    parts = [folder.name, *file.relative_to(folder).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _nodes(node: ast.AST, *, only_types: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield node and all below it, each with whether it is under ``if TYPE_CHECKING``."""
    yield node, only_types
    body: list[ast.stmt] = []
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            body = node.body
    for child in ast.iter_child_nodes(node):
        yield from _nodes(child, only_types=only_types or child in body)


def _targets(node: ast.AST, module: str, *, is_package: bool) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=source, names=names, level=level):
            base = module.split(".")
            base = base[: len(base) - level + is_package] if level else []
            origin = ".".join([*base, *([source] if source else [])])
            # `from package import name` may name a module, so both are followed.
            return [origin, *(f"{origin}.{alias.name}" for alias in names if _root(origin) == _root(module))]
        case ast.Call(
            func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(target)), *_],
        ):
            return [target]
    return []


def _way_to(module: str, package: str, imports: list[Import]) -> list[str]:
    """Return the shortest chain of imports from package to module, or module alone if there is none."""
    arrows: dict[str, list[str]] = {}
    for one in imports:
        arrows.setdefault(one.module, []).append(one.target)
    return _way(package, module, arrows) or [module]


def _way(start: str, end: str, arrows: Mapping[str, list[str]]) -> list[str] | None:
    """Return a shortest chain of modules from start to end, or None when there is none."""
    queue = deque([[start]])
    seen = {start}
    while queue:
        way = queue.popleft()
        if way[-1] == end:
            return way
        for target in arrows.get(way[-1], []):
            if target not in seen:
                seen.add(target)
                queue.append([*way, target])
    return None


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _root(name: str) -> str:
    return name.split(".")[0]


def _project_name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return found[0] if found else requirement
