"""Each command's result: exactly one line, or one JSON document with its schema, on stdout; the rest on stderr."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_process import COMMAND, write_contract

if TYPE_CHECKING:
    from cli_process import Cli

NOWHERE = "ctx://sha256:" + "0" * 64


@pytest.fixture
def uri(cli: Cli, project: Path) -> str:
    """The URI of the project's contract, whose pack is in the cache."""
    return cli("seed", "-q").out.strip()


@pytest.fixture
def broken(project: Path) -> Path:
    """The project, with a contract file broken.json besides, whose command cannot be started, and its own output."""
    document = json.loads((project / "contract.json").read_text()) | {"command": ["no-such-program"]}
    document["outputs"] = [{"path": "none"}]
    (project / "broken.json").write_text(json.dumps(document))
    return project


@pytest.fixture
def shared(cli: Cli, uri: str) -> str:
    """The same URI, whose pack is in the registry too."""
    assert cli("push", uri).status == 0
    return uri


def test_init_writes_a_contract_file_and_overwrites_none(cli: Cli) -> None:
    done = cli("init", "--tool", "t", "--tool-version", "1")
    assert done == (
        0,
        "contract.json\n",
        "ctxpack: input: ./raw_docs is a placeholder: nothing here shows it\n"
        "ctxpack: code: ./ingest.py is a placeholder: nothing here shows it\n"
        "ctxpack: output: ./processed_data is a placeholder: nothing here shows it\n"
        "ctxpack: command: python ingest.py is a placeholder: nothing here shows it\n"
        "ctxpack: fill it in, then: ctxpack id contract.json\n",
    )
    before = (cli.folder / "contract.json").read_text()
    again = cli("init")
    assert again == (2, "", "ctxpack: error: contract.json: exists already; edit it, or name another file\n")
    assert (cli.folder / "contract.json").read_text() == before


def test_init_says_what_it_guessed_and_why(cli: Cli) -> None:
    (cli.folder / "raw docs").mkdir()
    (cli.folder / "raw docs" / "a").write_text("x")
    (cli.folder / "run.sh").write_text("mkdir -p out && cat 'raw docs/a' >out/a")
    (cli.folder / "uv.lock").write_text("")
    (cli.folder / "pdm.lock").write_text("")
    done = cli("init", "--param", "k=[1]")
    assert done == (
        0,
        "contract.json\n",
        "ctxpack: command: sh run.sh (a script with such a name is here)\n"
        "ctxpack: input: ./raw docs (a folder with such a name is here)\n"
        "ctxpack: code: ./run.sh (the command names it)\n"
        "ctxpack: output: ./out (run.sh names it)\n"
        "ctxpack: environment: ./uv.lock (a lock file here; so is pdm.lock)\n"
        "ctxpack: tool: run (the command runs it)\n"
        "ctxpack: tool-version: 1.0 (another one gives another URI, whatever the code)\n"
        "ctxpack: look whether that is right, then: ctxpack id contract.json\n",
    )
    assert cli("run").status == 0
    assert (cli.folder / "out" / "a").read_text() == "x"


def test_init_with_a_command_says_what_it_guessed_of_it(cli: Cli) -> None:
    (cli.folder / "x.sh").write_text("mkdir out")
    assert cli("init", "--input", "in", "--", "sh", "x.sh").err == (
        "ctxpack: code: ./x.sh (the command names it)\n"
        "ctxpack: tool: x (the command runs it)\n"
        "ctxpack: tool-version: 1.0 (another one gives another URI, whatever the code)\n"
        "ctxpack: output: ./processed_data is a placeholder: nothing here shows it\n"
        "ctxpack: fill it in, then: ctxpack id contract.json\n"
    )


def test_init_refuses_what_is_no_param(cli: Cli) -> None:
    assert cli("init", "--param", "k").err == (
        "ctxpack: error: --param: not a param: expected NAME=VALUE, got k; give each once: --param top_k=5\n"
    )
    assert not (cli.folder / "contract.json").exists()


def test_init_with_json(cli: Cli) -> None:
    (cli.folder / "a").mkdir()
    document = cli("init", "a/c.json", "--json", "--input", "x", "--code", "y", "--output", "z", "--tool", "t").document
    assert document == {
        "schema": "ctxpack/init/v1",
        "contract_file": "a/c.json",
        "guesses": [
            {"what": "tool-version", "value": "1.0", "why": "another one gives another URI, whatever the code"}
        ],
        "placeholders": [{"what": "command", "value": ["python", "ingest.py"]}],
    }
    assert (
        cli("init", "missing/c.json").err
        == "ctxpack: error: missing/c.json: cannot be written: No such file or directory; "
        "check the disk and the folder's permissions, or name another file\n"
    )


def test_id_prints_the_uri_and_does_nothing_else(cli: Cli, project: Path) -> None:
    before = sorted(cli.folder.parent.rglob("*"))
    done = cli("id")
    assert done.status == 0
    assert done.err == ""
    assert done.out == cli("id", "contract.json").out == f"ctx://sha256:{done.out[13:77]}\n"
    assert sorted(cli.folder.parent.rglob("*")) == before


