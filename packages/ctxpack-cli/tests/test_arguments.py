"""Which arguments each command has, and what is bad usage."""

from __future__ import annotations

import argparse
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_cli import commands
from ctxpack_cli.arguments import parse_arguments
from ctxpack_cli.commands import COMMANDS, load_command
from ctxpack_cli.options import add_common_options

COMMON = {"json": False, "quiet": False, "cache": None}
REGISTRY = COMMON | {"registry": None}
SIGN = {"key": None, "sign": None}
SIGN_ONE = {"key": None, "pack": None, "vouch": False, "all": False, "signed_by": None}
PUSH = REGISTRY | SIGN | {"uri": "U", "borrow": False, "repair": False, "replace": False}
PULL = REGISTRY | {"pack": "U", "output": None, "force": False, "include": None, "lock": False, "locked": False}
LS: dict[str, object] = COMMON | {
    "long": False,
    "sort": "used",
    "tool": None,
    "label": [],
    "input": None,
    "since": None,
}
HASHING = REGISTRY | {"rehash": False}
INIT = COMMON | {
    "argv": [],
    "contract": "contract.json",
    "input": [],
    "output": [],
    "code": [],
    "param": [],
    "tool": "",
    "tool_version": "",
}
VERIFY: dict[str, object] = HASHING | {
    "argv": [],
    "contract": "contract.json",
    "uris": [],
    "all": False,
    "skip_cache": False,
    "rebuild": False,
    "tolerance": [],
    "sign": False,
    "key": None,
}
TRUST_ADD: dict[str, object] = REGISTRY | {
    "action": "add",
    "pub": None,
    "owner": "O",
    "scope": [],
    "name": "",
    "pack": None,
    "key_id": "",
}
TRUST_DENY: dict[str, object] = COMMON | {
    "action": "deny",
    "what": "W",
    "image": False,
    "outputs": False,
    "undo": False,
    "show_affected": False,
    "dry_run": False,
}
ID = HASHING | {"argv": [], "contract": "contract.json", "canonical": False}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("init", INIT),
        ("init a/c.json", INIT | {"contract": "a/c.json"}),
        ("init --input a --input b --output o --code c", INIT | {"input": ["a", "b"], "output": ["o"], "code": ["c"]}),
        (
            "init --param a=1 --param b=x --tool t --tool-version 2",
            INIT | {"param": ["a=1", "b=x"], "tool": "t", "tool_version": "2"},
        ),
        ("id", ID),
        ("id --canonical c.json", ID | {"contract": "c.json", "canonical": True}),
        ("seed", HASHING | {"contract": "contract.json", "outputs": []}),
        ("seed a n=b --contract c.json", HASHING | {"contract": "c.json", "outputs": ["a", "n=b"]}),
        ("push U", PUSH),
        ("push U --borrow", PUSH | {"borrow": True}),
        ("push --sign --key K U", PUSH | {"sign": True, "key": "K"}),
        ("push --no-sign U", PUSH | {"sign": False}),
        ("sign --vouch U --key K", REGISTRY | SIGN_ONE | {"pack": "U", "vouch": True, "key": "K"}),
        ("sign --all --signed-by O", REGISTRY | SIGN_ONE | {"all": True, "signed_by": "O"}),
        ("push --repair --replace U", PUSH | {"repair": True, "replace": True}),
        ("export U --tar F --force", REGISTRY | {"uri": "U", "tar": "F", "force": True}),
        ("pull U", PULL),
        ("pull U -o there --force", PULL | {"output": "there", "force": True}),
        ("pull --output there U", PULL | {"output": "there"}),
        ("pull --lock U", PULL | {"lock": True}),
        ("pull U --locked", PULL | {"locked": True}),
        ("tag U N", REGISTRY | {"pack": "U", "name": "N"}),
        ("pull U --include a --include !b -o there", PULL | {"output": "there", "include": ["a", "!b"]}),
        (
            "inspect U --skip-cache",
            REGISTRY | {"pack": "U", "skip_cache": True, "files": False, "inputs": None},
        ),
        ("inspect U --inputs N", REGISTRY | {"pack": "U", "skip_cache": False, "files": False, "inputs": "N"}),
        ("lineage U", REGISTRY | {"pack": "U", "format": "text", "ask_registry": False}),
        ("lineage U --format dot --ask-registry", REGISTRY | {"pack": "U", "format": "dot", "ask_registry": True}),
        ("ls", LS),
        (
            "ls --long --sort size --tool T --label k=v --label w --input N --since 7d",
            LS | {"long": True, "sort": "size", "tool": "T", "label": ["k=v", "w"], "input": "N", "since": "7d"},
        ),
        ("rm U V", REGISTRY | {"all": False, "uris": ["U", "V"]}),
        ("keygen N", COMMON | {"name": "N", "ed25519": False}),
        ("keygen --ed25519 N", COMMON | {"name": "N", "ed25519": True}),
        ("verify U V", VERIFY | {"uris": ["U", "V"]}),
        ("verify --all --rehash", VERIFY | {"all": True, "rehash": True}),
        ("verify U --skip-cache", VERIFY | {"uris": ["U"], "skip_cache": True}),
        (
            "verify U --rebuild --contract c.json --tolerance 0.1 --tolerance n=0.2 -- sh x --sign",
            VERIFY
            | {
                "uris": ["U"],
                "rebuild": True,
                "contract": "c.json",
                "tolerance": ["0.1", "n=0.2"],
                "argv": ["sh", "x", "--sign"],
            },
        ),
        ("verify --rebuild --sign --key K U", VERIFY | {"uris": ["U"], "rebuild": True, "sign": True, "key": "K"}),
        ("trust list", COMMON | {"action": "list"}),
        ("trust add P --owner O", TRUST_ADD | {"pub": "P"}),
        (
            "trust add --owner O P --scope a --scope b --name n",
            TRUST_ADD | {"pub": "P", "scope": ["a", "b"], "name": "n"},
        ),
        ("trust add --from U --key-id 0f --owner O", TRUST_ADD | {"pack": "U", "key_id": "0f"}),
        ("trust mode signed", COMMON | {"action": "mode", "mode": "signed", "scope": None, "threshold": None}),
        (
            "trust mode M --scope s --threshold 2",
            COMMON | {"action": "mode", "mode": "M", "scope": "s", "threshold": 2},
        ),
        ("trust remove N", COMMON | {"action": "remove", "name": "N", "scope": None, "pin": None}),
        ("trust remove --scope s", COMMON | {"action": "remove", "name": None, "scope": "s", "pin": None}),
        ("trust remove --pin s", COMMON | {"action": "remove", "name": None, "scope": None, "pin": "s"}),
        ("trust show N --pem", COMMON | {"action": "show", "what": "N", "pem": True}),
        ("trust check U", REGISTRY | {"action": "check", "pack": "U", "skip_cache": False}),
        ("trust deny W", TRUST_DENY),
        ("trust deny W --image --undo --dry-run", TRUST_DENY | {"image": True, "undo": True, "dry_run": True}),
        ("trust deny --outputs W --show-affected", TRUST_DENY | {"outputs": True, "show_affected": True}),
        ("schema", COMMON | {"name": None}),
        ("schema id", COMMON | {"name": "id"}),
        (
            "push U --json -q --cache C --registry R",
            PUSH | {"json": True, "quiet": True, "cache": "C", "registry": "R"},
        ),
    ],
)
def test_each_command_has_its_arguments(line: str, expected: dict[str, object]) -> None:
    command, *_ = line.split()
    assert vars(parse_arguments(line.split())) == {"command": command, **expected}


