"""Weak points: what could change without another URI, and what changes it by accident. They are said, not refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import digest_of
from ctxpack_identity.contractfile import TreeSource
from ctxpack_identity.hashing.roots import HashedRoot
from ctxpack_identity.hashing.scan import Folder
from ctxpack_pantry import Pantry
from ctxpack_pantry.weakpoints import WeakPoints, in_contract

if TYPE_CHECKING:
    from pantry_project import Project

Found = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def found(pantry: Pantry, project: Project) -> Found:
    """Return the weak points of the project's contract: code and line of each. Its command names no file."""
    project.command = ["true"]
    project.write_contract()

    def find() -> list[tuple[str, str]]:
        return [(point.code, point.what) for point in pantry.resolve(str(project.contract)).weak]

    assert find() == []
    return find


def write(root: Path, files: dict[str, str | bytes]) -> None:
    """Write files by path; a path with a final slash is a folder."""
    for path, content in files.items():
        place = root / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.write_bytes(content if isinstance(content, bytes) else content.encode())


def code(*exclude: str, path: str = "src", **members: object) -> list[dict[str, Any]]:
    """One transform with code in a folder."""
    root = {"path": path, "exclude": list(exclude)}
    return [{"tool": "t", "tool_version": "1", "code": root, "environment_hash": digest_of(b"lock"), **members}]


# What a contract shows.

HASHED = {"tool": "t", "tool_version": "1.0", "code_hash": digest_of(b"code"), "environment_hash": digest_of(b"lock")}


def codes(**contract: Any) -> list[str]:
    """The weak points of a contract with these members, besides a command and one sound transform."""
    return [point.code for point in in_contract({"command": ["sh"], "transforms": [HASHED], **contract})]


def of_transform(**members: Any) -> list[str]:
    return codes(transforms=[HASHED | members])


def test_a_contract_that_names_everything_has_none() -> None:
    assert codes() == []


def test_what_is_not_declared_is_said_of_command_code_and_environment_of_each_transform() -> None:
    contract = {
        "command": "undeclared",
        "transforms": [HASHED, HASHED | {"tool": "b", "code_hash": "opaque", "environment_hash": "undeclared"}],
    }
    assert [tuple(point) for point in in_contract(contract)] == [
        ("undeclared", "no command declared, so results of another command have the same URI"),
        ("opaque", "transform 1 (b): code is opaque, so a change of it goes unnoticed"),
        ("undeclared", "transform 1 (b): no environment declared, so a library upgrade goes unnoticed"),
    ]


@pytest.mark.parametrize(
    "version", ["latest", "Latest", "main", "master", "HEAD", "nightly", "trunk", "origin/main", "v1@main"]
)
def test_a_version_that_others_move_is_a_weak_point(version: str) -> None:
    assert of_transform(tool_version=version) == ["moving"]


@pytest.mark.parametrize("version", ["1.0", "latest-1", "maintenance", "20261126", "main.2", "mainline"])
def test_a_version_that_stays_is_none(version: str) -> None:
    assert of_transform(tool_version=version) == []


@pytest.mark.parametrize(
    ("tool", "weak"),
    [
        ("llama3@main", ["moving"]),
        ("ollama/llama3:latest", ["moving"]),
        ("main", []),  # of main.py
        ("head", []),  # of coreutils
        ("org/main", []),
        ("model@sha256:" + "0" * 64, []),
    ],
)
def test_a_tool_at_a_branch_is_one_and_a_tool_of_that_name_is_none(tool: str, weak: list[str]) -> None:
    assert of_transform(tool=tool) == weak


@pytest.mark.parametrize(
    "params",
    [
        {"model": "org/model@main"},
        {"image": "python:latest"},
        {"deep": [{"er": {"model": "m@master"}}]},
        {"revision": "main"},
        {"a": {"branch": "refs/heads/trunk"}},
        {"tag": "latest"},
        {"ref": "HEAD"},
        {"version": "nightly"},
        {"model": "gpt-4o-latest"},
        {"weights": "https://hub.example/org/m/resolve/main/w.bin"},
    ],
    ids=str,
)
def test_a_model_at_a_branch_in_the_params_is_one(params: dict[str, Any]) -> None:
    assert of_transform(params=params) == ["moving"]