def test_the_canonical_bytes_hash_to_the_uri(cli: Cli, project: Path) -> None:
    canonical = cli("id", "--canonical")
    assert cli("id").out == f"ctx://sha256:{hashlib.sha256(canonical.out.encode()).hexdigest()}\n"
    assert json.loads(canonical.out)["schema"] == "ctxpack/contract/v1"


def test_id_with_json(cli: Cli, project: Path) -> None:
    document = cli("id", "--json").document
    assert set(document) == {"schema", "uri", "contract", "weak"}
    assert document["schema"] == "ctxpack/id/v1"
    assert document["uri"] == cli("id").out.strip()
    assert document["contract"] == json.loads(cli("id", "--canonical").out)
    assert document["weak"] == []


def test_a_command_after_the_dashes_is_the_contracts(cli: Cli, project: Path) -> None:
    written = cli("id").out
    write_contract(project, command=None)
    without = cli("id", "-q").out
    given = cli("id", "--", "sh", "ingest.sh")
    assert given == (0, written, "")
    assert cli("--json", "id", "contract.json", "--", "sh", "ingest.sh").document["contract"]["command"] == COMMAND
    assert cli("id", "-q", "--", "sh", "ingest.sh", "--json").out not in (written, without)
    shutil.rmtree(project / "processed_data")
    assert cli("run", "--", "sh", "ingest.sh").out == f"Seeded: {written}"
    assert cli("run", "sh", "ingest.sh").out == f"Hit: {written}"
    assert cli("run", "--offline", "--", "sh", "-c", "sh ingest.sh").out.startswith("Seeded: ")


@pytest.mark.parametrize(
    "line", ["id -- sh other.sh", "run -- sh other.sh", "run sh ingest.sh x", "--json id -- false"]
)
def test_a_command_that_differs_from_the_contracts_is_refused(cli: Cli, project: Path, line: str) -> None:
    shutil.rmtree(project / "processed_data")
    done = cli(*line.split())
    assert (done.status, done.out) == (2, "")
    if line.startswith("--json"):
        document = json.loads(done.err)
        told = {name: document[name] for name in ("code", "where", "expected", "got")}
        assert told == {
            "code": "E_COMMAND",
            "where": "contract.json, /command",
            "expected": "sh ingest.sh",
            "got": "false",
        }
    else:
        got = line.partition("sh ")[2]
        assert done.err == (
            "ctxpack: error: contract.json, /command: the contract has another command: "
            f"expected sh ingest.sh, got sh {got}; leave the command out, or change the one in the contract file\n"
        )
    assert not (project / "processed_data").exists()


def test_run_without_any_command_is_refused(cli: Cli, project: Path) -> None:
    write_contract(project, command=None)
    assert cli("run") == (
        2,
        "",
        "ctxpack: error: contract.json, /command: no command; say what makes the outputs: "
        '"command": ["sh", "run.sh"], or: ctxpack run -- sh run.sh\n',
    )


OPAQUE = [{"tool": "vision", "tool_version": "latest", "code_hash": "opaque"}]


def test_weak_points_are_hints_and_part_of_the_document(cli: Cli, project: Path) -> None:
    write_contract(project, command=None, transforms=OPAQUE)
    said = [
        ("undeclared", "no command declared, so results of another command have the same URI"),
        ("opaque", "transform 0 (vision): code is opaque, so a change of it goes unnoticed"),
        ("undeclared", "transform 0 (vision): no environment declared, so a library upgrade goes unnoticed"),
        ("moving", "transform 0 (vision): 'latest' is another thing tomorrow; name a fixed version"),
    ]
    hints = "".join(f"ctxpack: weak point: {what}\n" for _, what in said)
    assert (cli("id").status, cli("id").err) == (0, hints)
    assert cli("id", "-q").err == ""
    document = cli("id", "--json", "-q").document
    assert document["weak"] == [{"code": code, "what": what} for code, what in said]
    seeded = cli("seed")
    uri = cli("id", "-q").out.strip()
    assert seeded == (0, f"Seeded: {uri}\n", f"{hints}ctxpack: share it: ctxpack push {uri}\n")
    assert cli("inspect", uri, "--json").document["weak"] == document["weak"]
    write_contract(project, transforms=OPAQUE)
    uncovered = "ctxpack: weak point: the command names ingest.sh, and no input, code or environment covers it\n"
    miss = "ctxpack: miss: command changed since ctx://"
    assert cli("run").err.startswith("".join(hints.splitlines(keepends=True)[1:]) + uncovered + miss)
    assert cli("run", "-q").err == ""


FAULTY = {"inputs": [{"name": "a b", "path": "x"}], "transforms": [{"tool": "t", "tool_version": 1, "codes": "x\n"}]}


