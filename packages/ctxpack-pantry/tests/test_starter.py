"""The contract file that init writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, parse_contract_file
from ctxpack_identity.contractfile import Roots
from ctxpack_pantry import Pantry, init
from ctxpack_pantry.starter import contract_template


def template(folder: Path = Path(), **given: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(contract_template(str(folder / "contract.json"), **given))
    return document


def test_the_template_has_an_input_a_command_a_tool_its_code_and_an_output(tmp_path: Path) -> None:
    assert (
        contract_template(str(tmp_path / "contract.json"))
        == """\
{
  "inputs": [
    {"name": "raw_docs", "path": "./raw_docs"}
  ],
  "command": ["python", "ingest.py"],
  "transforms": [
    {
      "tool": "name-of-the-tool",
      "tool_version": "1.0",
      "code": {"path": "./ingest.py"},
      "params": {}
    }
  ],
  "outputs": [
    {"path": "./processed_data"}
  ]
}
"""
    )


@pytest.mark.parametrize(
    "name",
    [
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "Pipfile.lock",
        "conda-lock.yml",
        "requirements.txt",
        "package-lock.json",
        "Cargo.lock",
    ],
)
def test_a_lock_file_in_the_folder_becomes_the_environment(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert template(tmp_path)["transforms"][0]["environment"] == {"path": f"./{name}"}


def test_the_most_exact_lock_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "uv.lock").write_text("")
    (tmp_path / "pdm.lock").mkdir()
    assert template(tmp_path)["transforms"][0]["environment"] == {"path": "./uv.lock"}


def test_paths_are_in_it_as_they_are_given_with_a_name_where_they_give_none() -> None:
    document = template(
        inputs=["data/", "../more/data", "a b.csv", "..", ".hidden", "s3://bucket/x"],
        outputs=["out/", "made/out", ".", "/"],
        code=["src", "lib/src", ".", "..", "x.py"],
    )
    assert [(item["name"], item["path"]) for item in document["inputs"]] == [
        ("data", "data/"),
        ("data-2", "../more/data"),
        ("a_b.csv", "a b.csv"),
        ("input", ".."),
        ("hidden", ".hidden"),
        ("x", "s3://bucket/x"),
    ]
    assert document["outputs"] == [
        {"path": "out/"},
        {"path": "made/out", "name": "out-2"},
        {"path": ".", "name": "outputs"},
        {"path": "/", "name": "outputs-2"},
    ]
    assert [(root["path"], root.get("name")) for root in document["transforms"][0]["code"]] == [
        ("src", None),
        ("lib/src", "src-2"),
        (".", "code"),
        ("..", "code-2"),
        ("x.py", None),
    ]


def test_a_url_among_the_code_gets_a_name(tmp_path: Path) -> None:
    """The last segment of a URL gives a root none."""
    path = init(str(tmp_path / "contract.json"), code=["s3://bucket/x.py", "y/x.py"]).contract_file
    [transform] = parse_contract_file(Path(path).read_bytes()).transforms
    assert isinstance(transform.code, Roots)
    assert [source.name for source in transform.code.sources] == ["x.py", "x.py-2"]


@pytest.mark.parametrize(("code", "root"), [("./src", {"path": "./src"}), ("main.py", {"path": "main.py"})])
def test_one_root_of_code_with_a_name_is_no_array(code: str, root: object) -> None:
    assert template(code=[code])["transforms"][0]["code"] == root


def test_the_folder_itself_gets_a_name_and_is_without_what_is_made_or_read_there() -> None:
    """The name of a clone's folder must not count, nor must what lies in it besides the code."""
    document = template(inputs=[".", "raw docs", "../far"], outputs=["out", "*a/b", "/far"], code=["."])
    left_out = ["/contract.json", "/out", "/\\*a"]
    assert document["inputs"][0] == {"name": "input", "path": ".", "exclude": left_out}
    assert "exclude" not in document["inputs"][1]
    assert document["transforms"][0]["code"] == [{"path": ".", "name": "code", "exclude": [*left_out, "/raw\\ docs"]}]


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    for name in ("main.py", "run.sh", "tools/other.py", "python", "data.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "code", "tool"),
    [
        (["python", "main.py"], {"path": "./main.py"}, "main"),
        (["./run.sh", "-v"], {"path": "./run.sh"}, "run"),
        (["python", "./tools/../main.py", "x"], {"path": "./main.py"}, "main"),
        (["sh", "run.sh", "tools/other.py"], [{"path": "./run.sh"}, {"path": "./tools/other.py"}], "run"),
        (["python", "-m", "app"], {"path": "./ingest.py"}, "python"),
        (["/usr/bin/jq", "."], {"path": "./ingest.py"}, "jq"),
        (["python", "main.py", "tools"], {"path": "./main.py"}, "main"),
    ],
    ids=str,
)
def test_scripts_of_the_command_are_the_code_and_name_the_tool(
    scripts: Path, command: list[str], code: object, tool: str
) -> None:
    document = template(scripts, command=command)
    assert document["command"] == command
    transform = document["transforms"][0]
    assert (transform["code"], transform["tool"]) == (code, tool)