@pytest.mark.parametrize(
    "params",
    [
        {"section": "main"},
        {"role": "master"},
        {"order": "latest"},
        {"path": "docs/main"},
        {"main": "main", "latest": True, "head": 1},
        {"image": f"python:3.12@sha256:{'0' * 64}"},
        {"revision": "a1b2c3"},
        {"words": ["main", "head", "trunk"]},
        {"text": "see: main, and ask@home"},
        {"versions": {"version": 1}},
        {"option": "--latest"},
        {"weights": "https://hub.example/org/m/resolve/0a1b/w.bin"},
    ],
    ids=str,
)
def test_an_ordinary_word_in_the_params_is_none(params: dict[str, Any]) -> None:
    assert of_transform(params=params) == []


@pytest.mark.parametrize(
    ("member", "value", "path"),
    [
        ("command", ["docker", "run", "python:latest", "--latest"], "command.2"),
        ("variables", {"MODEL": "org/m@main", "LANG": "C"}, "variables.MODEL"),
        ("platform", {"container-image": "python:latest", "os": "linux"}, "platform.container-image"),
    ],
)
def test_command_variables_and_platform_have_them_too(member: str, value: object, path: str) -> None:
    [point] = in_contract({"command": ["sh"], "transforms": [HASHED], member: value})
    assert point.code == "moving"
    assert point.what.startswith(f"{path} is ")


def test_where_in_the_params_it_is_and_what_it_is_are_said() -> None:
    transform = HASHED | {"params": {"models": [{"name": "m@main"}]}}
    [point] = in_contract({"command": ["sh"], "transforms": [HASHED, transform]})
    assert point.what == (
        "transform 1 (t): params.models.0.name is 'm@main', another thing tomorrow; name a fixed version"
    )


def test_of_a_long_text_and_a_long_path_the_beginning_is_said() -> None:
    """Who pushes a pack writes its contract; what is said of it stays short."""
    long = f"{'m' * 1000}@main"
    assert [len(point.what) < 600 for point in in_contract({"transforms": [HASHED | {"tool": long}]})] == [True]
    assert [len(point.what) < 600 for point in in_contract({"transforms": [HASHED | {"tool_version": long}]})] == [True]
    [point] = in_contract({"transforms": [HASHED | {"params": {"a" * 1000: {"b": long}}}]})
    assert re.fullmatch(r"transform 0 \(t\): params\.a+\.\.\. is 'm+\.\.\.', another thing tomorrow; .*", point.what)
    assert len(point.what) < 500


def test_each_is_said_once_and_of_very_many_the_first_with_the_number_of_the_others(
    pantry: Pantry, project: Project, notices: list[str]
) -> None:
    project.write_contract(params={f"{number:04}": f"m{number}@main" for number in range(1000)})
    weak = pantry.resolve(str(project.contract)).weak
    assert len(weak) == len(notices) == 101
    assert weak[0].what.startswith("transform 0 (cat): params.0000 is 'm0@main'")
    assert weak[-1] == ("more", "and 900 more weak points")
    seeded = pantry.seed([], str(project.contract))
    assert len(seeded.manifest.provenance["weak"]) == 101
    assert len(set(pantry.inspect(seeded.uri).weak)) == len(pantry.inspect(seeded.uri).weak)


def test_an_image_by_tag_is_one_and_by_digest_is_none() -> None:
    assert codes(platform={"container-image": "ghcr.io/team/image:latest"}) == ["moving"]
    assert codes(platform={"container-image": f"ghcr.io/team/image@sha256:{'0' * 64}", "os": "linux"}) == []


@pytest.mark.parametrize(
    "contract",
    [
        {},
        {"schema": "other/v1", "command": 1, "transforms": "none", "platform": []},
        {"transforms": [1, None, "a", [], {"tool": {}, "tool_version": [], "params": "p"}]},
        {"transforms": {"a": {"code_hash": "opaque"}}, "platform": {"a": {"b": [None, 1.5]}}},
    ],
    ids=str,
)
def test_a_contract_of_any_shape_can_be_looked_at(contract: dict[str, Any]) -> None:
    assert list(in_contract(contract)) == []


# What lies in a root.

BY_NAME = {
    "manager": [".DS_Store", "Thumbs.db", "desktop.ini"],
    "git": [".git/", ".git"],
    "dotenv": [".env", ".env.local", ".env.production"],
    "checkpoint": [".ipynb_checkpoints/"],
    "editor": ["a.py~", "~", ".a.py.swp", ".swp", ".a.swo", ".a.kate-swp", ".#a.py", "#a.py#"],
}
WEAK_NAMES = [(kind, name) for kind, names in BY_NAME.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), WEAK_NAMES)
@pytest.mark.parametrize("folder", ["", "deep/er/"])
def test_what_tools_leave_in_an_input_is_found_by_its_name(
    found: Found, project: Project, kind: str, name: str, folder: str
) -> None:
    write(project.inputs, {f"{folder}{name}": "x"})
    [(code, what)] = found()
    assert code == kind
    assert what.startswith(f"input raw_docs: {folder}{name.rstrip('/')}: ")
    assert what.endswith(("exclude it", "exclude .git", "exclude .ipynb_checkpoints", "the work depends on it"))