def test_each_fault_of_a_contract_has_a_line(cli: Cli) -> None:
    (cli.folder / "contract.json").write_text(json.dumps(FAULTY))
    done = cli("id")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        "ctxpack: error: contract.json: 4 faults",
        "  /inputs/0/name: expected 1 to 128 letters, digits, . _ and -, the first a letter, digit or _, "
        'got "a b"; rename the input',
        "  /transforms/0/codes: expected one of tool, tool_version, code, code_hash, environment, environment_hash, "
        'params, got "codes"; did you mean "code"?',
        '  /transforms/0: expected "code": {"path": …}, or "code_hash": a digest or "opaque", '
        'got neither; "opaque" is for code that cannot be hashed',
        "  /transforms/0/tool_version: expected a text, got 1; write it in quotes",
    ]


def test_the_faults_of_a_contract_are_in_the_document(cli: Cli) -> None:
    (cli.folder / "contract.json").write_text(json.dumps(FAULTY))
    done = cli("id", "--json")
    document = json.loads(done.err)
    assert (done.status, document["code"], document["exit"]) == (2, "E_INPUT_NAME", 2)
    assert [(fault["code"], fault["pointer"]) for fault in document["faults"]] == [
        ("E_INPUT_NAME", "/inputs/0/name"),
        ("E_UNKNOWN_FIELD", "/transforms/0/codes"),
        ("E_CODE_MISSING", "/transforms/0"),
        ("E_TYPE", "/transforms/0/tool_version"),
    ]
    assert document["faults"][3] == {
        "code": "E_TYPE",
        "pointer": "/transforms/0/tool_version",
        "expected": "a text",
        "got": "1",
        "fix": "write it in quotes",
    }
    assert done.err.count("\n") == 1
    missing = json.loads(cli("id", "--json", "missing.json").err)
    assert "faults" not in missing


def test_one_fault_is_one_line(cli: Cli, project: Path) -> None:
    write_contract(project, salt=1)
    assert cli("id") == (
        2,
        "",
        "ctxpack: error: contract.json: /salt: expected a text, got 1; write it in quotes\n",
    )


def test_seed_prints_the_uri_and_hints_what_to_do_next(cli: Cli, project: Path) -> None:
    uri = cli("id").out.strip()
    assert cli("seed", "./processed_data", "--contract", "contract.json") == (
        0,
        f"Seeded: {uri}\n",
        f"ctxpack: share it: ctxpack push {uri}\n",
    )
    assert cli("seed") == (0, f"Seeded: {uri}\n", "ctxpack: the cache had it already\n")
    assert cli("seed", "--quiet").err == ""


TWO = [{"path": "./processed_data"}, {"path": "notes.txt", "name": "notes"}]


def test_seed_takes_an_output_that_lies_elsewhere_by_name(cli: Cli, project: Path) -> None:
    write_contract(project, outputs=TWO)
    (project / "elsewhere").mkdir()
    (project / "elsewhere" / "mine.txt").write_text("n")
    uri = cli("id").out.strip()
    assert cli("seed", "-q", "notes=elsewhere/mine.txt") == (0, f"{uri}\n", "")
    held = cli("inspect", uri, "--json").document["outputs"]
    assert held["roots"] == [{"name": "notes", "type": "file"}, {"name": "processed_data", "type": "folder"}]
    cli("pull", uri, "-o", "there")
    assert (project / "there" / "notes").read_text() == "n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "elsewhere",
            "contract.json: the contract declares no such output: expected notes, processed_data, got elsewhere",
        ),
        ("other=elsewhere", "the contract declares no such output: expected notes, processed_data, got other"),
        ("notes=raw_docs", "output 'notes' at raw_docs: the output lies in what is hashed"),
        ("notes=", "the contract declares no such output: expected notes, processed_data, got notes="),
    ],
)
def test_seed_refuses_what_the_contract_does_not_declare(
    cli: Cli, project: Path, given: str, message: str, tmp_path: Path
) -> None:
    write_contract(project, outputs=TWO)
    (project / "elsewhere").mkdir()
    done = cli("seed", given)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert cli("ls").out == ""


def test_seed_with_json(cli: Cli, project: Path) -> None:
    document = cli("seed", "--json").document
    assert document["schema"] == "ctxpack/seed/v1"
    assert document["uri"] == cli("id").out.strip()
    assert document["new"] is True
    assert (document["outputs"]["files"], document["outputs"]["size"]) == (1, 5)
    assert cli("seed", "--json").document == document | {"new": False}


def test_push_says_where_the_pack_is_now(cli: Cli, uri: str, tmp_path: Path) -> None:
    layout = f"oci:{tmp_path}/home/.local/share/ctxpack/registry"
    alone = (
        "ctxpack: only this machine sees that registry; name one for everybody with --registry or CTXPACK_REGISTRY\n"
    )
    now, already = f"ctxpack: {layout} has it now\n", f"ctxpack: {layout} had it already; nothing was sent\n"
    assert cli("push", uri) == (0, f"Pushed: {uri}\n", now + alone)
    assert cli("push", uri) == (0, f"Pushed: {uri}\n", already + alone)
    assert cli("push", uri, "--registry", layout) == (0, f"Pushed: {uri}\n", already)
    assert cli("push", uri, "-q") == (0, f"{uri}\n", "")


