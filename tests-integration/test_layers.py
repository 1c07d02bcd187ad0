"""A package imports only lower layers, and declares exactly what it imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from layers import LAYERS, broken_rules, circles, declared, imported, read_package, sources

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sources(ROOT)


def test_every_package_of_the_repository_is_checked() -> None:
    folders = {folder.name.replace("-", "_") for folder in ROOT.glob("packages/*") if (folder / "src").is_dir()}
    assert set(SOURCES) == folders
    assert set(LAYERS) >= folders


def test_a_package_imports_only_what_its_row_allows() -> None:
    broken = broken_rules(SOURCES, LAYERS)
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize("package", SOURCES)
def test_declared_dependencies_are_the_imports(package: str) -> None:
    folder = SOURCES[package]
    assert declared(folder.parent.parent / "pyproject.toml") == imported(read_package(folder), package)


@pytest.mark.parametrize("package", SOURCES)
def test_no_module_imports_itself_over_others(package: str) -> None:
    found = circles(SOURCES[package])
    assert not found, "\n" + "\n".join(found)


def tree(root: Path, files: dict[str, str]) -> dict[str, Path]:
    """Write packages/<package>/src/<package>/… for each path in files, and return sources(root)."""
    for path, text in files.items():
        package = path.split("/")[0]
        file = root / "packages" / package / "src" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return sources(root)


RULES = {"low": frozenset({"wire"}), "high": frozenset({"low"})}

LEGAL = {
    "low/__init__.py": "import json\nfrom low.bytes import read\n",
    "low/bytes.py": "import wire.frames\n\ndef read() -> None: ...\n",
    "high/__init__.py": "from .face import show\n",
    "high/face.py": "from low import read\n\nshow = read\n",
}


def test_a_tree_that_keeps_the_rules_has_no_broken_rule(tmp_path: Path) -> None:
    assert broken_rules(tree(tmp_path, LEGAL), RULES) == []


@pytest.mark.parametrize(
    ("path", "text", "line", "chain"),
    [
        ("low/bytes.py", "import high\n", 1, "low -> low.bytes -> high"),
        ("low/bytes.py", "\nfrom high.face import show\n", 2, "low -> low.bytes -> high.face"),
        ("high/face.py", "def show():\n    import wire\n", 2, "high -> high.face -> wire"),
        ("high/face.py", "if TYPE_CHECKING:\n    from wire import A\n", 2, "high -> high.face -> wire"),
        ("high/face.py", "x = importlib.import_module('wire.a')\n", 1, "high -> high.face -> wire.a"),
        ("high/alone.py", "import wire\n", 1, "high.alone -> wire"),
        ("high/face.py", "from . import deep\nimport yaml\n", 2, "high -> high.face -> yaml"),
        ("high/deep/__init__.py", "from ..face import show\nfrom yaml import load\n", 2, "high.deep -> yaml"),
    ],
)
def test_a_forbidden_import_is_named_with_its_chain_of_imports(
    tmp_path: Path, path: str, text: str, line: int, chain: str
) -> None:
    package = path.split("/")[0]
    folders = tree(tmp_path, LEGAL | {path: text})
    expected = f"{folders[package]}/{path.split('/', 1)[1]}:{line}: {chain}: {package} may import only "
    assert [text for text in broken_rules(folders, RULES) if text.startswith(expected)]


@pytest.mark.parametrize(
    ("path", "text", "circle"),
    [
        ("low/bytes.py", "from low import read\n", "low -> low.bytes -> low"),
        ("low/bytes.py", "def f():\n    import low.size\n", "low.bytes -> low.size -> low.bytes"),
        ("low/bytes.py", "from . import size\n", "low.bytes -> low.size -> low.bytes"),
        ("low/bytes.py", "from .size import f\n", "low.bytes -> low.size -> low.bytes"),
        ("low/bytes.py", "if not TYPE_CHECKING:\n    import low.size\n", "low.bytes -> low.size -> low.bytes"),
        ("low/bytes.py", "if TYPE_CHECKING: pass\nelse: import low.size\n", "low.bytes -> low.size -> low.bytes"),
        ("low/bytes.py", "x = importlib.import_module('low.far')\n", "low.bytes -> low.far -> low.size -> low.bytes"),
        ("low/bytes.py", "import low.bytes\n", "low.bytes -> low.bytes"),
        ("low/bytes.py", "if TYPE_CHECKING:\n    import low.size\n", None),
        ("low/bytes.py", "if typing.TYPE_CHECKING:\n    def f():\n        import low.size\n", None),
        ("low/bytes.py", "import low.alone, high\n", None),
        ("low/__init__.py", "from . import bytes\nfrom low import size\n", None),
        ("low/alone.py", "from . import bytes\n", None),
    ],
)
def test_a_circle_is_named_with_its_modules(tmp_path: Path, path: str, text: str, circle: str | None) -> None:
    files = {
        "low/__init__.py": "from low.bytes import read\n",
        "low/bytes.py": "",
        "low/size.py": "from low.bytes import read\n",
        "low/far.py": "def f():\n    import low.size\n",
        "low/alone.py": "",
    }
    assert circles(tree(tmp_path, files | {path: text})["low"]) == ([circle] if circle else [])


def test_a_package_without_a_row_is_an_error(tmp_path: Path) -> None:
    [message] = broken_rules(tree(tmp_path, {"new/__init__.py": ""}), RULES)
    assert message.endswith("new has no row in the layer table")


def test_undeclared_and_unused_dependencies_are_found(tmp_path: Path) -> None:
    folders = tree(tmp_path, {"high/__init__.py": "import low, os\n"})
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[project]\ndependencies = [\"wire-frames[fast]>=1; python_version < '4'\"]\n")
    assert imported(read_package(folders["high"]), "high") == {"low"}
    assert declared(pyproject) == {"wire_frames"}