@pytest.mark.parametrize(("kind", "name"), WEAK_NAMES)
def test_what_patterns_leave_out_is_none(found: Found, project: Project, kind: str, name: str) -> None:
    write(project.inputs, {f"deep/{name}": "x", f"left_out/{name}": "x"})
    pattern = name.rstrip("/").replace("#", "\\#", 1) if name.startswith("#") else name
    root = {"name": "raw_docs", "path": "raw_docs", "exclude": [pattern, "left_out/"]}
    project.write_contract(inputs=[root])
    assert found() == []


def test_an_input_that_is_such_a_file_is_found(found: Found, project: Project) -> None:
    write(project.root, {".env": "A=1"})
    project.write_contract(inputs=[{"name": "settings", "path": ".env"}])
    assert [(code, what.partition(": ")[2].partition(":")[0]) for code, what in found()] == [("dotenv", ".env")]


NEAR_MISSES = [
    ".env.example",
    ".env.sample",
    ".env.template",
    ".envrc",
    ".gitignore",
    ".gitattributes",
    ".github/x",
    "a.git/x",
    "my.DS_Store",
    "thumbs.db.txt",
    "~a",
    "a~b",
    "#a",
    "a#",
    "a.swp",
    ".a.swq",
    ".swift",
    "ipynb_checkpoints/x",
    ".environment",
    "env/x",
]


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_name_that_only_looks_like_it_is_none(found: Found, project: Project, name: str) -> None:
    write(project.inputs, {name: "x"})
    assert found() == []


def test_three_paths_are_shown_and_the_others_counted(found: Found, project: Project) -> None:
    write(project.inputs, {f"{name}/.DS_Store": "" for name in "abcde"})
    [(_, what)] = found()
    assert what.startswith("input raw_docs: a/.DS_Store, b/.DS_Store, c/.DS_Store and 2 more: left by a file manager")


def test_each_root_is_named_and_two_roots_of_one_folder_are_told_apart(found: Found, project: Project) -> None:
    """Code leaves out by itself what tools drop, but not .env, which it may read."""
    write(project.root, {"src/.env": "A=1", "src/.git/config": "", "src/a.py~": ""})
    project.write_contract(
        inputs=[{"name": "one", "path": "src"}, {"name": "two", "path": "src", "exclude": [".git"]}], transforms=code()
    )
    assert {(code, what.split(":")[0]) for code, what in found()} == {
        ("git", "input one"),
        ("dotenv", "input one"),
        ("editor", "input one"),
        ("dotenv", "input two"),
        ("editor", "input two"),
        ("dotenv", "code of transform 0"),
    }


def test_names_in_a_store_are_found_and_nothing_there_is_opened(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, *rest: int) -> object:
        raise AssertionError(path)

    for name in ("open", "listdir"):
        monkeypatch.setattr(f"ctxpack_pantry.weakpoints.os.{name}", fail)
    root = HashedRoot("inputs/far", TreeSource("memory://far"), "memory://far", None)
    project.command = ["true"]
    project.write_contract()
    weak = WeakPoints(project.load())
    status = os.stat(project.code)
    weak.on_folder(
        root, Folder("a/", "memory://far/a/", [(".DS_Store", status), ("a.pyc", status)], [(".git", status)])
    )
    assert [(point.code, point.what.split(": ")[:2]) for point in weak.found({"command": ["sh"]})] == [
        ("manager", ["input far", "a/.DS_Store"]),
        ("git", ["input far", "a/.git"]),
    ]


# Compiled modules.


@pytest.mark.parametrize("path", ["a.pyc", "deep/a.pyc"])
def test_a_compiled_module_without_its_source_is_found_in_code(found: Found, project: Project, path: str) -> None:
    """Python imports it, and code leaves it out."""
    write(project.root, {"src/main.py": "", f"src/{path}": b"\0"})
    if "/" in path:
        write(project.root, {"src/deep/b.py": ""})
    project.write_contract(transforms=code())
    assert found() == [
        (
            "bytecode",
            f"code of transform 0: {path}: compiled code without its source, which Python imports; "
            "exclude it, or add the source",
        )
    ]