def test_push_with_json(cli: Cli, uri: str) -> None:
    first = cli("push", uri, "--json").document
    assert first["schema"] == "ctxpack/push/v1"
    assert first["image"].startswith("sha256:")
    assert first["new"] is True
    assert first["sent"] > 0
    assert cli("push", uri, "--json").document == first | {"new": False, "sent": 0}


def test_pull_prints_the_folder_that_holds_the_outputs(cli: Cli, shared: str, tmp_path: Path) -> None:
    done = cli("pull", shared, env={"CTXPACK_CACHE": "elsewhere"})
    assert done.status == 0
    layout = f"oci:{tmp_path}/home/.local/share/ctxpack/registry"
    assert re.fullmatch(rf"ctxpack: fetched [\d.]+ KiB from {layout}\n", done.err)
    assert cli("pull", shared, env={"CTXPACK_CACHE": "elsewhere"}) == (0, done.out, "")
    assert done.out == f"elsewhere/v1/packs/{shared.removeprefix('ctx://sha256:')}/artifacts\n"
    assert (cli.folder / done.out.strip() / "a.txt").read_text() == "ALPHA"


def test_pull_into_a_folder(cli: Cli, shared: str) -> None:
    assert cli("pull", shared, "-o", "there") == (0, "there\n", "")
    assert (cli.folder / "there" / "a.txt").read_text() == "ALPHA"
    assert cli("pull", shared, "-o", "there").status == 0
    (cli.folder / "there" / "a.txt").write_text("my own notes")
    refused = cli("pull", shared, "-o", "there")
    assert refused.status == 2
    assert "there: something else is there already" in refused.err
    assert cli("pull", shared, "-o", "there", "--force").status == 0
    assert (cli.folder / "there" / "a.txt").read_text() == "ALPHA"


def test_pull_with_json(cli: Cli, shared: str) -> None:
    hit = {"schema": "ctxpack/pull/v1", "uri": shared, "folder": "there", "received": 0, "registry": None}
    assert cli("pull", shared, "-o", "there", "--json").document == hit
    miss = cli("pull", shared, "-o", "there", "--json", env={"CTXPACK_CACHE": "elsewhere"}).document
    assert miss["received"] > 0
    assert miss["registry"].startswith("oci:/")
    assert miss == hit | {name: miss[name] for name in ("received", "registry")}


ELSEWHERE = {"CTXPACK_CACHE": "elsewhere"}


@pytest.fixture
def notes(cli: Cli, project: Path) -> str:
    """The URI of a pack with notes/b.md and notes/c.tmp besides a.txt; it is in the registry and in the cache."""
    (project / "processed_data" / "notes").mkdir()
    (project / "processed_data" / "notes" / "b.md").write_text("b")
    (project / "processed_data" / "notes" / "c.tmp").write_text("c")
    uri = cli("seed", "-q").out.strip()
    cli("push", "-q", uri)
    return uri


@pytest.mark.parametrize(
    ("environment", "said"),
    [({}, "from the cache"), (ELSEWHERE, r"fetched [\d.]+ K?i?B from oci:/.*/registry")],
    ids=["from the cache", "from the registry"],
)
def test_pull_include_puts_only_matching_files_into_the_folder(
    cli: Cli, notes: str, environment: dict[str, str], said: str
) -> None:
    done = cli("pull", notes, "--include", "notes/", "--include", "!*.tmp", "-o", "there", env=environment)
    assert (done.status, done.out) == (0, "there\n")
    assert re.fullmatch(rf"ctxpack: 1 file, 1 B; {said}\n", done.err)
    assert [path.relative_to(cli.folder).as_posix() for path in (cli.folder / "there").rglob("*")] == [
        "there/notes",
        "there/notes/b.md",
    ]
    assert cli("ls", "-q", env=ELSEWHERE).out == ""


def test_pull_include_with_json(cli: Cli, notes: str) -> None:
    line = ["pull", notes, "--include", "*.txt", "--include", "notes", "-o", "there", "--json"]
    hit = {"schema": "ctxpack/pull/v1", "uri": notes, "folder": "there", "files": 3, "size": 7, "received": 0}
    hit |= {"registry": None}
    assert cli(*line).document == hit
    (cli.folder / "there" / "a.txt").write_text("my own notes")
    refused = cli(*line, env=ELSEWHERE)
    assert (refused.status, refused.out, json.loads(refused.err)["code"]) == (2, "", "E_OCCUPIED")
    miss = cli(*line, "--force", env=ELSEWHERE).document
    assert miss["received"] > 0
    assert miss["registry"].startswith("oci:/")
    assert miss == hit | {name: miss[name] for name in ("received", "registry")}


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        (
            "--include *.txt",
            2,
            "--include needs a folder to put the files in; name one with --output: the cache holds whole packs only",
        ),
        (
            "--include *.pdf -o there",
            2,
            "*.pdf: nothing in the pack matches: got a pack of a.txt, notes/b.md, notes/c.tmp; "
            "name what it holds, as in .gitignore",
        ),
        ("--include * -o", 2, "expected one argument"),
        ("--include * -o ", 2, "output: the name of the folder is empty; name one, or leave it out"),
    ],
)
@pytest.mark.parametrize("environment", [{}, ELSEWHERE], ids=["in the cache", "in the registry"])
def test_a_wrong_pull_include_says_why_and_writes_nothing(
    cli: Cli, notes: str, line: str, status: int, message: str, environment: dict[str, str]
) -> None:
    done = cli("pull", notes, *line.split(" "), env=environment)
    assert (done.status, done.out) == (status, "")
    assert message in done.err
    assert not (cli.folder / "there").exists()


