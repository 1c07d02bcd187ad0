"""The contract file that init writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, parse_contract_file
from ctxpack_identity.contractfile import Roots
from ctxpack_identity.exclude import compile_excludes
from ctxpack_pantry import Initialised, Pantry, init
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
    pantry: Pantry, project_to_be: Path, options: dict[str, Any], lock: bool
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
def test_whatever_is_given_it_is_a_contract_file(**given: Any) -> None:
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
    given: dict[str, Any] = {option: [os.fsdecode(b"a\xff")]}
    with pytest.raises(InvalidInput, match="a path or argument is not UTF-8") as caught:
        init(str(path), **given)
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


def written(folder: Path, **given: Any) -> tuple[Initialised, dict[str, Any]]:
    """Return what init returns, and the contract file that it writes in a folder."""
    initialised = init(str(folder / "contract.json"), **given)
    document: dict[str, Any] = json.loads(Path(initialised.contract_file).read_text())
    return initialised, document


def guessed(initialised: Initialised) -> dict[str, list[Any]]:
    """Return the values that were guessed, but for the version of the tool."""
    found: dict[str, list[Any]] = {}
    for guess in initialised.guesses:
        assert guess.why
        if guess.what != "tool-version":
            found.setdefault(guess.what, []).append(guess.value)
    return found


def make(folder: Path, *paths: str, **texts: str) -> None:
    """Make files, and folders where a path ends in a slash."""
    for path in paths:
        place = folder / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.write_text(texts.get(path, "x"))


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a package, a script, data, tests, and what is made, which git ignores."""
    folder = tmp_path / "repository"
    make(folder, "src/pkg/a.py", "tests/test_a.py", "docs/conf.py", "data/raw/a.csv", "data/processed/b.csv", "uv.lock")
    (folder / "ingest.py").write_text('OUT = "data/processed/x"')
    (folder / ".gitignore").write_text("processed/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    return folder


def test_a_project_in_git_shows_everything(repository: Path) -> None:
    initialised, document = written(repository)
    assert guessed(initialised) == {
        "command": [["python", "ingest.py"]],
        "input": ["./data/raw"],
        "code": ["./ingest.py", "./src"],
        "output": ["./data/processed"],
        "environment": ["./uv.lock"],
        "tool": ["ingest"],
    }
    assert initialised.placeholders == {}
    assert document["transforms"][0]["code"] == [{"path": "./ingest.py"}, {"path": "./src", "gitignore": True}]
    assert document["outputs"] == [{"path": "./data/processed"}]


def test_what_it_guessed_needs_no_change(pantry: Pantry, repository: Path) -> None:
    (repository / "ingest.sh").write_text("mkdir -p data/processed && cat data/raw/* >data/processed/all\n")
    (repository / "ingest.py").unlink()
    shutil.rmtree(repository / "data" / "processed")
    initialised, _ = written(repository)
    assert guessed(initialised)["command"] == [["sh", "ingest.sh"]]
    assert [pantry.run(initialised.contract_file).hit for _ in range(2)] == [False, True]
    assert (repository / "data" / "processed" / "all").read_text() == "x"


def test_nothing_is_guessed_where_nothing_shows(tmp_path: Path) -> None:
    initialised, _ = written(tmp_path)
    assert guessed(initialised) == {}
    assert initialised.placeholders == {
        "input": "./raw_docs",
        "code": "./ingest.py",
        "output": "./processed_data",
        "command": ["python", "ingest.py"],
        "tool": "name-of-the-tool",
    }
    assert initialised.as_json()["placeholders"][0] == {"what": "input", "value": "./raw_docs"}


def test_with_a_command_only_what_it_names_and_the_lock_file_are_guessed(repository: Path) -> None:
    initialised, document = written(repository, command=["python", "ingest.py"])
    assert guessed(initialised) == {"code": ["./ingest.py"], "environment": ["./uv.lock"], "tool": ["ingest"]}
    assert initialised.placeholders == {"input": "./raw_docs", "output": "./processed_data"}
    assert document["inputs"] == [{"name": "raw_docs", "path": "./raw_docs"}]


def test_what_is_given_is_not_guessed(repository: Path) -> None:
    given: dict[str, Any] = {"inputs": ["docs=./docs"], "outputs": ["report=./made/x"], "code": ["src"]}
    initialised, document = written(repository, **given, tool="t", tool_version="2", params=["k=3"])
    assert guessed(initialised) == {"command": [["python", "ingest.py"]], "environment": ["./uv.lock"]}
    assert document["inputs"] == [{"name": "docs", "path": "./docs"}]
    assert document["outputs"] == [{"path": "./made/x", "name": "report"}]
    [transform] = document["transforms"]
    assert (transform["tool"], transform["tool_version"], transform["params"]) == ("t", "2", {"k": 3})
    assert transform["code"] == {"path": "src"}


def test_many_places_with_code_are_the_project_as_a_whole(repository: Path) -> None:
    make(repository, *(f"p{number}/a.py" for number in range(7)))
    git(repository, "add", "--all")
    _, document = written(repository)
    assert document["transforms"][0]["code"] == [
        {
            "path": ".",
            "name": "code",
            "gitignore": True,
            "exclude": ["/contract.json", "/data/processed", "/data/raw"],
        }
    ]


def test_a_folder_in_which_git_tracks_what_it_ignores_is_hashed_as_it_is(repository: Path) -> None:
    make(repository, "src/processed/b.py")
    git(repository, "add", "--all", "--force")
    _, document = written(repository)
    assert document["transforms"][0]["code"] == [{"path": "./ingest.py"}, {"path": "./src"}]


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (["a.py"], ["./a.py"]),
        (["pkg/a.py", "pkg/data.csv", "README.md", "assets/logo.png"], ["./pkg"]),
        (["a.R", "b/c.jl", "web/app.ts", ".github/x.py", "setup.py"], ["./a.R", "./b", "./web"]),
        (["tests/a.py", "docs/conf.py", "README.md"], []),
        (["raw/a.py", "ä/b.py"], ["./raw", "./ä"]),
    ],
    ids=str,
)
def test_code_is_where_git_tracks_source_files(tmp_path: Path, files: list[str], code: list[str]) -> None:
    make(tmp_path / "r", *files, "untracked/u.py")
    git(tmp_path / "r", "init", "--quiet")
    git(tmp_path / "r", "add", "--", *files)
    initialised, _ = written(tmp_path / "r")
    assert guessed(initialised).get("code", []) == code


