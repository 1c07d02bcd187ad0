"""The package has three floors, names, hashing and hashing/urls: a module imports its own floor and those below."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import ctxpack_identity

SOURCE = Path(ctxpack_identity.__file__).parent
HASHING, URLS = "ctxpack_identity.hashing", "ctxpack_identity.hashing.urls"


def imports(module: Path) -> Iterator[str]:
    """Yield the name of each module that module imports, in a function or under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of_floor(modules: Iterator[Path], floor: str) -> list[tuple[str, str]]:
    """Return (module, what it imports of the floor)."""
    return [
        (module.relative_to(SOURCE).as_posix(), name)
        for module in modules
        for name in imports(module)
        if f"{name}.".startswith(f"{floor}.")
    ]


def test_the_floor_of_names_imports_nothing_of_hashing() -> None:
    names = [module for module in SOURCE.glob("*.py") if module.name != "__init__.py"]  # the front offers all floors
    assert len(names) > 8
    assert imports_of_floor(iter(names), HASHING) == []


def test_hashing_imports_urls_only_where_it_chooses_the_source_of_a_url() -> None:
    hashing = (SOURCE / "hashing").glob("*.py")
    assert imports_of_floor(hashing, URLS) == [("hashing/deephash.py", f"{URLS}.source.UrlSource")]