def test_inspect_shows_what_made_a_pack_that_is_only_in_the_registry(cli: Cli, shared: str) -> None:
    done = cli("inspect", shared, env={"CTXPACK_CACHE": "elsewhere"})
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{shared}\nfound in   oci:")
    shown = (
        "\n  tr 9.1\n",
        "    code         sha256:",
        "  raw_docs     sha256:",
        "\ncommand\n  sh ingest.sh\n",
        " layers\n",
    )
    for said in shown:
        assert said in done.out
    assert "weak points" not in done.out
    assert not (cli.folder / "elsewhere").exists()


def test_inspect_shows_variables_platform_and_weak_points(cli: Cli, project: Path) -> None:
    write_contract(
        project,
        command=None,
        variables=["MODEL"],
        platform={"os": "linux", "gpu": "a100"},
        salt="again",
    )
    environment = {"MODEL": "large v2"}
    uri = cli("id", "-q", env=environment).out.strip()
    cli("seed", "-q", env=environment)
    lines = cli("inspect", uri).out.splitlines()
    start = lines.index("command")
    assert lines[start + 1 : start + 5] == [
        "  undeclared",
        '  variables    {"MODEL": "large v2"}',
        '  platform     {"gpu": "a100", "os": "linux"}',
        '  salt         "again"',
    ]
    assert lines[-2:] == ["weak points", "  no command declared, so results of another command have the same URI"]


def test_a_variable_that_is_not_set_is_named(cli: Cli, project: Path) -> None:
    write_contract(project, variables=["MODEL"])
    done = cli("id")
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert "the environment variable MODEL is not set" in done.err


def test_inspect_with_json(cli: Cli, shared: str) -> None:
    here, there = cli("inspect", shared, "--json").document, cli("inspect", shared, "--json", "--skip-cache").document
    assert here["schema"] == there["schema"] == "ctxpack/inspection/v1"
    assert "image" not in here
    assert there["found_in"].startswith("oci:")
    same = ("uri", "contract", "outputs", "provenance", "weak")
    assert [here[name] for name in same] == [there[name] for name in same]


@pytest.mark.parametrize("line", ["run", "run -- sh ingest.sh", "run sh ingest.sh"])
def test_run_makes_the_outputs_once(cli: Cli, project: Path, line: str) -> None:
    shutil.rmtree(project / "processed_data")
    uri = cli("id").out.strip()
    assert cli(*line.split()) == (0, f"Seeded: {uri}\n", "")
    shutil.rmtree(project / "processed_data")
    assert cli(*line.split()) == (0, f"Hit: {uri}\n", "")
    assert (project / "processed_data" / "a.txt").read_text() == "ALPHA"


def test_run_runs_in_the_folder_of_the_contract_file(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / "processed_data")
    uri = cli("id").out.strip()
    below = project / "below"
    below.mkdir()
    elsewhere = type(cli)(below, cli.environment)
    assert elsewhere("run", "--contract", "../contract.json", "--", "sh", "ingest.sh") == (0, f"Seeded: {uri}\n", "")
    assert (project / "processed_data" / "a.txt").read_text() == "ALPHA"
    assert list(below.iterdir()) == []


def test_the_command_finds_its_contract_and_uri(cli: Cli, project: Path) -> None:
    script = 'mkdir -p processed_data; cat "$CTXPACK_CONTRACT" >processed_data/c; echo "$CTXPACK_URI" >processed_data/u'
    shutil.rmtree(project / "processed_data")
    write_contract(project, command=["sh", "-c", script])
    uri = cli("run").out.removeprefix("Seeded: ")
    assert (project / "processed_data" / "u").read_text() == uri
    assert (project / "processed_data" / "c").read_text() == cli("id", "--canonical").out