def test_what_git_tracks_and_is_not_there_is_no_code(repository: Path) -> None:
    shutil.rmtree(repository / "src")
    (repository / "ingest.py").unlink()
    initialised, _ = written(repository)
    assert "code" not in guessed(initialised)


def test_code_is_relative_to_a_contract_file_below_the_top(repository: Path) -> None:
    initialised, document = written(repository / "src")
    assert guessed(initialised)["code"] == ["./pkg"]
    assert document["transforms"][0]["environment"] == {"path": "../uv.lock"}


def test_a_repository_that_git_refuses_shows_no_code(repository: Path) -> None:
    (repository / ".git" / "HEAD").write_text("damaged")
    initialised, _ = written(repository)
    assert guessed(initialised)["code"] == ["./ingest.py"]


@pytest.mark.parametrize(
    ("files", "inputs"),
    [
        (["raw_docs/a"], ["./raw_docs"]),
        (["data/a", "data/b/c"], ["./data"]),
        (["data/raw/a", "data/interim/b"], ["./data/raw"]),
        (["data/raw/a", "data/input/b"], ["./data/input", "./data/raw"]),
        (["corpus/a", "input-files/b"], ["./corpus", "./input-files"]),
        (["raw_docs/", "in/.keep"], []),
        (["processed_data/a", "raw_old/b", ".data/c", "docs/d", "main/e", "data.csv"], []),
    ],
    ids=str,
)
def test_inputs_are_folders_that_are_called_so(tmp_path: Path, files: list[str], inputs: list[str]) -> None:
    make(tmp_path / "p", *files)
    initialised, _ = written(tmp_path / "p")
    assert guessed(initialised).get("input", []) == inputs