def test_a_folder_with_nothing_else_is_found_too(found: Found, project: Project) -> None:
    """What is left of a package whose sources were removed."""
    write(project.root, {"src/main.py": "", "src/old/__init__.pyc": b"\0"})
    project.write_contract(transforms=code())
    assert [(code, what.split(": ")[1]) for code, what in found()] == [("bytecode", "old/__init__.pyc")]


def test_a_name_that_is_no_text_is_escaped(pantry: Pantry, found: Found, project: Project) -> None:
    """Such a file is in no pack, but what is said of it is."""
    write(project.root, {"src/main.py": "", os.fsdecode(b"src/\xff.pyc"): b"\0"})
    project.write_contract(transforms=code())
    assert [(code, what.split(": ")[1]) for code, what in found()] == [("bytecode", "\\xff.pyc")]
    assert pantry.seed([], str(project.contract)).manifest.provenance["weak"][0]["code"] == "bytecode"


def test_in_an_input_it_is_found_as_well(found: Found, project: Project) -> None:
    write(project.inputs, {"a.pyc": b"\0", "b.pyc": b"\0", "b.py": "", "__pycache__/c.cpython-311.pyc": b"\0"})
    assert [(code, what.split(": ")[1]) for code, what in found()] == [("bytecode", "a.pyc")]


@pytest.mark.parametrize(
    ("files", "exclude"),
    [
        (["src/a.pyc", "src/a.py"], []),
        (["src/__pycache__/gone.cpython-311.pyc"], []),
        (["src/deep/__pycache__/gone.cpython-311.pyc"], []),
        (["src/a.pyc"], ["a.pyc"]),
        (["src/a.pyc", "src/a.py"], ["a.py"]),
        (["src/left/a.pyc"], ["left/"]),
        (["src/a.pyo", "src/b.pycx", "src/pyc"], []),
        (["beside/a.pyc"], []),
    ],
    ids=str,
)
def test_a_compiled_module_with_its_source_or_left_out_by_name_is_none(
    found: Found, project: Project, files: list[str], exclude: list[str]
) -> None:
    write(project.root, {"src/main.py": "", **dict.fromkeys(files, b"\0")})
    project.write_contract(transforms=code(*exclude))
    assert found() == []


@pytest.mark.parametrize("path", ["src/main.py", "main.py"])
def test_what_lies_beside_code_that_is_one_file_is_not_its(
    found: Found, project: Project, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    write(project.root, {path: "", "src/a.pyc": b"\0", "a.pyc": b"\0", "b.py": "", "b.pyc": b"\0"})
    project.write_contract(transforms=code(path=path))
    assert found() == []
    monkeypatch.chdir(project.root)
    assert Pantry(project.settings).resolve("contract.json").weak == ()


# What a look into files shows.

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


def test_a_pointer_of_git_lfs_is_found_behind_many_other_files(found: Found, project: Project) -> None:
    pointer = POINTER.replace(b"00", b"0" * 64)
    write(project.root, {f"src/a/{number}": "text\n" for number in range(300)} | {"src/weights/model.bin": pointer})
    project.write_contract(inputs=[{"name": "x", "path": "src"}])
    assert [what for code, what in found() if code == "lfs"] == [
        "input x: weights/model.bin: a pointer of Git LFS, not the data; `git lfs pull` fetches it"
    ]


@pytest.mark.parametrize("kind", ["input", "code", "environment", "file"])
def test_a_pointer_of_git_lfs_is_found_in_every_root(found: Found, project: Project, kind: str) -> None:
    write(project.root, {"src/deep/model.bin": POINTER, "src/main.py": "1\n"})
    if kind == "input":
        project.write_contract(inputs=[{"name": "x", "path": "src"}])
    elif kind == "file":
        project.write_contract(inputs=[{"name": "x", "path": "src/deep/model.bin"}])
    else:
        [transform] = code(path="src" if kind == "code" else "src/main.py")
        if kind == "environment":
            del transform["environment_hash"]
            transform["environment"] = {"path": "src"}
        project.write_contract(transforms=[transform])
    what = {"code": "code of transform 0", "environment": "environment of transform 0"}.get(kind, "input x")
    path = "model.bin" if kind == "file" else "deep/model.bin"
    assert found() == [("lfs", f"{what}: {path}: a pointer of Git LFS, not the data; `git lfs pull` fetches it")]


@pytest.mark.parametrize("content", [b"x" + POINTER, b"version https://git-lfs.github.com/spec/v2\n", POINTER[:20]])
def test_a_file_that_only_looks_like_one_is_none(found: Found, project: Project, content: bytes) -> None:
    write(project.inputs, {"a.bin": content})
    assert found() == []


CRLF, LF, BINARY = b"one\r\ntwo\r\n", b"one\ntwo\n", b"\x89PNG\r\n\x1a\n\0\0"


def test_files_with_crlf_beside_files_with_lf_are_found(found: Found, project: Project) -> None:
    write(project.inputs, {"c.txt": CRLF, "deep/d.txt": LF, "e.txt": CRLF})
    assert found() == [
        (
            "crlf",
            "input raw_docs: c.txt, e.txt: lines end in CRLF, in other files in LF; "
            "a checkout with other settings has another URI",
        )
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": LF, "b.txt": LF},
        {"a.txt": CRLF, "b.txt": CRLF},
        {"a.txt": BINARY, "b.txt": LF},
        {"a.txt": CRLF, "b.txt": BINARY},
        {"a.txt": CRLF, "b.txt": b"no end"},
        {"a.txt": CRLF, "b.txt": b""},
        {"a.txt": b"one\rtwo", "b.txt": LF},
    ],
    ids=str,
)
def test_files_that_all_end_their_lines_alike_and_binary_files_are_none(
    found: Found, project: Project, files: dict[str, str | bytes]
) -> None:
    write(project.inputs, files)
    assert found() == []