def test_run_with_json(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / "processed_data")
    write_contract(project, command=["sh", "-c", "echo loud; sh ingest.sh"])
    uri = cli("id").out.strip()
    command = ("run", "--json", "--push")
    first = cli(*command)
    assert {"schema": "ctxpack/run/v1", "uri": uri, "hit": False, "status": 0}.items() <= first.document.items()
    assert first.document["pushed"]["new"] is True
    assert first.err.startswith("loud\n")
    second = cli(*command).document
    assert {"schema": "ctxpack/run/v1", "uri": uri, "hit": True, "status": 0}.items() <= second.items()
    assert second["pushed"]["new"] is False
    assert cli("inspect", uri, "--skip-cache", "-q").status == 0


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 130", 130)])
def test_run_exits_with_the_status_of_a_failed_command(cli: Cli, project: Path, script: str, status: int) -> None:
    shutil.rmtree(project / "processed_data")
    write_contract(project, command=["sh", "-c", script])
    done = cli("run")
    assert done == (status, "", f"ctxpack: the command failed with status {status}; nothing was seeded\n")
    assert cli("ls").out == ""


def test_ls_shows_a_line_for_each_pack_the_last_used_first(cli: Cli, uri: str) -> None:
    assert cli("ls").out == f"{uri[13:25]}     now       5 B  tr\n"
    write_contract(cli.folder, params={"other": True}, labels={"team": "search"})
    other = cli("seed", "-q").out.removesuffix("\n")
    for name, used in ((uri, 4e9), (other, 3e9)):
        os.utime(Path(cli.environment["HOME"], ".cache/ctxpack/v1/used", name[13:]), (used, used))
    assert cli("ls").out == f"{uri[13:25]}     now       5 B  tr\n{other[13:25]}     now       5 B  tr  team=search\n"
    assert cli("ls", "-q").out == f"{uri}\n{other}\n"
    assert cli("ls", "-q", "--label", "team").out == f"{other}\n"
    assert cli("ls", "-q", "--label", "team=ads") == (0, "", "")
    assert cli("ls", "--tool", "sed") == (0, "", "ctxpack: no cached pack is like that\n")
    assert [pack["uri"] for pack in cli("ls", "--json", "--sort", "uri").document["packs"]] == sorted([uri, other])


def test_ls_in_long_form_shows_whole_uris_files_times_and_labels(cli: Cli, uri: str) -> None:
    line = cli("ls", "--long").out
    assert line.startswith(f"{uri}       5 B        1 file  20")
    assert line.endswith("Z  tr\n")


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("80", 80), ("", 80), ("0", 80), ("x", 80)])
def test_ls_fits_the_terminal(cli: Cli, project: Path, columns: str, width: int) -> None:
    write_contract(project, labels={"label": "\x1b[2J" + "l" * 1000})
    cli("seed")
    line = cli("ls", env={"COLUMNS": columns}).out.removesuffix("\n")
    assert len(line) == width
    assert line.isprintable()


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("--sort", "age"), "expected used, created, size, tool, uri, got 'age'"),
        (("--since", "7y"), "such as 2026-11-01, got '7y'"),
        (("--label", "=x"), "expected KEY=VALUE, or KEY, got '=x'"),
    ],
)
def test_ls_refuses_what_it_cannot_list_by(cli: Cli, arguments: tuple[str, ...], allowed: str) -> None:
    done = cli("ls", *arguments)
    assert (done.status, done.out) == (2, "")
    assert allowed in done.err


def test_inspect_lists_files_of_outputs_and_inputs(cli: Cli, uri: str) -> None:
    assert cli("inspect", uri, "--files") == (0, "     5 B  a.txt\n", "")
    assert cli("inspect", uri, "--inputs", "raw_docs") == (0, "     5 B  a.txt\n", "")
    document = cli("inspect", uri, "--inputs", "raw_docs", "--json").document
    assert (document["schema"], document["uri"], document["input"]) == ("ctxpack/files/v1", uri, "raw_docs")
    assert [(entry["path"], entry["size"]) for entry in document["entries"]] == [("a.txt", 5)]
    done = cli("inspect", uri, "--inputs", "docs")
    assert (done.status, done.out) == (2, "")
    assert "expected one of raw_docs, got 'docs'" in done.err
    assert cli("inspect", uri, "--inputs", "raw_docs", "--files").status == 2


def test_lineage_is_a_tree_a_graph_or_a_document(cli: Cli, uri: str) -> None:
    tree = cli("lineage", uri)
    assert (tree.status, tree.err) == (0, "")
    first, code, source = tree.out.splitlines()
    assert first.startswith(f"{uri}  tr 9.1  20")
    assert code.startswith("├── code of tr 9.1: sha256:")
    assert source.startswith("└── raw_docs: sha256:")
    assert cli("lineage", uri, "--format", "mermaid").out.startswith("flowchart LR\n")
    assert cli("lineage", uri, "--format", "dot").out.startswith("digraph lineage {\n")
    document = cli("lineage", uri, "--json").document
    assert document["packs"][0]["uri"] == uri
    assert cli("lineage", uri, "--format", "json").document == document
    assert cli("lineage", uri, "--format", "dot", "--json").document == document
    done = cli("lineage", uri, "--format", "svg")
    assert (done.status, done.out) == (2, "")
    assert "expected one of text, mermaid, dot, json, got 'svg'" in done.err