@pytest.mark.parametrize(
    ("script", "text", "output"),
    [
        ("ingest.sh", "mkdir -p out/deep; cat in/* > out/deep/x", "./out"),
        ("main.py", "Path('processed_data').mkdir()", "./processed_data"),
        ("main.py", "with open(f'results/{name}', 'w') as file: ...", "./results"),
        ("main.py", "d['output'] = {'results': x}; ok = a == 'out'; import output; f('/abs/out')", None),
        ("main.py", "open('out put/x', 'w')", "./out put"),
        ("run.sh", 'mkdir -p "my results"; sort in/a > "my results/a b"', "./my results"),
        ("main.py", "help = 'the output of this'; said = 'see out/x or else'; made = 'results/x'", "./results"),
        ("main.py", "open('../out/x'); sys.path.insert(0, 'lib/output.py')", None),
        ("main.sh", "cp in/a data/processed/b", "./data/processed"),
    ],
)
def test_an_output_is_what_the_script_names_so(tmp_path: Path, script: str, text: str, output: str | None) -> None:
    make(tmp_path / "p", "in/a")
    (tmp_path / "p" / script).write_text(text)
    initialised, _ = written(tmp_path / "p")
    assert guessed(initialised).get("output", [None]) == [output]


@pytest.mark.parametrize(
    ("files", "command"),
    [
        (["ingest.py", "main.py"], ["python", "ingest.py"]),
        (["src/main.py", "run.sh"], ["sh", "run.sh"]),
        (["scripts/ingest.sh"], ["sh", "scripts/ingest.sh"]),
        (["pipeline.R"], ["Rscript", "pipeline.R"]),
        (["embed.py", "setup.py", "test_embed.py", "notes.txt"], ["python", "embed.py"]),
        (["embed.py", "clean.py"], None),
        (["main.py/"], None),
    ],
    ids=str,
)
def test_the_command_is_a_script_that_is_called_so_or_the_only_one(
    tmp_path: Path, files: list[str], command: list[str] | None
) -> None:
    make(tmp_path / "p", *files)
    initialised, document = written(tmp_path / "p")
    assert guessed(initialised).get("command", [None]) == [command]
    assert document["command"] == (command or ["python", "ingest.py"])