RUN = (
    HASHING
    | SIGN
    | {
        "command": "run",
        "contract": "contract.json",
        "push": False,
        "on_conflict": "adopt",
        "recompute": False,
        "replace": False,
        "no_argv": False,
        "offline": False,
        "keep_outputs": False,
        "force": False,
    }
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run -- cmd -x --y", {"argv": ["cmd", "-x", "--y"]}),
        ("run -- cmd --json --push", {"argv": ["cmd", "--json", "--push"]}),
        ("run -- cmd -- -x", {"argv": ["cmd", "--", "-x"]}),
        ("run -- env -- x", {"argv": ["env", "--", "x"]}),
        ("run -- run -- x", {"argv": ["run", "--", "x"]}),
        ("run -- -x", {"argv": ["-x"]}),
        ("run", {"argv": []}),
        ("run --offline", {"argv": [], "offline": True}),
        ("run sh a.sh --force --quiet", {"argv": ["sh", "a.sh", "--force", "--quiet"]}),
        ("run --push sh a.sh -q", {"argv": ["sh", "a.sh", "-q"], "push": True}),
        ("run --contract c.json sh -c x --help", {"argv": ["sh", "-c", "x", "--help"], "contract": "c.json"}),
        ("run --contract=c.json -q sh --version", {"argv": ["sh", "--version"], "contract": "c.json", "quiet": True}),
        ("run --contract run run --contract x", {"argv": ["run", "--contract", "x"], "contract": "run"}),
        ("run --registry sh sh --registry", {"argv": ["sh", "--registry"], "registry": "sh"}),
        ("run --on-conflict fail fail --on-conflict", {"argv": ["fail", "--on-conflict"], "on_conflict": "fail"}),
        ("run -q -- sh a.sh -- x", {"argv": ["sh", "a.sh", "--", "x"], "quiet": True}),
        ("run -- -- x", {"argv": ["--", "x"]}),
        ("run sh --", {"argv": ["sh", "--"]}),
        ("run - -q", {"argv": ["-", "-q"]}),
        ("run x=y --json=z", {"argv": ["x=y", "--json=z"]}),
        ("run --cache -1 sh -2", {"argv": ["sh", "-2"], "cache": "-1"}),
        ("run sh a.sh", {"argv": ["sh", "a.sh"]}),
        ("run sh -- a", {"argv": ["sh", "--", "a"]}),
        ("run cmd -x --json", {"argv": ["cmd", "-x", "--json"]}),
        ("run --json cmd --push -- file", {"argv": ["cmd", "--push", "--", "file"], "json": True}),
        ("run --push --offline --force -- cmd", {"argv": ["cmd"], "push": True, "offline": True, "force": True}),
        (
            "run --contract c.json --json -- python x.py",
            {"argv": ["python", "x.py"], "contract": "c.json", "json": True},
        ),
    ],
)
def test_all_words_after_runs_command_belong_to_it(line: str, expected: dict[str, object]) -> None:
    assert vars(parse_arguments(line.split())) == RUN | expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("id -- x", ID | {"argv": ["x"]}),
        ("id c.json -- sh -c exit", ID | {"argv": ["sh", "-c", "exit"], "contract": "c.json"}),
        ("id --json -- x --json --registry R", ID | {"argv": ["x", "--json", "--registry", "R"], "json": True}),
        ("id -- env -- x", ID | {"argv": ["env", "--", "x"]}),
        ("id -- id", ID | {"argv": ["id"]}),
        ("init -- sh run.sh", INIT | {"argv": ["sh", "run.sh"]}),
        (
            "init c.json --input a -- x --input b",
            INIT | {"argv": ["x", "--input", "b"], "contract": "c.json", "input": ["a"]},
        ),
    ],
)
def test_all_words_after_the_first_dashes_are_the_command(line: str, expected: dict[str, object]) -> None:
    command, *_ = line.split()
    assert vars(parse_arguments(line.split())) == {"command": command, **expected}