def test_lineage_says_how_packs_are_found_that_are_not_in_the_cache(cli: Cli, shared: str) -> None:
    write_contract(cli.folder, inputs=[{"name": "text", "uri": shared}])
    made = cli("seed", "-q").out.removesuffix("\n")
    cli("rm", shared)
    done = cli("lineage", made)
    assert f"└── text: {shared}, not found\n" in done.out
    assert done.err == "ctxpack: 1 pack is not in the cache; --ask-registry looks in the registry, too\n"
    done = cli("lineage", made, "--ask-registry")
    assert f"└── text: {shared}  tr 9.1  20" in done.out
    assert "    └── raw_docs: sha256:" in done.out
    assert done.err == ""


def test_ls_of_an_empty_cache_says_so_in_a_hint(cli: Cli) -> None:
    assert cli("ls") == (0, "", "ctxpack: the cache holds no packs yet\n")
    assert cli("ls", "--json", "-q") == (0, '{\n  "packs": [],\n  "schema": "ctxpack/ls/v1"\n}\n', "")


def test_ls_with_json_shows_a_damaged_pack(cli: Cli, uri: str, tmp_path: Path) -> None:
    [pack] = cli("ls", "--json").document["packs"]
    assert (pack["uri"], pack["files"], pack["size"], pack["tools"]) == (uri, 1, 5, ["tr"])
    manifest = Path(pack["folder"], "manifest.json")
    manifest.chmod(0o644)
    manifest.write_text("{}")
    assert cli("ls", "--json").document["packs"] == [
        {"uri": uri, "folder": pack["folder"], "used": pack["used"], "damaged": True}
    ]
    assert cli("ls") == (0, f"{uri[13:25]}     now  damaged; ctxpack rm removes it\n", "")
    assert cli("ls", "--long").out == f"{uri}  damaged; ctxpack rm removes it\n"
    assert cli("rm", uri).status == 0


def test_rm_removes_from_the_cache_only(cli: Cli, shared: str) -> None:
    assert cli("rm", shared) == (0, f"Removed: {shared}\n", "")
    assert cli("ls").out == ""
    assert cli("pull", shared).status == 0


def test_rm_of_a_missing_pack_removes_the_others_and_is_status_3(cli: Cli, uri: str) -> None:
    assert cli("rm", NOWHERE, uri) == (
        3,
        f"Removed: {uri}\n",
        f"ctxpack: error: {NOWHERE}: not in the cache; `ctxpack ls` lists the cache\n",
    )


def test_rm_with_json_counts_a_pack_named_twice_once(cli: Cli, uri: str) -> None:
    assert cli("rm", "--json", uri, uri) == (
        0,
        json.dumps({"missing": [], "registry": None, "removed": [uri], "schema": "ctxpack/rm/v1"}, indent=2) + "\n",
        "",
    )
    missing = cli("rm", "--json", uri)
    assert (missing.status, missing.document["missing"]) == (3, [uri])


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("id missing.json", 2, "missing.json: no such contract file; `ctxpack init` writes one to fill in"),
        ("id ingest.sh", 2, "ingest.sh, line 1, column 1: not JSON: Expecting value"),
        (
            "seed missing",
            2,
            "contract.json: the contract declares no such output: expected processed_data, got missing",
        ),
        ("seed processed_data=missing", 2, "missing: no such file or folder; check the path"),
        ("seed --contract missing.json", 2, "missing.json: no such contract file"),
        ("run --contract broken.json", 2, "no-such-program: command cannot be started: No such file or directory"),
        ("run --contract broken.json -- x", 2, "the contract has another command: expected no-such-program, got x"),
        ("schema inspect", 2, "inspect: no such schema: expected one of contract-file, contract, map, item, init, "),
        ("schema inspect", 2, '; did you mean "inspection"?'),
        ("schema ctxpack/id/v1", 2, '; did you mean "id"?'),
        ("schema nonsense", 2, "; `ctxpack schema` lists them"),
        (f"pull {NOWHERE}", 3, f"no such pack: {NOWHERE}; check the URI and the registry"),
        (f"push {NOWHERE}", 3, f"no such pack: {NOWHERE}"),
        (f"inspect {NOWHERE}", 3, f"no such pack: {NOWHERE}"),
        ("pull ctx://sha256:../../x", 2, "URI: not a ctx URI: expected ctx://sha256: and 64 lower-case hexadecimal"),
        ("push CTX://sha256:0", 2, "URI: not a ctx URI"),
        ("inspect sha256:0", 2, "'sha256:0': names no pack: expected a URI, "),
        (f"rm {NOWHERE[:-1]}", 2, "URI: not a ctx URI"),
        (f"pull {NOWHERE} --registry team/packs", 2, "registry location: 'team' is not a host"),
        (f"pull {NOWHERE} --cache ingest.sh", 1, "cannot make the cache: Not a directory"),
        ("seed --cache ingest.sh", 1, "cannot make the cache: Not a directory"),
    ],
)
def test_an_error_is_one_line_on_stderr(cli: Cli, broken: Path, line: str, status: int, message: str) -> None:
    done = cli(*line.split())
    assert (done.status, done.out, done.err.count("\n")) == (status, "", 1)
    assert done.err.startswith("ctxpack: error: ")
    assert message in done.err


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        ("id --json missing.json", 2, "E_NO_CONTRACT"),
        (f"pull --json {NOWHERE}", 3, "E_NOT_FOUND"),
        ("run --json --contract broken.json", 2, "E_COMMAND"),
        ("schema --json nonsense", 2, "E_USAGE"),
    ],
)
def test_with_json_an_error_is_one_document_on_stderr(
    cli: Cli, broken: Path, line: str, status: int, code: str
) -> None:
    done = cli(*line.split())
    assert (done.status, done.out) == (status, "")
    document = json.loads(done.err)
    assert (document["schema"], document["exit"], document["code"]) == ("ctxpack/error/v1", status, code)


