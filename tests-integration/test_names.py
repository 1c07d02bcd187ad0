"""The name covers what made a result: another recipe is another name, the same recipe the same name everywhere.

What could change without another name, or changes it by accident, is said: on stderr, by `inspect`, in the provenance.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from audit import audit_cache
from examples import content_of
from forks import ForkedMachine, Forks
from machine import Machine
from neutral_git import git
from project import FILES, Project

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def machine(tmp_path: Path, forks: Forks) -> Machine:
    return ForkedMachine(forks, tmp_path / "machine")


@pytest.fixture
def project(machine: Machine) -> Project:
    return Project(machine)


@pytest.fixture
def other(tmp_path: Path, forks: Forks) -> Project:
    """The same project on another machine, in a folder with another name."""
    machine = ForkedMachine(forks, tmp_path / "other")
    return Project(machine, machine.work / "some where" / "else")


def hit(uri: str) -> str:
    return f"Hit: {uri}"


def seeded(uri: str) -> str:
    return f"Seeded: {uri}"


# ---- the command


def shell(script: str, *arguments: str) -> list[str]:
    return ["sh", "-c", f"mkdir -p out; {script} > out/r", *arguments]


COMMANDS = {
    "fast\n": shell("echo fast"),
    "accurate\n": shell("echo accurate"),
    "2\n": shell("echo $#", "sh", "a", "b"),
    "1\n": shell("echo $#", "sh", "a b"),
    "3\n": shell("echo $#", "sh", "a", "b", ""),
    "x\n": ["env", "X=x", *shell("echo $X")],
}


def test_another_command_is_another_result(project: Project) -> None:
    project.declare(command=None)
    uris = {}
    for result, command in COMMANDS.items():
        uris[result] = project.succeed("run", "--", *command).removeprefix("Seeded: ")
        assert uris[result] == project.uri(*command)
        project.remove("out")
    assert len({*uris.values()}) == len(COMMANDS)
    for result, command in COMMANDS.items():
        assert project.succeed("run", "--", *command) == hit(uris[result])
        assert (project.folder / "out" / "r").read_text() == result
        project.remove("out")


def test_a_command_is_the_same_in_the_file_and_beside_it(project: Project) -> None:
    command = ["sh", "src/make.sh"]
    project.declare(command=None)
    uri = project.succeed("run", "--", *command).removeprefix("Seeded: ")
    project.declare(command=command)
    assert (project.uri(), project.uri(*command)) == (uri, uri)
    assert project.succeed("run") == project.succeed("run", "--", *command) == hit(uri)
    assert project.runs() == 1
    shown = json.loads(project.succeed("inspect", uri, "--json"))
    assert shown["contract"]["command"] == shown["provenance"]["run"]["command"] == command
    assert "\ncommand\n  sh src/make.sh\n" in project.succeed("inspect", uri)


def test_another_command_than_that_of_the_contract_is_refused(project: Project) -> None:
    for verb in ("run", "id"):
        message = project.refuses(verb, "--", "sh", "src/make.sh", "--other")
        assert "contract.json, /command: the contract has another command: expected sh src/make.sh, got " in message
    assert project.runs() == 0


def test_what_was_seeded_without_a_command_is_no_hit_for_one(project: Project) -> None:
    project.declare(command=None)
    project.write({"out/r": "by hand\n"})
    done = project.call("seed")
    uri = done.stdout.strip().removeprefix("Seeded: ")
    what = "no command declared, so results of another command have the same URI"
    assert f"ctxpack: weak point: {what}\n" in done.stderr
    shown = json.loads(project.succeed("inspect", uri, "--json"))
    assert (shown["contract"]["command"], shown["weak"]) == ("undeclared", [{"code": "undeclared", "what": what}])
    assert shown["provenance"]["weak"] == shown["weak"]
    project.remove("out")
    assert project.succeed("run", "--", "sh", "src/make.sh").startswith("Seeded: ")
    assert (project.folder / "out" / "r").read_text() == FILES["in/a.txt"]


def test_the_command_finds_its_contract_and_uri(project: Project) -> None:
    copy = ["sh", "-c", 'mkdir -p out; cp "$CTXPACK_CONTRACT" out/contract; printf %s "$CTXPACK_URI" > out/uri']
    project.declare(command=copy, params={"dpi": 300}, variables={"MODEL": "m"})
    project.machine.succeed("run", "--contract", project.folder / "contract.json", folder=project.machine.home)
    made = project.folder / "out"
    assert (made / "contract").read_text() == project.succeed("id", "--canonical")
    assert json.loads((made / "contract").read_text())["transforms"][0]["params"] == {"dpi": 300}
    assert (made / "uri").read_text() == project.uri()


def test_a_map_has_a_name_of_its_own_and_is_not_run_as_one(project: Project) -> None:
    each = {"input": "docs", "output": "{path}.json"}
    members: list[dict[str, Any]] = [
        {},
        {"each": each},
        {"each": each | {"output": "{path}.txt"}},
        {"each": each | {"of": "entries"}},
        {"each": each | {"by": "content"}},
    ]
    uris = []
    for one in members:
        project.declare(**one)
        uris.append(project.uri())
    assert len({*uris}) == len(members)
    project.write({"out/a.txt.json": "one\n", "out/other": ""})
    assert "contract.json, /each: `run` makes one result, and this contract goes" in project.refuses("run")
    assert "'other': what lies here is the result of no item" in project.refuses("seed")
    assert (project.runs(), audit_cache(project.machine.cache)) == (0, [])


# ---- what the command needs and nothing covers

UPPER = "def change(text):\n    return text.upper()\n"
WRITE = "import os\nos.makedirs('out', exist_ok=True)\nopen('out/r', 'w').write(change(open('in/a.txt').read()))\n"

# What the code needs: the files, the code, the command, the file that it needs, what is said, the code that covers it.
NEEDS: dict[str, tuple[dict[str, str], Any, list[str], str, str, Any]] = {
    "a module beside the script": (
        {"main.py": "from helper import change\n" + WRITE, "helper.py": UPPER},
        {"path": "main.py"},
        ["python", "main.py"],
        "helper.py",
        'main.py imports helper.py, and no root covers it; add it to "code"',
        [{"path": "main.py"}, {"path": "helper.py"}],
    ),
    "a module of a package": (
        {"main.py": "from lib.text import change\n" + WRITE, "lib/text.py": UPPER},
        {"path": "main.py"},
        ["python", "main.py"],
        "lib/text.py",
        'main.py imports lib/text.py, and no root covers it; add it to "code"',
        [{"path": "main.py"}, {"path": "lib"}],
    ),
    "a relative import": (
        {"tool/__init__.py": "", "tool/main.py": "from .text import change\n" + WRITE, "tool/text.py": UPPER},
        [{"path": "tool/main.py"}, {"path": "tool/__init__.py"}],
        ["python", "-m", "tool.main"],
        "tool/text.py",
        'tool/main.py imports tool/text.py, and no root covers it; add it to "code"',
        {"path": "tool"},
    ),
    "a module that is run": (
        {"tool.py": UPPER + WRITE},
        {"path": "src"},
        ["python", "-m", "tool"],
        "tool.py",
        'the command imports tool.py, and no root covers it; add it to "code"',
        [{"path": "src"}, {"path": "tool.py"}],
    ),
    "a script that only the command names": (
        {"job.sh": "mkdir -p out; tr a-z A-Z < in/a.txt > out/r\n"},
        {"path": "src"},
        ["sh", "-c", "sh job.sh"],
        "job.sh",
        "the command names job.sh, and no input, code or environment covers it",
        [{"path": "src"}, {"path": "job.sh"}],
    ),
}


@pytest.mark.parametrize("case", NEEDS)
def test_what_is_needed_and_not_covered_is_said_and_when_covered_it_counts(project: Project, case: str) -> None:
    files, code, command, needed, what, covering = NEEDS[case]
    project.write(files)
    project.declare(code=code, command=command)
    assert [text for _, text in project.weak_points()] == [what]
    uri = project.succeed("run").removeprefix("Seeded: ")
    assert (project.folder / "out" / "r").read_text() == "ONE\n"
    edited = (project.folder / needed).read_text().replace("upper", "title").replace("A-Z", "b-za")
    project.write({needed: edited + "\n"})
    project.remove("out")
    done = project.call("run")
    assert (done.stdout, done.stderr) == (f"{hit(uri)}\n", f"ctxpack: weak point: {what}\n")
    shown = json.loads(project.succeed("inspect", uri, "--json"))
    assert what in [point["what"] for point in shown["provenance"]["weak"]]
    assert what in [point["what"] for point in shown["weak"]]

    project.declare(code=covering, command=command)
    assert project.weak_points() == []
    covered = project.succeed("run").removeprefix("Seeded: ")
    assert covered != uri
    assert (project.folder / "out" / "r").read_text() != "ONE\n"
    assert project.uri() == covered  # also after Python left its compiled modules
    project.write({needed: files[needed]})
    assert project.uri() not in (uri, covered)


# ---- variables and platform

SHOW_MODEL = ["sh", "-c", 'mkdir -p out; printf %s "$MODEL" > out/r']


def test_a_variable_that_matters_is_in_the_name(project: Project) -> None:
    project.declare(command=SHOW_MODEL, variables=["MODEL"])
    uris = set()
    for value in ("small", "large", "", "ü"):
        project.machine.environment["MODEL"] = value
        uri = project.succeed("run").removeprefix("Seeded: ")
        uris.add(uri)
        assert (project.folder / "out" / "r").read_text() == value
        assert json.loads(project.succeed("inspect", uri, "--json"))["contract"]["variables"] == {"MODEL": value}
        project.remove("out")
    assert len(uris) == 4
    project.declare(command=SHOW_MODEL)
    assert project.uri() not in uris


def test_a_value_in_the_contract_is_the_same_as_one_of_the_environment_and_reaches_the_command(
    project: Project,
) -> None:
    project.machine.environment["MODEL"] = "small"
    project.declare(command=SHOW_MODEL, variables=["MODEL"])
    uri = project.uri()
    project.machine.environment["MODEL"] = "another"
    project.declare(command=SHOW_MODEL, variables={"MODEL": "small"})
    assert project.succeed("run") == seeded(uri)
    assert (project.folder / "out" / "r").read_text() == "small"
    del project.machine.environment["MODEL"]
    assert project.succeed("run") == hit(uri)


def test_a_variable_that_is_not_set_or_no_text_is_named_and_nothing_runs(project: Project) -> None:
    project.declare(variables=["LANG", "MODEL_DIR"])
    project.machine.environment["LANG"] = "C.UTF-8"
    project.write({"out/r": ""})
    for verb in ("id", "seed", "run"):
        message = "contract.json, /variables: the environment variable MODEL_DIR is not set; set it, or give its value"
        assert message in project.refuses(verb)
        project.machine.environment["MODEL_DIR"] = os.fsdecode(b"\xff")
        assert "the value of the environment variable MODEL_DIR is not UTF-8" in project.refuses(verb)
        del project.machine.environment["MODEL_DIR"]
    assert (project.runs(), audit_cache(project.machine.cache)) == (0, [])


def test_a_variable_that_is_not_listed_reaches_the_command_and_is_not_in_the_name(project: Project) -> None:
    project.declare(command=SHOW_MODEL)
    project.machine.environment["MODEL"] = "small"
    uri = project.succeed("run").removeprefix("Seeded: ")
    assert (project.folder / "out" / "r").read_text() == "small"
    project.machine.environment["MODEL"] = "large"
    assert project.uri() == uri


SECRET = ["KEY", "API_KEY", "hf_token", "AWS_SECRET_ACCESS_KEY", "MyApp_ApiKey", "DB_PASSWORD", "A_Secret_B"]
HARMLESS = ["TOKENIZERS_PARALLELISM", "MONKEY", "KEYS", "PASSWORDLESS", "_", "ctxpack_mode"]


def test_values_of_secrets_stay_out_of_contracts(project: Project) -> None:
    project.machine.environment |= dict.fromkeys([*SECRET, *HARMLESS], "hush")
    project.declare(variables=SECRET)
    message = project.refuses("run")
    assert message.count("\n  /variables/") == len(SECRET)
    assert [name for name in SECRET if f'"{name}"' not in message] == []
    assert "hush" not in message
    project.declare(variables=dict.fromkeys(SECRET, "hush"))
    message = project.refuses("run")
    assert (message.count("\n  /variables/"), "hush" in message) == (len(SECRET), False)
    project.declare(variables=HARMLESS)
    assert project.succeed("run").startswith("Seeded: ")


def test_the_platform_is_in_the_name(project: Project) -> None:
    described: list[dict[str, str]] = [{}, {"os": "linux"}, {"os": "darwin"}, {"gpu": "h100"}, {"arch": "s390x"}]
    uris = []
    for platform in described:
        project.declare(platform=platform)
        uris.append(project.uri())
    assert len({*uris}) == len(described)
    project.declare(platform={"os": "auto", "arch": "auto"})
    auto = json.loads(project.succeed("id", "--json"))
    assert set(auto["contract"]["platform"]) == {"os", "arch"}
    assert "auto" not in auto["contract"]["platform"].values()
    project.declare(platform=auto["contract"]["platform"])
    assert project.uri() == auto["uri"]


# ---- where the project lies, and where it is called from


def test_neither_the_place_of_the_project_nor_that_of_the_caller_is_in_the_name(
    project: Project, other: Project
) -> None:
    here = ["sh", "-c", "mkdir -p out; pwd -P > out/r"]
    for one in (project, other):
        one.write({"jobs/nightly/in/a.txt": "one\n", "jobs/nightly/src/m": "m\n", "jobs/nightly/lock.txt": "\n"})
        one.declare(command=here)
        (one.folder / "contract.json").replace(one.folder / "jobs/nightly/contract.json")
    contract = project.folder / "jobs" / "nightly" / "contract.json"
    link = project.machine.home / "link"
    link.symlink_to(project.folder / "jobs")
    calls: list[tuple[Path, str | Path]] = [
        (contract.parent, "contract.json"),
        (contract.parent, contract),
        (contract.parent, "../nightly/./contract.json"),
        (project.folder, "jobs/nightly/contract.json"),
        (contract.parent / "in", "../contract.json"),
        (link / "nightly", "contract.json"),
        (project.machine.home, "link/nightly/contract.json"),
        (other.machine.home, link / "nightly" / "contract.json"),
    ]
    uris = set()
    for folder, path in calls:
        uris.add(project.machine.succeed("id", path, folder=folder))
        ran = project.machine.succeed("run", "--contract", path, folder=folder)
        uris.add(ran.partition(" ")[2])
        assert (contract.parent / "out" / "r").read_text() == f"{contract.parent.resolve()}\n"
        shutil.rmtree(contract.parent / "out")
        project.machine.succeed("rm", *uris)
    elsewhere = other.folder / "jobs" / "nightly" / "contract.json"
    assert {other.machine.succeed("id", elsewhere)} == uris
    assert len(uris) == 1


def test_a_program_of_the_project_is_found_from_everywhere(project: Project) -> None:
    project.write({"src/tool": "#!/bin/sh\nmkdir -p out; cp in/a.txt out/r\n"})
    (project.folder / "src" / "tool").chmod(0o755)
    project.declare(command=["./src/tool"])
    contract = project.folder / "contract.json"
    assert project.machine.succeed("run", "--contract", contract, folder=project.machine.home).startswith("Seeded: ")
    assert content_of(project.folder / "out") == {"r": (b"one\n", False)}


# ---- outputs


def test_a_result_is_never_served_under_another_name_of_an_output(project: Project) -> None:
    project.declare(command=None)
    project.write({"out/r": "result\n"})
    uri = project.succeed("seed").removeprefix("Seeded: ")
    project.declare(command=None, outputs=[{"path": "report"}])
    assert project.uri() != uri
    message = project.refuses("seed", "out")
    assert "the contract declares no such output: expected report, got out; say which one of these it is: NAME=out" in (
        message
    )
    assert project.succeed("seed", "report=out") == seeded(project.uri())
    project.declare(command=["true"], outputs=[{"path": "report"}])
    assert "report: the command did not make this output" in project.refuses("run")
    assert not (project.folder / "report").exists()
    shown = json.loads(project.succeed("inspect", uri, "--json"))
    assert shown["contract"]["outputs"] == [root["name"] for root in shown["outputs"]["roots"]] == ["out"]


@pytest.mark.parametrize(
    "output",
    [{"path": "./out/"}, {"path": "made/out"}, {"path": "made/by/hand", "name": "out"}, {"path": "../out"}],
    ids=lambda output: str(output["path"]),
)
def test_the_place_of_an_output_is_not_in_the_name(project: Project, output: dict[str, str]) -> None:
    uri = project.succeed("run").removeprefix("Seeded: ")
    project.remove("out")
    project.declare(outputs=[output])
    assert project.succeed("run") == hit(uri)
    assert content_of(project.folder / output["path"]) == {"r": (b"one\n", False)}
    assert project.runs() == 1


def test_the_order_of_outputs_is_not_in_the_name_and_each_name_is(project: Project) -> None:
    uris = []
    for paths in (["out", "ü"], ["ü", "out"], ["out"], ["out", "u\u0308"], ["out", "ü", "log.txt"], []):
        project.declare(outputs=[{"path": path} for path in paths])
        uris.append(project.uri())
    assert uris[0] == uris[1]
    assert len({*uris}) == 5


def test_a_canonical_contract_is_as_good_as_its_contract_file(project: Project, other: Project) -> None:
    uri = project.succeed("run").removeprefix("Seeded: ")
    project.write({"kept/contract.json": project.succeed("id", "--canonical")})
    kept = project.folder / "kept"
    assert project.machine.succeed("id", "kept/contract.json") == uri
    assert project.machine.succeed("run", "--contract", "kept/contract.json") == hit(uri)
    assert content_of(kept / "out") == content_of(project.folder / "out")
    other.write({"kept/contract.json": (kept / "contract.json").read_text(), "kept/out/r": "one\n"})
    assert other.succeed("seed", "--contract", "kept/contract.json") == seeded(uri)


# ---- outputs in what is hashed

# The members of the contract, what holds the output, and patterns that leave it out (for "exclude").
INSIDE: dict[str, tuple[dict[str, Any], str, str]] = {
    "the project as an input": ({"inputs": [{"name": "all", "path": "."}]}, "input all", "/out"),
    "the project as code": ({"code": [{"path": ".", "name": "all"}]}, "code of transform 0", "/out"),
    "the project as environment": ({"environment": {"path": "."}}, "environment of transform 0", "/out"),
    "the folder above": ({"inputs": [{"name": "all", "path": ".."}]}, "input all", "out"),
    "the project by a link": (
        {"inputs": [{"name": "all", "path": "../project", "symlinks": "follow"}]},
        "input all",
        "/out",
    ),
    "below an input": ({"outputs": [{"path": "in/out"}]}, "input docs", "out"),
    "an input itself": ({"outputs": [{"path": "in", "name": "out"}]}, "input docs", ""),
    "by a link to an input": ({"outputs": [{"path": "link/out"}]}, "input docs", "/out"),
    "in one of several roots": (
        {"code": [{"path": "src"}, {"path": "lib"}], "outputs": [{"path": "lib/out"}]},
        "code of transform 0",
        "/out",
    ),
}


@pytest.mark.parametrize("case", INSIDE)
def test_an_output_in_what_is_hashed_is_refused_before_anything_runs_every_time(project: Project, case: str) -> None:
    members, holder, pattern = INSIDE[case]
    (project.folder / "link").symlink_to("in")
    (project.folder.parent / "project").symlink_to(project.folder.name)
    project.write({"lib/m.py": "m = 1\n"})
    make = ["sh", "-c", "echo run >> ../ran; for to in out in/out lib/out; do mkdir -p $to; echo made > $to/r; done"]
    project.declare(command=make, **members)
    before = content_of(project.folder)
    for verb in ("id", "seed", "run", "run"):
        message = project.refuses(verb)
        assert (
            "the output lies in what is hashed, so making it would change the URI: expected a place outside " in message
        )
        assert holder in message
    assert content_of(project.folder) == before
    assert not (project.folder.parent / "ran").exists()
    assert audit_cache(project.machine.cache) == []
    if pattern:
        leave_out = {"exclude": [pattern, "in/out", "lib/out", "link", "project", "cache", "home", "ran"]}
        inputs = [one | leave_out for one in members.get("inputs", [{"name": "docs", "path": "in"}])]
        code: Any = members.get("code", {"path": "src"})
        code = [one | leave_out for one in code] if isinstance(code, list) else code | leave_out
        environment = members.get("environment", {"path": "lock.txt"}) | leave_out
        project.declare(command=make, **members | {"inputs": inputs, "code": code, "environment": environment})
        uri = project.uri()
        assert project.succeed("run") == seeded(uri)
        assert project.uri() == uri
        assert project.succeed("run") == hit(uri)


def test_an_output_that_is_given_beside_the_contract_may_not_lie_in_what_is_hashed_either(project: Project) -> None:
    project.write({"in/made/r": "made\n", "src/made/r": "made\n"})
    for place in ("in/made", "src/made", project.folder / "in" / "made"):
        assert "the output lies in what is hashed" in project.refuses("seed", f"out={place}")
    assert audit_cache(project.machine.cache) == []


# ---- what tools drop into code

DROPPINGS = {
    "__pycache__/": ["__pycache__/m.cpython-312.pyc", "lib/__pycache__/x"],
    "*.pyc": ["m.pyc", "lib/m.pyc"],
    ".git": [".git/HEAD", "lib/.git"],
    ".pytest_cache/": [".pytest_cache/v/cache/lastfailed"],
    ".mypy_cache/": [".mypy_cache/3.12/m.json"],
    ".ruff_cache/": [".ruff_cache/0.6.0/1"],
    "*.egg-info/": ["tool.egg-info/PKG-INFO", "lib/a.egg-info/x"],
    ".ipynb_checkpoints/": [".ipynb_checkpoints/n-checkpoint.ipynb"],
    ".venv/": [".venv/pyvenv.cfg"],
    "ctxpack.lock": ["ctxpack.lock", "lib/ctxpack.lock"],
    "*~": ["m.py~", "~", "lib/.m.py~"],
    ".*.sw[a-p]": [".m.py.swp", ".m.py.swo", ".m.py.swa"],
    ".sw[a-p]": [".swp"],
    ".*.kate-swp": [".m.py.kate-swp"],
    ".#*": [".#m.py"],
    "\\#*#": ["#m.py#", "##"],
}

# Not dropped, and near to what is.
KEPT = [
    "build/x",
    "dist/x",
    "node_modules/x",
    "env/x",
    ".gitignore",
    "__pycache__",
    "m.pyo",
    "tool.egg-info",
    ".venv",
    "pip.lock",
    "m.swp",
    ".m.py.swq",
    "#m.py",
    "x.#m.py",
]


def test_the_examples_hold_every_pattern_of_the_specification() -> None:
    text = (ROOT / "packages" / "ctxpack-identity" / "SPEC.md").read_text(encoding="utf-8")
    listed = re.search(r"```text\n(__pycache__/\n.*?)```", text, re.DOTALL)
    assert listed
    assert listed[1].splitlines() == list(DROPPINGS)


def test_what_tools_drop_into_code_is_not_in_the_name_and_what_people_write_is(project: Project) -> None:
    project.write({"src/lib/m.py": "m = 1\n", "src/m.py": "m = 2\n"})
    uri = project.uri()
    uris = []
    for name in KEPT:
        project.write({f"src/{name}": "kept"})
        uris.append(project.uri())
        (project.folder / "src" / name).unlink()
    assert len({uri, *uris}) == 1 + len(KEPT)
    for dropped in DROPPINGS.values():
        for name in dropped:
            project.write({f"src/{name}": "dropped"})
            assert project.uri() == uri, name
            (project.folder / "src" / name).unlink()


def test_a_project_full_of_droppings_has_no_weak_points_in_its_code(project: Project) -> None:
    project.write({"src/lib/m.py": "m = 1\n", "src/m.py": "m = 2\n"})
    uri = project.uri()
    project.write({f"src/{name}": "x" for names in DROPPINGS.values() for name in names})
    assert project.weak_points() == []
    assert project.uri() == uri


def test_folders_without_files_are_not_in_code_and_code_without_files_is_refused(project: Project) -> None:
    project.declare(code=[{"path": "src"}, {"path": "lib"}])
    (project.folder / "lib").mkdir()
    project.write({"src/a/b/c/": ""})
    both = project.uri()
    project.remove("src/a")
    project.declare(code=[{"path": "src"}])
    assert project.uri() == both
    for code in ({"path": "lib"}, [{"path": "lib"}], {"path": "src", "exclude": ["*"]}):
        project.declare(code=code)
        assert "code without any file; name what runs" in project.refuses("id")


def test_what_tools_drop_into_an_input_counts_and_is_said(project: Project) -> None:
    dropped = {".git": "git", ".ipynb_checkpoints/n.ipynb": "checkpoint", "a.txt~": "editor", ".a.txt.swp": "editor"}
    uris = {project.uri()}
    for name, code in dropped.items():
        project.write({f"in/sub/{name}": "dropped"})
        ((said, what),) = project.weak_points()
        assert (said, what.partition(": ")[0]) == (code, "input docs")
        assert f"sub/{name.partition('/')[0]}" in what
        uris.add(project.uri())
        project.remove(f"in/sub/{name.partition('/')[0]}")
    assert len(uris) == 1 + len(dropped)


# ---- clones


def commit(folder: Path) -> None:
    """Make folder a repository, if it is none, and commit all that git does not ignore."""
    git(folder, "init", "--quiet", "--template=", ".")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message=all")


def clone(folder: Path, to: Path) -> Path:
    git(folder, "clone", "--quiet", "--template=", str(folder), str(to))
    return to


def test_a_clone_has_the_name_of_the_folder_where_a_package_was_deleted(project: Project, tmp_path: Path) -> None:
    project.write({"src/old/m.py": "m = 1\n", "src/a.py": "a = 1\n", "src/old/__pycache__/m.cpython-312.pyc": "x"})
    project.write({".gitignore": "__pycache__\n"})
    commit(project.folder)
    before = project.uri()
    git(project.folder, "rm", "--quiet", "src/old/m.py")
    commit(project.folder)
    assert (project.folder / "src" / "old" / "__pycache__").exists()
    copy = clone(project.folder, tmp_path / "clone")
    assert not (copy / "src" / "old").exists()
    assert project.machine.succeed("id", copy / "contract.json") == project.uri() != before


WHOLE = [{"path": ".", "name": "project", "exclude": ["/in", "/out", "/contract.json", "/ran"]}]


def test_a_whole_project_has_one_name_where_it_was_used_and_in_each_clone(project: Project, tmp_path: Path) -> None:
    project.declare(code=WHOLE)
    project.write({".gitignore": "/out\n/ran\n__pycache__\n"})
    commit(project.folder)
    uri = project.uri()
    project.write({"src/__pycache__/m.cpython-312.pyc": "x", ".venv/bin/python": "x", "src/.make.sh.swp": "x"})
    assert project.succeed("run", "--push") == seeded(uri)
    assert project.uri() == uri
    user = Machine(tmp_path / "user", f"oci:{project.machine.home / '.local/share/ctxpack/registry'}")
    copy = clone(project.folder, user.work / "another name")
    git(copy, "worktree", "add", "--quiet", "--detach", str(user.work / "tree"))
    assert (user.work / "tree" / ".git").is_file()
    for folder in (copy, user.work / "tree"):
        assert user.succeed("id", folder=folder) == uri
        assert user.run("run", folder=folder).stdout == f"{hit(uri)}\n"
        assert (folder / "out" / "r").read_text() == "one\n"
        assert not (folder / "ran").exists()
        assert user.succeed("id", folder=folder) == uri
    git(copy, "gc", "--quiet")  # another .git
    (copy / "src" / "make.sh").write_text("true\n")
    assert user.succeed("id", folder=copy) != uri


IGNORES = {
    ".gitignore": "__pycache__/\n/out/\n/ran\n*.log\n!keep.log\nbuild/\n/local*\n",
    "src/.gitignore": "gen/\n!build/\n",
    "src/keep.log": "kept",
    "src/build/x": "kept, since a deeper file says so",
}
IGNORED = {
    "a.log": "x",
    "build/x": "x",
    "local.cfg": "x",
    "src/gen/x": "x",
    "src/deep/er/b.log": "x",
    "in/new.log": "x",
    "src/__pycache__/m.pyc": "x",
}


def test_with_gitignore_a_folder_full_of_ignored_files_has_the_name_of_a_fresh_clone(
    project: Project, tmp_path: Path
) -> None:
    code = [{"path": ".", "name": "all", "gitignore": True, "exclude": ["contract.json"]}]
    inputs = [{"name": "all", "path": ".", "gitignore": True, "exclude": ["contract.json", "/src"]}]
    project.declare(inputs=inputs, code=code)
    project.write(IGNORES)
    commit(project.folder)
    uri = project.uri()
    project.write(IGNORED)
    assert git(project.folder, "status", "--porcelain") == ""
    assert project.weak_points() == []
    assert project.uri() == uri
    assert project.succeed("run") == seeded(uri)  # its output is ignored, so it lies in nothing that is hashed
    copy = clone(project.folder, tmp_path / "clone")
    assert project.machine.succeed("id", folder=copy) == uri
    project.write({"src/deep/er/keep.log": "not ignored"})
    assert project.uri() != uri


def test_no_configuration_of_a_user_or_clone_decides_what_counts(project: Project) -> None:
    project.declare(code={"path": "src", "gitignore": True}, inputs=[{"name": "docs", "path": "in", "gitignore": True}])
    commit(project.folder)
    uri = project.uri()
    config = project.machine.home / ".config" / "git"
    config.mkdir(parents=True)
    (config / "ignore").write_text("make.sh\na.txt\n")
    (project.machine.home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/.config/git/ignore\n")
    exclude = project.folder / ".git" / "info"
    exclude.mkdir(exist_ok=True)
    (exclude / "exclude").write_text("make.sh\na.txt\nmine\n")
    assert project.uri() == uri
    project.write({"src/mine": "ignored by this clone only"})
    assert project.uri() != uri
    project.remove("src/mine")
    project.write({".gitignore": "a.txt\n"})  # a tracked file: patterns count, not what git tracks
    assert project.uri() != uri


GIT_SAID = "the history and settings of one clone, so two clones have two URIs; exclude .git"


@pytest.mark.parametrize("place", ["", "data/", "data/deep/"])
def test_a_clone_as_an_input_has_two_names_and_that_is_said(project: Project, tmp_path: Path, place: str) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(project.folder / "in", origin)
    commit(origin)
    project.remove("in/a.txt")
    (project.folder / "in" / place).mkdir(parents=True, exist_ok=True)
    uris = []
    for number in range(2):
        folder = clone(origin, project.folder / "in" / place / "repository")
        (folder / ".git" / "description").write_text(str(number))
        git_said = f"input docs: {place}repository/.git: {GIT_SAID}"
        assert project.weak_points() == [("git", git_said)]
        uris.append(project.uri())
        for cure in ({"exclude": [".git"]}, {"gitignore": True}):
            project.declare(inputs=[{"name": "docs", "path": "in", **cure}])
            assert project.weak_points() == []
            uris.append(project.uri())
        project.declare()
        shutil.rmtree(folder)
    assert uris[0] != uris[3]
    assert {*uris[1:3]} == {*uris[4:6]}
    assert len({*uris[1:3]}) == 1


# ---- what is said of files

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"  # noqa: E501
LFS_SAID = "a pointer of Git LFS, not the data; `git lfs pull` fetches it"
DOTENV = "often holds secrets, and differs between machines; exclude it unless the work depends on it"
BYTECODE = "compiled code without its source, which Python imports; exclude it, or add the source"
CRLF = "lines end in CRLF, in other files in LF; a checkout with other settings has another URI"
EDITOR = "left by an editor, and changes the URI; remove or exclude it"
MANAGER = "left by a file manager, and changes the URI; remove or exclude it"
LIES_IN_IT = "the contract file lies in it, so a change of its layout or labels changes the URI; exclude it"

# Files, members of the contract, and the weak points: code and text.
SAID: dict[str, tuple[Mapping[str, str], dict[str, Any], list[tuple[str, str]]]] = {
    "nothing": ({}, {}, []),
    "a pointer in an input": ({"in/b/m.bin": LFS}, {}, [("lfs", f"input docs: b/m.bin: {LFS_SAID}")]),
    "a pointer as an input": (
        {"m.bin": LFS},
        {"inputs": [{"name": "m", "path": "m.bin"}]},
        [("lfs", f"input m: m.bin: {LFS_SAID}")],
    ),
    "a pointer in code": ({"src/m.bin": LFS}, {}, [("lfs", f"code of transform 0: m.bin: {LFS_SAID}")]),
    "a pointer in one of several roots": (
        {"lib/m.bin": LFS},
        {"code": [{"path": "src"}, {"path": "lib"}]},
        [("lfs", f"code of transform 0: m.bin: {LFS_SAID}")],
    ),
    "a pointer as environment": ({"lock.txt": LFS}, {}, [("lfs", f"environment of transform 0: lock.txt: {LFS_SAID}")]),
    "pointers that are left out": (
        {"in/m.bin": LFS, "src/m.bin": LFS},
        {
            "inputs": [{"name": "docs", "path": "in", "exclude": ["*.bin"]}],
            "code": {"path": "src", "exclude": ["*.bin"]},
        },
        [],
    ),
    ".env in code": ({"src/.env": "A=1\n"}, {}, [("dotenv", f"code of transform 0: .env: {DOTENV}")]),
    ".env in an input": ({"in/x/.env.local": "A=1\n"}, {}, [("dotenv", f"input docs: x/.env.local: {DOTENV}")]),
    ".env as an example": ({"src/.env.example": "A=1\n"}, {}, []),
    ".env that is left out": ({"src/.env": "A=1\n"}, {"code": {"path": "src", "exclude": [".env"]}}, []),
    "code without source": ({"src/m.pyc": "x"}, {}, [("bytecode", f"code of transform 0: m.pyc: {BYTECODE}")]),
    "code beside its source": ({"src/m.pyc": "x", "src/m.py": "m = 1\n"}, {}, []),
    "bytecode in an input": ({"in/m.pyc": "x"}, {}, [("bytecode", f"input docs: m.pyc: {BYTECODE}")]),
    "CRLF beside LF": ({"src/b.py": "a\r\nb\r\n"}, {}, [("crlf", f"code of transform 0: b.py: {CRLF}")]),
    "CRLF beside LF in an input": ({"in/b.txt": "a\r\n"}, {}, [("crlf", f"input docs: b.txt: {CRLF}")]),
    "CRLF alone": ({"in/a.txt": "a\r\n", "in/b.txt": "b\r\n"}, {}, []),
    "CR LF in binary data": ({"in/b.bin": "\0a\r\n"}, {}, []),
    "an editor's file": ({"in/#b.txt#": "x"}, {}, [("editor", f"input docs: #b.txt#: {EDITOR}")]),
    "a file manager's file": ({"src/.DS_Store": "x"}, {}, [("manager", f"code of transform 0: .DS_Store: {MANAGER}")]),
    "the contract in its input": (
        {},
        {"inputs": [{"name": "all", "path": ".", "exclude": ["out"]}]},
        [("contract-file", f"input all: {LIES_IN_IT}")],
    ),
    "the contract in its code": (
        {},
        {"code": [{"path": ".", "name": "all", "exclude": ["/out", "/in"]}]},
        [("contract-file", f"code of transform 0: {LIES_IN_IT}")],
    ),
    "opaque code": (
        {},
        {"code": None, "code_hash": "opaque"},
        [
            ("opaque", "transform 0 (t): code is opaque, so a change of it goes unnoticed"),
            ("file", "the command names src/make.sh, and no input, code or environment covers it"),
        ],
    ),
    "no environment": (
        {},
        {"environment": None},
        [("undeclared", "transform 0 (t): no environment declared, so a library upgrade goes unnoticed")],
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_changes_the_name_by_accident_or_not_at_all_is_said(project: Project, case: str) -> None:
    files, members, said = SAID[case]
    project.write(files)
    project.declare(**members)
    assert project.weak_points() == said


def moving(where: str, value: str, fix: str = "a fixed version") -> tuple[str, str]:
    return "moving", f"{where}{value!r}, another thing tomorrow; name {fix}"


TOMORROW = "is another thing tomorrow; name a fixed version"
MOVING: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "latest": ({"tool_version": "latest"}, [("moving", f"transform 0 (t): 'latest' {TOMORROW}")]),
    "a branch": ({"tool_version": "main"}, [("moving", f"transform 0 (t): 'main' {TOMORROW}")]),
    "an image as the tool": (
        {"tool": "a/b:latest"},
        [("moving", f"transform 0 (a/b:latest): 'a/b:latest' {TOMORROW}")],
    ),
    "a model at a branch": (
        {"params": {"model": "org/model@main"}},
        [moving("transform 0 (t): params.model is ", "org/model@main")],
    ),
    "a revision": (
        {"params": {"models": [{"name": "org/m", "revision": "main"}]}},
        [moving("transform 0 (t): params.models.0.revision is ", "main")],
    ),
    "a container image": (
        {"platform": {"container-image": "python:latest"}},
        [moving("platform.container-image is ", "python:latest", "a digest or a fixed version")],
    ),
    "fixed versions": (
        {
            "tool_version": "2024.1-main.3",
            "params": {"model": "org/model@9f86d08", "mode": "latest", "branch": "r1", "text": "the latest: main"},
            "platform": {"container-image": "python@sha256:" + "0" * 64},
        },
        [],
    ),
}


@pytest.mark.parametrize("case", MOVING)
def test_a_version_that_others_move_is_said(project: Project, case: str) -> None:
    members, said = MOVING[case]
    project.declare(**members)
    assert project.weak_points() == said


def test_weak_points_are_said_by_every_verb_and_kept_for_others(project: Project, other: Project) -> None:
    location = f"oci:{project.machine.home / 'layout'}"
    project.machine.environment["CTXPACK_REGISTRY"] = other.machine.environment["CTXPACK_REGISTRY"] = location
    project.write({"in/m.bin": LFS, "src/.env": "A=1\n", "src/b.py": "b = 1\r\n"})
    project.declare(tool_version="latest", environment=None)
    points = project.weak_points()
    assert [code for code, _ in points] == ["undeclared", "moving", "dotenv", "lfs", "crlf"]
    lines = [f"ctxpack: weak point: {what}" for _, what in points]
    done = project.call("run", "--push")
    uri = done.stdout.strip().removeprefix("Seeded: ")
    assert done.stderr.splitlines()[: len(lines)] == lines
    assert project.call("run").stderr.splitlines() == lines
    assert project.call("seed").stderr.splitlines()[: len(lines)] == lines
    assert project.call("run", "--quiet").stderr == ""
    for one in (project, other):
        shown = json.loads(one.succeed("inspect", uri, "--json"))
        assert [(point["code"], point["what"]) for point in shown["weak"]] == points
        assert shown["provenance"]["weak"] == shown["weak"]
        text = one.succeed("inspect", uri)
        assert text.partition("\nweak points\n")[2].splitlines() == [f"  {what}" for _, what in points]


# ---- what changes while the command runs


@pytest.mark.parametrize(
    ("code", "script", "changed", "fix"),
    [
        (
            {"path": "n.ipynb"},
            "echo '{\"cells\": [1]}' > n.ipynb",
            "code of transform 0 (t)",
            "a notebook that runs in",
        ),
        ({"path": "src"}, "echo done >> src/run.log", "code of transform 0 (t)", "let the command write elsewhere"),
        ({"path": "src"}, "echo 'numpy==2.1.0' > lock.txt", "environment of transform 0 (t)", "run it again when"),
        ({"path": "src"}, "echo two >> in/a.txt", "input docs", "run it again when nothing writes to it"),
    ],
    ids=["notebook", "log", "lock file", "input"],
)
def test_what_the_command_changes_itself_is_named_and_nothing_is_seeded(
    project: Project, code: dict[str, str], script: str, changed: str, fix: str
) -> None:
    project.write({"n.ipynb": '{"cells": []}'})
    project.declare(code=code, command=["sh", "-c", f"{script}; mkdir -p out; echo made > out/r"])
    before = project.uri()
    message = project.refuses("run")
    assert f"{changed}: changed while the command ran, so nothing was seeded: expected {before}, got ctx://" in message
    assert fix in message
    assert audit_cache(project.machine.cache) == []


def test_what_the_command_drops_into_its_code_changes_nothing(project: Project) -> None:
    project.write({"src/lib.py": "", "src/main.py": "import lib, os\nos.mkdir('out')\nopen('out/r', 'w').close()\n"})
    project.declare(command=["python", "src/main.py"])
    uri = project.uri()
    assert project.succeed("run") == seeded(uri)
    assert list((project.folder / "src" / "__pycache__").iterdir())
    assert project.uri() == uri