@pytest.mark.parametrize(
    ("first", "after"),
    [
        ("--json id", "id --json"),
        ("-q id c.json --canonical", "id -q c.json --canonical"),
        ("--registry R push U", "push U --registry R"),
        ("--registry=R push U", "push U --registry R"),
        ("-q --output o pull U", "pull U -q -o o"),
        ("-qo o pull U", "pull U -q -o o"),
        ("-oo pull U --force", "pull U -o o --force"),
        ("--output pull pull pull", "pull pull -o pull"),
        ("--include a --include !b pull U -o o", "pull U --include a --include !b -o o"),
        ("--registry R push U --registry S", "push U --registry S"),
        ("--cache C --json ls", "ls --cache C --json"),
        ("--contract c.json seed a b", "seed a b --contract c.json"),
        ("--push --contract c.json run -- cmd --json", "run --push --contract c.json -- cmd --json"),
        ("--json run cmd --output o -- -q", "run --json -- cmd --output o -- -q"),
        ("--cache C push -- U", "push U --cache C"),
        ("--json id -- x", "id --json -- x"),
        ("--json id c.json -- sh -c --json", "id --json c.json -- sh -c --json"),
        ("--registry R -q id --rehash -- id -- x", "id --registry R -q --rehash -- id -- x"),
        ("--input a init -- x", "init --input a -- x"),
        ("-q run sh a.sh", "run -q sh a.sh"),
        ("--quiet run sh a.sh --force", "run -q -- sh a.sh --force"),
        ("--contract run --json run run --force -q", "run --contract run --json -- run --force -q"),
        ("--push run --offline sh --help", "run --push --offline -- sh --help"),
        ("--registry=R run --contract=c sh -oo", "run --registry R --contract c -- sh -oo"),
        ("-q run -- sh -- -x", "run -q -- sh -- -x"),
        ("--json run -- env -- x", "run --json -- env -- x"),
        ("--json schema id", "schema id --json"),
        ("--json trust list", "trust list --json"),
        ("trust --json list", "trust list --json"),
        ("trust --cache C -q list", "trust list -q --cache C"),
        ("--registry R trust check U", "trust check U --registry R"),
        ("-q verify U --rebuild -- x -q", "verify -q U --rebuild -- x -q"),
    ],
)
def test_options_may_come_before_the_command(first: str, after: str) -> None:
    assert parse_arguments(first.split()) == parse_arguments(after.split())