def test_a_script_for_bash_is_run_by_bash(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/usr/bin/env bash\n")
    assert written(tmp_path)[1]["command"] == ["bash", "run.sh"]


@pytest.mark.parametrize(
    ("locks", "script", "environment"),
    [
        (["package-lock.json", "uv.lock"], "main.js", "./package-lock.json"),
        (["package-lock.json", "uv.lock"], "main.py", "./uv.lock"),
        (["pixi.lock", "requirements.txt"], "main.py", "./pixi.lock"),
        (["pylock.toml"], "main.sh", "./pylock.toml"),
        (["renv.lock", "Cargo.lock"], "main.R", "./renv.lock"),
        (["Cargo.lock"], "main.R", "./Cargo.lock"),
    ],
)
def test_the_lock_file_is_that_of_the_language(tmp_path: Path, locks: list[str], script: str, environment: str) -> None:
    make(tmp_path, *locks, script)
    initialised, _ = written(tmp_path)
    assert guessed(initialised)["environment"] == [environment]


def test_a_lock_file_above_counts_in_a_repository_only(tmp_path: Path) -> None:
    make(tmp_path, "uv.lock", "r/sub/deep/", "r/main.py")
    assert "environment" not in guessed(written(tmp_path / "r" / "sub")[0])
    git(tmp_path / "r", "init", "--quiet")
    assert "environment" not in guessed(written(tmp_path / "r" / "sub" / "deep")[0])
    make(tmp_path, "r/poetry.lock")
    (tmp_path / "r" / "sub" / "contract.json").unlink()
    assert guessed(written(tmp_path / "r" / "sub")[0])["environment"] == ["../poetry.lock"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=3", 3),
        ("k=3.5", 3.5),
        ("k=true", True),
        ("k=null", None),
        ('k={"a": [1, "b"]}', {"a": [1, "b"]}),
        ('k="3"', "3"),
        ("k=three", "three"),
        ("k=", ""),
        ("k=a=b", "a=b"),
        ("k=NaN", "NaN"),
        ("k={a}", "{a}"),
        ("k=01", "01"),
    ],
)
def test_the_value_of_a_param_is_json_or_else_a_text(tmp_path: Path, text: str, value: object) -> None:
    assert written(tmp_path, params=[text])[1]["transforms"][0]["params"] == {"k": value}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (["k"], "--param: not a param: expected NAME=VALUE, got k; give each once"),
        (["=3"], "expected NAME=VALUE, got =3"),
        (["k=1", "k=2"], "got k twice"),
        (['k={"a":1,"a":2}'], "a"),
        (["k=12345678901234567890"], "12345678901234567890"),
        (["k=-0"], "-0"),
        ({"k": float("nan")}, "nan"),
        ({"k": {1, 2}}, "set"),
        ({"k": "\ud800"}, "params, /k"),
    ],
    ids=str,
)
def test_a_param_that_no_contract_has_leaves_no_file(tmp_path: Path, params: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        init(str(tmp_path / "contract.json"), params=params)
    assert not (tmp_path / "contract.json").exists()


def test_a_name_is_given_before_the_path_unless_there_is_a_file_of_that_name(tmp_path: Path) -> None:
    make(tmp_path, "b=c")
    _, document = written(
        tmp_path, inputs=["b=c", "d=c", "s3://x/?y=z", "=e", "b_c=y"], outputs=["loud=made/x", "x"], code=["a=b"]
    )
    assert [(item["name"], item["path"]) for item in document["inputs"]] == [
        ("b_c-2", "b=c"),
        ("d", "c"),
        ("_y_z", "s3://x/?y=z"),
        ("_e", "=e"),
        ("b_c", "y"),
    ]
    assert document["outputs"] == [{"path": "made/x", "name": "loud"}, {"path": "x"}]
    assert document["transforms"][0]["code"] == {"path": "a=b"}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"inputs": ["a=x", "a=y"]}, "E_INPUT_NAME"),
        ({"outputs": ["a=x", "a=y"]}, "E_OUTPUT_NAME"),
        ({"outputs": ["s3://bucket/x"]}, "E_SCHEME"),
        ({"inputs": ["x"], "outputs": ["x"]}, "E_OUTPUT_INSIDE"),
        ({"code": ["src"], "outputs": ["./src/"]}, "E_OUTPUT_INSIDE"),
        ({"inputs": ["link"], "outputs": ["data/made"]}, "E_OUTPUT_INSIDE"),
        ({"tool": "a\udcff"}, "E_NAME_ENCODING"),
    ],
    ids=str,
)
def test_what_cannot_stand_together_is_refused_and_leaves_no_file(
    tmp_path: Path, given: dict[str, Any], code: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    with pytest.raises(InvalidInput) as caught:
        init(str(tmp_path / "contract.json"), **given)
    assert caught.value.code == code
    assert not (tmp_path / "contract.json").exists()


@pytest.mark.parametrize("name", ["raw_docs", "processed_data", "ingest.py"])
def test_a_placeholder_is_out_of_the_way_of_what_is_given(tmp_path: Path, name: str) -> None:
    for option in ("inputs", "outputs", "code"):
        folder = tmp_path / option
        folder.mkdir()
        written(folder, **{option: [name]})


# Names that mean something to init, and files and folders below them.
tops = st.sampled_from(
    [
        "in",
        "out",
        "data",
        "raw",
        "src",
        "results",
        "main.py",
        "run.sh",
        "a.py",
        "uv.lock",
        "contract.json",
        "link",
        "x y",
    ]
)
places = st.lists(tops, min_size=1, max_size=3).map("/".join)
layouts = st.lists(st.tuples(places, st.sampled_from(["file", "folder", "link"])), max_size=8)
scripts_texts = st.lists(places, max_size=2).map(lambda named: "".join(f"> {path}\n" for path in named))
flags = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(places | st.just("."), max_size=2),
        "outputs": st.lists(places | st.just("made"), max_size=2),
        "code": st.lists(places | st.just("."), max_size=2),
        "command": st.just(["sh", "run.sh"]),
        "params": st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | st.text(max_size=3), max_size=2),
        "tool": st.sampled_from(["t", "ü"]),
    },
)