def test_inputs_outputs_and_files_elsewhere_are_no_code_though_the_command_names_them(scripts: Path) -> None:
    command = ["python", "main.py", "data.csv", "./tools/other.py", str(scripts / "run.sh")]
    document = template(scripts, command=command, inputs=["./data.csv"], outputs=["tools"])
    assert document["transforms"][0]["code"] == {"path": "./main.py"}


def test_code_that_is_given_stands_in_place_of_the_scripts(scripts: Path) -> None:
    document = template(scripts, command=["python", "main.py"], code=["tools"])
    assert document["transforms"][0]["code"] == {"path": "tools"}


TREE = {"raw_docs": None, "data/x": "", "src/main.py": "", "lib/src/a.py": "", "ingest.py": "", "run.sh": ""}


@pytest.fixture
def project_to_be(tmp_path: Path) -> Path:
    """A folder with all that the contract files below name."""
    folder = tmp_path / "new"
    for path, text in TREE.items():
        place = folder / path
        (place if text is None else place.parent).mkdir(parents=True, exist_ok=True)
        if text is not None:
            place.write_text(text)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inputs": ["data"], "outputs": ["out", "made/out"], "code": ["src", "lib/src"]},
        {"code": ["."]},
        {"inputs": ["."], "outputs": ["made/here"]},
        {"inputs": ["."], "outputs": ["data/made"]},
        {"inputs": ["data", "data/"], "code": ["./"]},
        {"command": ["sh", "run.sh", "data/x"], "inputs": ["data"]},
        {"command": ["./run.sh"], "outputs": ["data/made"], "inputs": ["data/x"]},
        {"command": ["python", "-m", "src.main"], "code": ["src"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("lock", [True, False])
def test_it_is_valid_as_it_is_once_its_paths_exist(
    pantry: Pantry, project_to_be: Path, options: dict[str, list[str]], lock: bool
) -> None:
    if lock:
        (project_to_be / "uv.lock").write_text("locked")
    path = init(str(project_to_be / "contract.json"), **options).contract_file
    contract = pantry.resolve(path).as_json()["contract"]
    assert contract["transforms"][0]["environment_hash"].startswith("sha256:") is lock
    assert contract["command"] == options.get("command", ["python", "ingest.py"])


def test_what_is_left_out_of_a_folder_is_no_more_than_what_would_be_new(project_to_be: Path) -> None:
    """Making `made/here` makes the folder `made` too; the input keeps what else is in `data`."""
    document = template(project_to_be, inputs=["."], outputs=["made/here", "data/made"])
    assert document["inputs"][0]["exclude"] == ["/contract.json", "/made", "/data/made"]


def test_what_it_describes_can_be_run_at_once(pantry: Pantry, project_to_be: Path) -> None:
    (project_to_be / "run.sh").write_text("mkdir -p made && cat data/x >made/here && echo ran >>../log")
    path = init(
        str(project_to_be / "contract.json"),
        inputs=["data"],
        outputs=["made/here"],
        code=["."],
        command=["sh", "run.sh"],
    ).contract_file
    assert [pantry.run(path).hit for _ in range(2)] == [False, True]
    assert [point.code for point in pantry.resolve(path).weak] == ["undeclared"]


names = st.text("ab.-~ *[]\\#!ä/", max_size=6)
paths = st.lists(names.filter(bool), max_size=3)


@given(inputs=paths, outputs=paths, code=paths, command=st.lists(names, max_size=3).map(lambda words: ["x", *words]))
def test_whatever_is_given_it_is_a_contract_file(**given: list[str]) -> None:
    parsed = parse_contract_file(contract_template("contract.json", **given))
    assert parsed.command == tuple(given["command"])
    assert [output.path for output in parsed.outputs] == (given["outputs"] or ["./processed_data"])


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_text("mine")
    with pytest.raises(InvalidInput, match="exists already; edit it, or name another file"):
        init(str(path))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("option", ["inputs", "outputs", "code", "command"])
def test_a_path_that_is_not_utf8_leaves_no_file(tmp_path: Path, option: str) -> None:
    path = tmp_path / "contract.json"
    with pytest.raises(InvalidInput, match="a path or argument is not UTF-8") as caught:
        init(str(path), **{option: [os.fsdecode(b"a\xff")]})
    assert caught.value.code == "E_NAME_ENCODING"
    assert not path.exists()


def test_it_is_relative_to_the_contract_file_and_not_to_the_current_folder(
    scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scripts / "uv.lock").write_text("")
    monkeypatch.chdir(scripts.parent)
    written = Path(init(f"{scripts.name}/new.json", command=["python", "main.py"]).contract_file).read_text()
    [transform] = json.loads(written)["transforms"]
    assert (transform["code"], transform["environment"]) == ({"path": "./main.py"}, {"path": "./uv.lock"})


@pytest.mark.parametrize("path", ["", "sub/"])
def test_a_contract_file_needs_a_name(path: str) -> None:
    with pytest.raises(InvalidInput, match="no name of a file"):
        init(path)