def test_an_option_takes_a_value_in_all_commands_that_have_it_or_in_none() -> None:
    takes_value: dict[str, set[bool]] = {}

    class Recorder(argparse.ArgumentParser):
        def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
            action = super().add_argument(*names, **settings)
            for name in action.option_strings:
                takes_value.setdefault(name, set()).add(action.nargs != 0)
            return action

    for name in COMMANDS:
        add_common_options(parser := Recorder())
        load_command(name).add_arguments(parser)
    assert {"--registry": {True}, "--json": {False}, "-o": {True}}.items() <= takes_value.items()
    assert all(len(found) == 1 for found in takes_value.values())


_WORDS = {"tag": ["U", "N"], "trust": ["list"], "keygen": ["N"]} | {
    name: ["U"] for name in ("lineage", "push", "pull", "export", "inspect", "rm")
}


def test_every_row_of_the_table_has_its_module_and_every_module_its_row() -> None:
    package = Path(commands.__file__).parent
    assert {file.stem for file in package.glob("*.py")} - {"__init__"} == set(COMMANDS)
    for command in COMMANDS:
        line = [command, *_WORDS.get(command, [])]
        assert parse_arguments(line).command == command


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "ctxpack: error: no command 'nonsense'; the commands are init, id, seed, "),
        ("ls --nonsense", "ctxpack: error: ctxpack ls has no option --nonsense"),
        ("ls --jso", "ctxpack: error: ctxpack ls has no option --jso"),
        ("--nonsense", "ctxpack: error: ctxpack has no option --nonsense"),
        ("--nonsense ls", "ctxpack: error: ctxpack has no option --nonsense"),
        ("--nonsense=x ls", "ctxpack: error: ctxpack has no option --nonsense\n"),
        ("--jso id", "ctxpack: error: ctxpack has no option --jso"),
        ("-x id", "ctxpack: error: ctxpack has no option -x"),
        ("--registry x ls", "ctxpack: error: ctxpack ls has no option --registry"),
        ("--registry=x ls", "ctxpack: error: ctxpack ls has no option --registry\n"),
        ("--output x push U", "ctxpack: error: ctxpack push has no option --output"),
        ("-q", "ctxpack: error: no command is named; the commands are init, id, seed, "),
        ("--output", "argument -o/--output: expected one argument"),
        ("--output -q pull U", "argument -o/--output: expected one argument"),
        ("--json=x id", "argument --json: ignored explicit argument 'x'"),
        ("--help=x", "argument -h/--help: ignored explicit argument 'x'"),
        ("-- id", "ctxpack: error: no command '--'; the commands are init, id, seed, "),
        ("-", "ctxpack: error: no command '-'; the commands are init, id, seed, "),
        ("push", "the following arguments are required: URI"),
        ("keygen", "the following arguments are required: NAME"),
        ("trust", "the following arguments are required: ACTION"),
        ("trust nonsense", "ctxpack trust: error: no action 'nonsense'; the actions are add, mode, "),
        ("trust add P", "the following arguments are required: --owner"),
        ("trust list --registry R", "ctxpack: error: ctxpack trust list has no option --registry"),
        ("trust --registry R list", "usage: ctxpack trust list [-h] "),
        ("trust --nonsense", "the following arguments are required: ACTION"),
        ("trust mode signed --threshold x", "argument --threshold: invalid int value: 'x'"),
        ("trust deny", "the following arguments are required: WHAT"),
        ("verify U --", "ctxpack verify: error: nothing comes after --\n"),
        ("push U V", "unrecognized arguments: V"),
        ("pull U --output", "expected one argument"),
        ("pull U --include", "expected one argument"),
        ("run --", "ctxpack run: error: nothing comes after --\n"),
        ("run --push --", "ctxpack run: error: nothing comes after --\n"),
        ("-q run --", "ctxpack run: error: nothing comes after --\n"),
        ("id --", "ctxpack id: error: nothing comes after --\n"),
        ("id c.json --", "ctxpack id: error: nothing comes after --\n"),
        ("-q id --", "ctxpack id: error: nothing comes after --\n"),
        ("init --", "ctxpack init: error: nothing comes after --\n"),
        ("init --input -- x", "argument --input: expected one argument"),
        ("id a b -- x", "unrecognized arguments: b"),
        ("id --nonsense -- x", "ctxpack: error: ctxpack id has no option --nonsense"),
        ("schema a b", "unrecognized arguments: b"),
        ("ls --registry x", "ctxpack: error: ctxpack ls has no option --registry"),
        ("run --nonsense sh --json", "ctxpack: error: ctxpack run has no option --nonsense"),
        ("run -5 sh", "ctxpack: error: ctxpack run has no option -5"),
        ("run --contract", "argument --contract: expected one argument"),
        ("run --contract -- sh", "argument --contract: expected one argument"),
        ("run --on-conflict sh sh", "argument --on-conflict: invalid choice: 'sh'"),
        ("--nonsense run sh --json", "ctxpack: error: ctxpack has no option --nonsense"),
        ("push -- U --json", "usage: ctxpack push "),
        (f"ls {'x' * 5000}", "xxx … xxx"),
        ("ls --\x1b[2J", "ctxpack ls has no option --\\u001b[2J\n"),
    ],
    ids=lambda text: text[:80],
)
def test_bad_usage_ends_with_status_2_and_says_why(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(line.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("usage: ctxpack")
    assert out == ""


@pytest.mark.parametrize(
    ("line", "what", "where"),
    [
        ("--json", "no command is named; the commands are init, id, ", "ctxpack"),
        ("--json nonsense", "no command 'nonsense'; the commands are init, id, ", "ctxpack"),
        ("nonsense --json", "no command 'nonsense'; the commands are init, id, ", "ctxpack"),
        ("--nonsense --json ls", "ctxpack has no option --nonsense", "ctxpack"),
        ("--json --nonsense run sh", "ctxpack has no option --nonsense", "ctxpack"),
        ("ls --json --nonsense", "ctxpack ls has no option --nonsense", "ctxpack ls"),
        ("run --nonsense --json sh -q", "ctxpack run has no option --nonsense", "ctxpack run"),
        ("run --json --contract", "argument --contract: expected one argument", "ctxpack run"),
        ("--json run --push=1 sh", "argument --push: ignored explicit argument '1'", "ctxpack run"),
        ("--json run --", "nothing comes after --", "ctxpack run"),
        ("id --json --", "nothing comes after --", "ctxpack id"),
        ("push --json", "the following arguments are required: URI", "ctxpack push"),
        ("push U V --json", "unrecognized arguments: V", "ctxpack push"),
        ("-q --output --json pull U", "argument -o/--output: expected one argument", "ctxpack"),
        (f"--json {'x' * 5000}", f"no command '{'x' * 5000}'; the commands", "ctxpack"),
    ],
    ids=lambda text: text[:80],
)
def test_with_json_bad_usage_is_a_document(
    line: str, what: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(line.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    document = json.loads(err)
    assert (document["schema"], document["code"], document["exit"]) == ("ctxpack/error/v1", "E_USAGE", 2)
    assert document["what"].startswith(what)
    assert (document["where"], document["fix"]) == (where, f"`{where} --help` shows what it takes")


WORDS = st.sampled_from(["sh", "--", "-", "-q", "--json", "--force", "--contract", "--cache=x", "--help", "-x", "run"])


@given(st.sampled_from([[], ["-q"], ["--push", "--json"], ["--contract", "c"]]), st.lists(WORDS, max_size=6))
def test_no_word_of_runs_command_is_parsed(options: list[str], words: list[str]) -> None:
    command = ["sh", *words]
    for line in (["run", *options, *command], ["run", *options, "--", *command], [*options, "run", *command]):
        arguments = parse_arguments(line)
        assert arguments.argv == ["sh", *words]
        assert (arguments.quiet, arguments.json) == ("-q" in options, "--json" in options)


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_are_known_before_the_commands_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that the help shows, even if they were added to a group of options."""
    with pytest.raises(SystemExit):
        parse_arguments([command, "--help"])
    options = re.findall(r"^  (?:-\w, |-\w \w+, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert {"--json", "--help"} <= set(options)
    for option in set(options) - {"--help"}:
        with pytest.raises(SystemExit):
            parse_arguments([option])
        assert "has no option" not in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments([])
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert all(f"\n    {command} " in shown.out + shown.err for command in COMMANDS)


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        *((f"{command} --help", f"usage: ctxpack {command} [") for command in COMMANDS),
        *((f"-q {command} --help", f"usage: ctxpack {command} [") for command in COMMANDS),
        *(
            (line, "usage: ctxpack [-h] [--version] COMMAND ...\n")
            for line in ("--help", "-h", "--help ls", "-q -h ls")
        ),
    ],
)
def test_help_is_a_result(line: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(line.split())
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith(usage)
    assert err == ""


@pytest.mark.parametrize("line", ["--version", "--version ls", "-q --version", "--json --version ls"])
def test_the_version_is_a_result(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(line.split())
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"ctxpack {version('ctxpack-cli')}\n", "")