def test_line_ends_are_compared_in_each_root_for_itself(found: Found, project: Project) -> None:
    write(project.inputs, {"a.txt": CRLF, "b.txt": CRLF})
    write(project.root, {"src/main.sh": LF})
    project.write_contract(transforms=code())
    assert found() == []


def test_what_is_left_out_is_not_looked_into(found: Found, project: Project) -> None:
    write(project.inputs, {"a.txt": LF, "b.txt": CRLF, "c.bin": POINTER})
    project.write_contract(inputs=[{"name": "x", "path": "raw_docs", "exclude": ["b.txt", "c.bin"]}])
    assert found() == []


@pytest.fixture
def opened(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The files of the input that are opened to name the contract, but for hashing."""

    def resolve() -> list[str]:
        found: list[str] = []

        def noting(path: str, flags: int, *rest: int) -> int:
            if not flags & os.O_NOFOLLOW:  # which hashing has
                found.append(path)
            return real(path, flags, *rest)

        real = os.open
        with monkeypatch.context() as patch:
            patch.setattr("ctxpack_pantry.weakpoints.os.open", noting)
            Pantry(project.settings).resolve(str(project.contract))
        inputs = f"{project.root}/./raw_docs/"
        return [path.removeprefix(inputs) for path in found if path.startswith(inputs)]

    return resolve


@pytest.mark.parametrize("folders", [1, 500])
def test_of_a_root_with_many_files_two_hundred_are_opened(
    project: Project, opened: Callable[[], list[str]], folders: int
) -> None:
    """None of them is empty, or larger than a text."""
    for folder in range(folders):
        (project.inputs / f"f{folder}").mkdir()
        for number in range(1000 // folders):
            (project.inputs / f"f{folder}/{number}").write_text("x\n")
    (project.inputs / "0").write_bytes(b"x" * ((1 << 20) + 1))
    (project.inputs / "1").write_bytes(b"")
    paths = opened()
    assert len(paths) == 200
    assert not {"0", "1"} & set(paths)


def test_a_pointer_behind_many_other_files_is_found(found: Found, project: Project) -> None:
    """By its size."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456789\n"
    write(project.inputs, {f"{number:04}": "x\n" for number in range(500)} | {"z/model.bin": pointer})
    [(code, what)] = found()
    assert (code, what.split(": ")[1]) == ("lfs", "z/model.bin")


def test_of_many_files_of_the_size_of_a_pointer_two_hundred_more_are_opened(
    project: Project, opened: Callable[[], list[str]]
) -> None:
    write(project.inputs, {f"{number:04}": "x" * 130 for number in range(1000)})
    assert len(opened()) == 400


# The contract file.


@pytest.mark.parametrize("what", ["input all", "code of transform 0", "environment of transform 0"])
def test_a_contract_file_inside_what_it_names_is_found(found: Found, project: Project, what: str) -> None:
    exclude = ["/out", "/raw_docs"]
    if what.startswith("input"):
        project.write_contract(inputs=[{"name": "all", "path": ".", "exclude": exclude}])
    elif what.startswith("code"):
        project.write_contract(transforms=code(*exclude, path="."))
    else:
        [transform] = code(path="ingest.sh", environment={"path": ".", "exclude": exclude})
        del transform["environment_hash"]
        project.write_contract(transforms=[transform])
    assert found() == [
        (
            "contract-file",
            f"{what}: the contract file lies in it, so a change of its layout or labels changes the URI; exclude it",
        )
    ]


def test_it_is_found_in_one_of_two_roots_of_one_folder(found: Found, project: Project) -> None:
    """The patterns of the other one leave it out."""
    for in_input, in_code in ((True, False), (False, True)):
        project.write_contract(
            inputs=[{"name": "all", "path": ".", "exclude": ["/out", *(() if in_input else ("*.json",))]}],
            transforms=code("/out", *(() if in_code else ("*.json",)), path="."),
        )
        assert [code for code, _ in found()] == ["contract-file"]


def test_a_contract_file_that_patterns_leave_out_or_that_lies_elsewhere_is_none(found: Found, project: Project) -> None:
    project.write_contract(inputs=[{"name": "all", "path": ".", "exclude": ["/out", "/contract.json"]}])
    assert found() == []
    elsewhere = project.root / "contracts" / "one.json"
    elsewhere.parent.mkdir()
    document = json.loads(project.contract.read_text())
    document["inputs"] = [{"name": "raw_docs", "path": "../raw_docs"}]
    document["transforms"][0]["code"] = {"path": "../ingest.sh"}
    document["outputs"] = [{"path": "../out"}]
    document["command"] = ["sh", "../ingest.sh"]
    elsewhere.write_text(json.dumps(document))
    assert Pantry(project.settings).resolve(str(elsewhere)).weak == ()


# Where they are said.


@pytest.fixture
def weak(project: Project) -> list[str]:
    """The lines of a contract with two weak points."""
    (project.inputs / ".DS_Store").write_text("")
    project.write_contract(params={"model": "m@main"})
    return [
        "transform 0 (cat): params.model is 'm@main', another thing tomorrow; name a fixed version",
        "input raw_docs: .DS_Store: left by a file manager, and changes the URI; remove or exclude it",
    ]


def test_every_verb_says_each_once(pantry: Pantry, project: Project, notices: list[str], weak: list[str]) -> None:
    said = [f"weak point: {what}" for what in weak]
    contract = str(project.contract)
    pantry.resolve(contract)
    assert notices == said
    notices.clear()
    pantry.seed([], contract)
    assert notices == said
    notices.clear()
    assert pantry.run(contract, push=True).hit
    assert notices == said


def test_a_run_that_misses_says_each_once(
    pantry: Pantry, project: Project, notices: list[str], weak: list[str]
) -> None:
    shutil.rmtree(project.out)
    assert not pantry.run(str(project.contract)).hit
    assert notices == [f"weak point: {what}" for what in weak]


def test_they_are_in_the_document_of_the_identity_in_the_pack_and_in_inspections(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, weak: list[str]
) -> None:
    expected = [{"code": "moving", "what": weak[0]}, {"code": "manager", "what": weak[1]}]
    assert pantry.resolve(str(project.contract)).as_json()["weak"] == expected
    seeded = pantry.seed([], str(project.contract))
    assert seeded.manifest.provenance["weak"] == expected
    pantry.push(seeded.uri)
    assert pantry.inspect(seeded.uri).as_json()["weak"] == expected
    assert open_pantry("elsewhere").inspect(seeded.uri).as_json()["weak"] == expected


def test_they_are_recorded_as_they_were_before_the_command_ran(pantry: Pantry, project: Project) -> None:
    """As its user was told: what the command itself leaves beside its code is another matter."""
    write(project.root, {"src/main.py": ""})
    project.command = ["sh", "-c", "mkdir out; cd src; touch late.pyc"]
    project.write_contract(transforms=code())
    shutil.rmtree(project.out)
    pantry.run(str(project.contract))
    [pack] = pantry.list_packs().packs
    assert pack.manifest is not None
    assert "weak" not in pack.manifest.provenance
    assert [point.code for point in pantry.resolve(str(project.contract)).weak] == ["bytecode"]


def test_a_pack_without_any_has_none_in_its_provenance(pantry: Pantry, project: Project) -> None:
    seeded = pantry.seed([], str(project.contract))
    assert "weak" not in seeded.manifest.provenance
    assert pantry.inspect(seeded.uri).weak == ()