@settings(max_examples=80)
@given(layout=layouts, text=scripts_texts, tracked=st.booleans(), given_flags=flags)
def test_in_any_project_the_file_is_a_contract_and_no_output_lies_in_what_is_hashed(
    layout: list[tuple[str, str]], text: str, tracked: bool, given_flags: dict[str, Any]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name, "p")
        folder.mkdir()
        fill(folder, layout, text)
        if tracked:
            git(folder, "init", "--quiet")
            git(folder, "add", "--all")
        there = os.path.lexists(folder / "contract.json")
        refused = ""
        try:
            initialised, document = written(folder, **given_flags)
        except InvalidInput as error:
            refused = error.code
        if refused:
            assert there or refused in ("E_OUTPUT_INSIDE", "E_OUTPUT_NAME")
            assert there or {"inputs", "outputs", "code"} & set(given_flags), "all of it was guessed"
            assert there or not os.path.lexists(folder / "contract.json")
            return
        assert not there
        parse_contract_file(Path(initialised.contract_file).read_bytes())
        roots = [*document["inputs"], *as_list(document["transforms"][0]["code"])]
        hashed = {*walked(folder, roots)}
        for output in document["outputs"]:
            place = os.path.realpath(folder / output["path"])
            assert place not in hashed
            if not os.path.lexists(place) and can_make(place):
                Path(place, "deep").mkdir(parents=True)
        assert hashed == {*walked(folder, roots)}


def as_list(roots: Any) -> list[dict[str, Any]]:
    return roots if isinstance(roots, list) else [roots]


def fill(folder: Path, layout: list[tuple[str, str]], text: str) -> None:
    """Make what can be made of a layout; what would lie below a file, or is there already, is left out."""
    for path, kind in layout:
        place = folder / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                place.mkdir()
            elif kind == "link":
                place.symlink_to("in", target_is_directory=True)
            else:
                place.touch(exist_ok=False)
                place.write_text(text)
        except (OSError, RuntimeError):
            continue


def can_make(place: str) -> bool:
    """Return whether all that is above place and is there is a folder."""
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    return os.path.isdir(place)


def walked(folder: Path, roots: list[dict[str, Any]]) -> Iterator[str]:
    """Yield where all that is hashed of roots lies, the roots too."""
    for root in roots:
        left_out = compile_excludes(root.get("exclude", []))
        top = os.path.realpath(folder / root["path"])
        yield top
        for parent, folders, files in os.walk(top):
            below = os.path.relpath(parent, top)
            start = "" if below == "." else f"{below}/"
            folders[:] = [name for name in folders if name != ".git" and not left_out(start + name, True)]
            yield from (os.path.join(parent, name) for name in folders)
            yield from (os.path.join(parent, name) for name in files if not left_out(start + name, False))