def test_a_changed_byte_in_the_registry_is_status_5_and_leaves_nothing(
    cli: Cli, shared: str, tmp_path: Path, leftovers: Callable[[], list[str]]
) -> None:
    blobs = tmp_path / "home/.local/share/ctxpack/registry/blobs/sha256"
    cli("rm", shared)
    for blob in blobs.iterdir():
        held = blob.read_bytes()
        blob.chmod(0o644)
        blob.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
        if shared.endswith(blob.name) or b"kin" in held or held == b"{}":
            continue  # a pull needs neither the contract, which the pack manifest repeats, nor the list of kin
        done = cli("pull", shared)
        assert (done.status, done.out) == (5, ""), blob
        assert "digest differs" in done.err
        assert cli("ls").out == ""
        assert leftovers() == []
        blob.write_bytes(held)
    assert cli("pull", shared).status == 0


def test_other_outputs_under_a_uri_that_exists_are_status_8(cli: Cli, shared: str) -> None:
    (cli.folder / "processed_data" / "a.txt").write_text("something else")
    seeded = cli("seed")
    assert (seeded.status, seeded.out) == (8, "")
    assert "the cache holds other outputs of the same contract" in seeded.err
    cli("rm", shared)
    assert cli("seed").status == 0
    pushed = cli("push", shared)
    assert (pushed.status, pushed.out) == (8, "")
    assert "the registry holds other outputs of the same contract" in pushed.err


@pytest.fixture
def closed_registry() -> Iterator[str]:
    """The address of a registry that refuses every request."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="closed"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}/team/packs"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("credentials", [{}, {"CTXPACK_USERNAME": "me", "CTXPACK_PASSWORD": "hunter2"}])
def test_a_registry_that_refuses_access_is_status_4_and_no_miss(
    cli: Cli, project: Path, closed_registry: str, credentials: dict[str, str]
) -> None:
    write_contract(project, command=["touch", "it ran"])
    for arguments in (["pull", NOWHERE], ["run"]):
        done = cli(*arguments, env={"CTXPACK_REGISTRY": closed_registry, **credentials})
        assert (done.status, done.out) == (4, "")
        assert "hunter2" not in done.err
    assert not (project / "it ran").exists()


def test_settings_come_from_the_file_beside_the_contract(cli: Cli, project: Path) -> None:
    (project / "ctxpack.toml").write_text('registry = "oci:packs"\n')
    below = cli.folder / "below"
    below.mkdir()
    assert type(cli)(below, cli.environment)("seed", "--contract", "../contract.json", "../processed_data").status == 0
    uri = cli("id").out.strip()
    assert f"oci:{project}/packs has it now" in cli("push", uri).err
    assert cli("push", uri, "--registry", "oci:elsewhere").err == "ctxpack: oci:elsewhere has it now\n"


def test_a_broken_settings_file_is_status_2_and_named(cli: Cli, project: Path) -> None:
    (project / "ctxpack.toml").write_text("regsitry = 'x'\n")
    done = cli("ls")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"ctxpack: error: {project}/ctxpack.toml: unknown setting 'regsitry': expected registry or settle; "
        "correct the name, or remove the setting\n"
    )


def test_junk_in_an_input_is_a_hint(cli: Cli, project: Path) -> None:
    (project / "raw_docs" / ".DS_Store").write_text("")
    assert cli("id").err == (
        "ctxpack: weak point: input raw_docs: .DS_Store: left by a file manager, and changes the URI; "
        "remove or exclude it\n"
    )
    assert cli("id", "-q").err == ""


def test_schema_lists_all_schemas_and_prints_each(cli: Cli) -> None:
    listed = cli("schema")
    assert (listed.status, listed.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in listed.out.splitlines()]
    document = cli("schema", "--json").document
    assert document["schema"] == "ctxpack/schemas/v1"
    assert [[one["name"], one["title"]] for one in document["schemas"]] == lines
    assert ["contract-file", "Contract file: what a person writes"] in lines
    for one in document["schemas"]:
        printed = cli("schema", one["name"])
        assert (printed.status, printed.err) == (0, "")
        assert (printed.document["$id"], printed.document["title"]) == (one["id"], one["title"])
    assert cli("schema", "id", "--json") == cli("schema", "id")
