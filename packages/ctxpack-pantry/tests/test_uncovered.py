"""What the command reads of the project and nothing covers: files that it names, modules that Python code imports."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import digest_of
from ctxpack_pantry import Pantry

if TYPE_CHECKING:
    from pantry_project import Project

Find = Callable[..., list[str]]


@pytest.fixture
def find(project: Project) -> Find:
    """Return what nothing covers, for a project with these files."""

    def look(
        command: list[str], files: dict[str, str], code: object = "main.py", contract: str = "", **members: Any
    ) -> list[str]:
        for path, text in files.items():
            place = project.root / path
            (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                place.write_text(text)
        project.command = command
        root = {"path": code} if isinstance(code, str) else code
        transform = {"tool": "t", "tool_version": "1", "code": root, "environment_hash": digest_of(b"lock")}
        project.write_contract(**{"transforms": [transform], **members})
        weak = Pantry(project.settings).resolve(contract or str(project.contract)).weak
        assert {point.code for point in weak} <= {"file", "import"}
        return [_short(point.what) for point in weak]

    return look


def _short(what: str) -> str:
    """A line without what all lines say."""
    found = re.fullmatch(r'(.*) imports (.*), and no root covers it; add it to "code"', what)
    if found:
        return f"{found[1]} -> {found[2]}"
    named = re.fullmatch(r"the command names (.*), and no input, code or environment covers it", what)
    assert named, what
    return named[1]


PYTHON = ["python", "main.py"]

# Modules that are imported.


@pytest.mark.parametrize(
    "statement",
    [
        "import helper",
        "import helper as h",
        "import os, helper",
        "import os, helper as h, sys",
        "from helper import x",
        "from helper import (x,\n    y)",
        "from helper import *",
        "def f():\n    import helper",
        "if True:\n\tfrom helper import x",
        "try:\n    import helper  # optional\nexcept ImportError: pass",
    ],
)
def test_a_module_beside_the_code_that_it_imports_is_found(find: Find, statement: str) -> None:
    assert find(PYTHON, {"main.py": f"{statement}\n", "helper.py": ""}) == ["main.py -> helper.py"]


@pytest.mark.parametrize(
    "statement",
    ["# import helper", "x = 'import helper'", "important = helper = 1", "import helpers", "from . import other", ""],
)
def test_a_module_that_is_not_imported_is_none(find: Find, statement: str) -> None:
    assert find(PYTHON, {"main.py": f"{statement}\n", "helper.py": ""}) == []


PACKAGE = {"pkg/__init__.py": "", "pkg/mod.py": "", "pkg/sub/__init__.py": "", "pkg/sub/deep.py": ""}


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("import pkg", ["pkg/__init__.py"]),
        ("import pkg.mod", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg import mod", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg import value", ["pkg/__init__.py"]),
        ("from pkg import mod as m, value as v", ["pkg/__init__.py", "pkg/mod.py"]),
        ("from pkg.sub import deep, other", ["pkg/__init__.py", "pkg/sub/__init__.py", "pkg/sub/deep.py"]),
        ("from pkg.mod import name", ["pkg/__init__.py", "pkg/mod.py"]),
    ],
)
def test_all_files_that_an_import_loads_are_found(find: Find, statement: str, missing: list[str]) -> None:
    expected = [f"main.py -> {path}" for path in missing]
    assert find(PYTHON, {"main.py": f"{statement}\n", **PACKAGE}) == expected
    code = [{"path": "main.py"}, {"path": "pkg"}]
    assert find(PYTHON, {}, code) == []


def test_a_package_without_init_is_found_by_its_modules(find: Find) -> None:
    files = {"main.py": "import space.mod\nimport space\n", "space/mod.py": ""}
    assert find(PYTHON, files) == ["main.py -> space/mod.py"]


def test_a_module_that_patterns_leave_out_is_found(find: Find) -> None:
    files = {
        "src/main.py": "from pkg import mod, kept\n",
        "src/pkg/__init__.py": "",
        "src/pkg/mod.py": "",
        "src/pkg/kept.py": "",
    }
    code = {"path": "src", "exclude": ["mod.py"]}
    assert find(["python", "src/main.py"], files, code) == ["src/main.py -> src/pkg/mod.py"]


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("from . import left", "left.py"),
        ("from .left import x", "left.py"),
        ("from .. import above", "../above.py"),
        ("from ..above import x", "../above.py"),
        ("from .none import x", None),
        ("from . import kept", None),
        ("from .kept import left", None),
        ("from ..pkg import kept", None),
        ("from ... import far", None),
    ],
)
def test_relative_imports_are_followed(find: Find, statement: str, missing: str | None) -> None:
    files = {
        "src/pkg/a.py": f"{statement}\n",
        "src/pkg/kept.py": "",
        "src/pkg/left.py": "",
        "src/above.py": "",
        "left.py": "",
        "none.py": "",
    }
    code = {"path": "src", "exclude": ["left.py", "above.py"]}
    expected = [] if missing is None else [f"src/pkg/a.py -> {(Path('src/pkg') / missing).as_posix()}"]
    expected = [line.replace("src/pkg/../", "src/") for line in expected]
    assert find(["true"], files, code) == expected


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("from ..util import V", ["__init__.py", "util.py"]),
        ("from  .. import util as u", ["__init__.py", "util.py"]),
        ("from .. import V", ["__init__.py"]),
        ("from . import sib", ["sub/__init__.py", "sub/sib.py"]),
        ("from . import V", ["sub/__init__.py"]),
        ("from .sib import V", ["sub/__init__.py", "sub/sib.py"]),
        ("from ..sub.sib import V", ["__init__.py", "sub/__init__.py", "sub/sib.py"]),
        ("from ... import far", []),
    ],
)
@pytest.mark.parametrize("code", ["module", "folder", "script"])
def test_relative_imports_from_packages_above_are_followed(
    find: Find, statement: str, missing: list[str], code: str
) -> None:
    files = {f"pkg/{name}": "" for name in ("__init__.py", "util.py", "sub/__init__.py", "sub/sib.py")}
    files |= {"pkg/sub/w.py": f"{statement}\n", "main.py": ""}
    if code == "script":
        assert find(["python", "pkg/sub/w.py"], files) == [
            "pkg/sub/w.py",
            *(f"pkg/sub/w.py -> pkg/{name}" for name in missing),
        ]
        return
    found = find(["true"], files, "pkg/sub" if code == "folder" else "pkg/sub/w.py")
    hashed = "sub/" if code == "folder" else "-"
    assert found == [f"pkg/sub/w.py -> pkg/{name}" for name in missing if not name.startswith(hashed)]


def test_a_module_finds_those_in_its_own_folder(find: Find) -> None:
    """As a script does, wherever it lies."""
    files = {"src/deep/a.py": "import left\n", "src/deep/left.py": ""}
    assert find(["true"], files, {"path": "src", "exclude": ["left.py"]}) == ["src/deep/a.py -> src/deep/left.py"]


def test_a_module_is_said_once_with_the_first_that_imports_it_and_the_number_of_others(find: Find) -> None:
    files = {f"src/{name}.py": "import helper, other\n" for name in "abc"} | {"helper.py": "", "other.py": ""}
    assert find(["python", "-m", "helper"], files, {"path": "src"}) == [
        "the command, like 3 more, -> helper.py",
        "src/a.py, like 2 more, -> other.py",
    ]


@pytest.mark.parametrize("other", ["input", "environment", "other transform"])
def test_a_module_that_another_root_covers_is_none(find: Find, other: str) -> None:
    files = {"main.py": "import helper\n", "helper.py": ""}
    transform = {"tool": "t", "tool_version": "1", "code": {"path": "main.py"}}
    transforms: list[dict[str, Any]] = [transform | {"environment_hash": digest_of(b"lock")}]
    members: dict[str, Any] = {"transforms": transforms}
    if other == "input":
        members["inputs"] = [{"name": "helper", "path": "helper.py"}]
    elif other == "environment":
        transforms[0] = transform | {"environment": {"path": "helper.py"}}
    else:
        transforms.append(transforms[0] | {"code": {"path": "helper.py"}})
    assert find(PYTHON, files, **members) == []


def test_modules_of_the_standard_library_and_of_others_are_none(find: Find) -> None:
    """Also where a folder of the project has the name of one."""
    text = "import os, sys, json, logging.handlers\nfrom collections import deque\nimport numpy as np, datasets\n"
    files = {"main.py": text, "src/json.py": "", "datasets/a.csv": "", "logging/handlers": "", "other.py": ""}
    assert find(PYTHON, files) == []


def test_a_name_of_the_standard_library_is_the_module_beside_the_script_only(find: Find) -> None:
    files = {"main.py": "import random\n", "random.py": "", "src/a.py": "import random\n"}
    assert find(PYTHON, files, [{"path": "main.py"}, {"path": "src"}]) == ["main.py -> random.py"]


def test_a_script_that_nothing_covers_is_looked_into_as_well(find: Find) -> None:
    files = {
        "scripts/run.py": "import helper\nimport covered\n",
        "scripts/helper.py": "",
        "main.py": "",
        "covered.py": "",
    }
    assert find(["python", "scripts/run.py"], files, [{"path": "main.py"}, {"path": "covered.py"}]) == [
        "scripts/run.py",
        "scripts/run.py -> scripts/helper.py",
    ]


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("app", ["app.py"]),
        ("pkg", ["pkg/__init__.py", "pkg/__main__.py"]),
        ("pkg.mod", ["pkg/__init__.py", "pkg/mod.py"]),
        ("main", []),
        ("http.server", []),
        ("none", []),
    ],
)
def test_a_module_that_the_command_runs_is_found(find: Find, module: str, missing: list[str]) -> None:
    files = {"main.py": "", "app.py": "", "pkg/__init__.py": "", "pkg/__main__.py": "", "pkg/mod.py": ""}
    assert find(["python", "-m", module], files) == [f"the command -> {path}" for path in missing]


def test_a_covered_module_can_be_run(find: Find) -> None:
    files = {"src/pkg/__init__.py": "", "src/pkg/__main__.py": "from pkg import mod\n", "src/pkg/mod.py": ""}
    assert find(["python", "-m", "src.pkg"], files, "src") == []
    assert find(["python", "-m", "pkg"], {}, "src") == []


def test_code_that_is_no_python_is_not_read(find: Find) -> None:
    assert find(["node", "main.js"], {"main.js": "import helper from './helper'\n", "helper.py": ""}, "main.js") == []


def test_bytes_that_are_no_text_are_read_past(find: Find, project: Project) -> None:
    (project.root / "main.py").write_bytes(b"\xff\xfe\0 import \xff\nimport helper\nfrom \xff import x\nimport\xa0y\n")
    assert find(PYTHON, {"helper.py": ""}) == ["main.py -> helper.py"]


def test_of_many_modules_five_hundred_are_read(find: Find, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"src/m{number:04}.py": "import helper\n" for number in range(600)}
    read: list[str] = []

    def noting(path: str, mode: str) -> object:
        read.append(path)
        return open(path, mode)

    monkeypatch.setattr("ctxpack_pantry.uncovered.open", noting, raising=False)
    found = find(["python", "src/m0599.py"], {**files, "helper.py": ""}, "src")
    assert len(read) == 500
    assert found == ["src/m0599.py, like 499 more, -> helper.py"]


def test_nothing_is_read_when_all_modules_of_the_project_are_hashed(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, mode: str) -> object:
        raise AssertionError(path)

    monkeypatch.setattr("ctxpack_pantry.uncovered.open", fail, raising=False)
    assert (
        find(
            PYTHON,
            {"main.py": "import helper\n", "helper.py": "", "pkg/a.py": "", "data/x.txt": ""},
            [{"path": "main.py"}, {"path": "helper.py"}, {"path": "pkg"}],
        )
        == []
    )


# Files that the command names.


@pytest.mark.parametrize(
    "command",
    [
        ["python", "tool.py"],
        ["tool", "main.py", "config.yml"],
        ["sh", "-c", "python tool.py <raw_docs/a.txt"],
        ["sh", "-c", "cat (tool.py); 'config.yml'"],
        ["./tool.py"],
    ],
    ids=str,
)
def test_a_file_that_the_command_names_and_nothing_covers_is_found(find: Find, command: list[str]) -> None:
    files = {"main.py": "", "tool.py": "", "config.yml": ""}
    named = [name for name in ("./tool.py", "tool.py", "config.yml") if name in re.split(r"[ ();']", " ".join(command))]
    assert find(command, files) == named != []


def test_a_folder_is_found_as_well(find: Find) -> None:
    assert find(["tool", "extra", "extra/b"], {"main.py": "", "extra/a": "", "extra/b/": ""}) == ["extra", "extra/b"]


@pytest.mark.parametrize(
    "word",
    [
        "main.py",
        "./main.py",
        "raw_docs",
        "raw_docs/",
        "raw_docs/a.txt",
        "raw_docs/new.txt",
        "out",
        "./out/joined",
        "made/out2/",
        ".",
        "..",
        "made",
        "missing.txt",
        "contracts/../main.py",
        "-",
        "",
        "/",
        "/etc",
        "/etc/passwd",
        "--config=extra/a",
    ],
)
def test_what_is_hashed_an_output_or_not_of_the_project_is_none(find: Find, project: Project, word: str) -> None:
    """Nor is a folder that holds what is hashed, an output, or the contract file."""
    files = {"main.py": "", "made/out2/x": "", "extra/a": "", "contracts/": ""}
    outputs = [{"path": "out"}, {"path": "made/out2"}]
    assert find(["tool", word], files, outputs=outputs) == []
    assert find(["sh", "-c", f"tool '{word}' ;"], files, outputs=outputs) == []


def test_an_absolute_path_is_none_though_it_is_in_the_project(find: Find, project: Project) -> None:
    assert find(["tool", f"{project.root}/extra"], {"main.py": "", "extra": ""}) == []


def test_a_file_that_patterns_leave_out_is_found(find: Find) -> None:
    code = {"path": "src", "exclude": ["gen.sh"]}
    assert find(["sh", "src/gen.sh"], {"src/a.sh": "", "src/gen.sh": ""}, code) == ["src/gen.sh"]


def test_a_program_that_is_looked_up_elsewhere_is_none(find: Find) -> None:
    assert find(["go", "run", "main.py"], {"main.py": "", "go/x": ""}) == []


def test_where_the_code_is_given_by_digest_nothing_is_said(find: Find, project: Project) -> None:
    """It may be the digest of any file: as in a canonical contract, or when a build tool computes it."""
    transform = {"tool": "t", "tool_version": "1", "environment_hash": digest_of(b"lock")}
    by_digest = [transform | {"code_hash": digest_of(b"code")}]
    assert (
        find(["python", "main.py", "data"], {"main.py": "import a\n", "a.py": "", "data": ""}, transforms=by_digest)
        == []
    )
    canonical = project.root / "canonical.json"
    canonical.write_bytes(Pantry(project.settings).resolve(str(project.contract)).canonical)
    assert Pantry(project.settings).resolve(str(canonical)).weak == ()


def test_where_an_input_is_given_by_digest_only_code_is_found(find: Find) -> None:
    """The folder that the command names may be that input."""
    inputs = [{"name": "data", "digest": digest_of(b"data")}]
    files = {"main.py": "", "data/x": "", "tool.sh": ""}
    assert find(["sh", "tool.sh", "data", "data/x"], files, inputs=inputs) == ["tool.sh"]


# How paths are said.


@pytest.mark.parametrize("name", ["contract.json", "./contract.json"])
def test_paths_are_relative_to_the_contract_file_wherever_it_is_named_from(
    find: Find, project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = {"main.py": "import helper\n", "helper.py": "", "extra": ""}
    expected = find(["python", "main.py", "extra"], files)
    assert expected == ["extra", "main.py -> helper.py"]
    (project.root.parent / "link").symlink_to(project.root)
    monkeypatch.chdir(project.root)
    assert find(["python", "main.py", "extra"], files, contract=name) == expected
    monkeypatch.chdir(project.root.parent)
    for contract in ("project/contract.json", "link/contract.json", str(project.root.parent / "link/contract.json")):
        assert find(["python", "main.py", "extra"], files, contract=contract) == expected


def test_code_outside_the_folder_is_said_as_the_contract_file_has_it(find: Find, project: Project) -> None:
    (project.root.parent / "lib").mkdir()
    (project.root.parent / "lib/a.py").write_text("import b\nimport c\n")
    (project.root.parent / "lib/b.py").write_text("")
    (project.root.parent / "c.py").write_text("")
    code = {"path": "../lib", "exclude": ["b.py"]}
    assert find(["true"], {}, code) == ["../lib/a.py -> ../lib/b.py", "../lib/a.py -> ../c.py"]


def test_no_absolute_path_of_this_machine_is_said(find: Find, project: Project, tmp_path: Path) -> None:
    far = tmp_path / "far"
    for path, text in {"lib/a.py": "import b, c\n", "lib/b.py": "", "c.py": ""}.items():
        (far / path).parent.mkdir(parents=True, exist_ok=True)
        (far / path).write_text(text)
    code = {"path": f"{far}/lib", "exclude": ["b.py"]}
    assert find(["true"], {}, code) == ["lib/a.py -> lib/b.py", "lib/a.py -> c.py"]
    inside = {"path": f"{project.root}/src"}
    files = {"src/a.py": "import helper\n", "helper.py": ""}
    assert find(["true"], files, inside) == ["src/a.py -> helper.py"]
