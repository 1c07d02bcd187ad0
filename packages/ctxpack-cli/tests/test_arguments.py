"""What can be asked, and what is bad usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxpack_cli import commands
from ctxpack_cli.arguments import parse_arguments
from ctxpack_cli.commands import COMMANDS

COMMON = {"json": False, "quiet": False, "cache": None}
REMOTE = COMMON | {"registry": None}
PULL = REMOTE | {"uri": "U", "output": None, "force": False, "include": None}
HASHING = REMOTE | {"rehash": False}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("init", COMMON | {"contract": "contract.json"}),
        ("init a/c.json", COMMON | {"contract": "a/c.json"}),
        ("id", HASHING | {"contract": "contract.json", "canonical": False}),
        ("id --canonical c.json", HASHING | {"contract": "c.json", "canonical": True}),
        ("seed", HASHING | {"contract": "contract.json", "outputs": []}),
        ("seed a b --contract c.json", HASHING | {"contract": "c.json", "outputs": ["a", "b"]}),
        ("push U", REMOTE | {"uri": "U"}),
        ("pull U", PULL),
        ("pull U -o there --force", PULL | {"output": "there", "force": True}),
        ("pull --output there U", PULL | {"output": "there"}),
        ("pull U --include a --include !b -o there", PULL | {"output": "there", "include": ["a", "!b"]}),
        ("inspect U --remote", REMOTE | {"uri": "U", "remote": True}),
        ("ls", COMMON),
        ("rm U V", COMMON | {"uris": ["U", "V"]}),
        (
            "push U --json -q --cache C --registry R",
            {"json": True, "quiet": True, "cache": "C", "registry": "R", "uri": "U"},
        ),
    ],
)
def test_each_command_has_its_arguments(line: str, expected: dict[str, object]) -> None:
    command, *_ = line.split()
    assert vars(parse_arguments(line.split())) == {"command": command, **expected}


RUN = HASHING | {"command": "run", "contract": "contract.json", "push": False, "offline": False, "force": False}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run -- cmd -x --y", {"argv": ["cmd", "-x", "--y"]}),
        ("run -- cmd --json --push", {"argv": ["cmd", "--json", "--push"]}),
        ("run -- cmd -- -x", {"argv": ["cmd", "--", "-x"]}),
        ("run cmd file", {"argv": ["cmd", "file"]}),
        ("run cmd -x --json", {"argv": ["cmd", "-x", "--json"]}),
        ("run --json cmd --push -- file", {"argv": ["cmd", "--push", "--", "file"], "json": True}),
        ("run --push --offline --force -- cmd", {"argv": ["cmd"], "push": True, "offline": True, "force": True}),
        (
            "run --contract c.json --json -- python x.py",
            {"argv": ["python", "x.py"], "contract": "c.json", "json": True},
        ),
    ],
)
def test_from_the_command_to_run_on_all_words_belong_to_it(line: str, expected: dict[str, object]) -> None:
    assert vars(parse_arguments(line.split())) == RUN | expected


def test_every_row_of_the_table_has_its_module_and_every_module_its_row() -> None:
    package = Path(commands.__file__).parent
    assert {file.stem for file in package.glob("*.py")} - {"__init__"} == set(COMMANDS)
    for command in COMMANDS:
        line = [command, *{"push": ["U"], "pull": ["U"], "inspect": ["U"], "rm": ["U"], "run": ["x"]}.get(command, [])]
        assert parse_arguments(line).command == command


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "ctxpack: error: no command 'nonsense'; the commands are init, id, seed, "),
        ("ls --nonsense", "ctxpack: error: ctxpack ls has no option --nonsense"),
        ("ls --jso", "ctxpack: error: ctxpack ls has no option --jso"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("push", "the following arguments are required: URI"),
        ("push U V", "unrecognized arguments: V"),
        ("pull U --output", "expected one argument"),
        ("pull U --include", "expected one argument"),
        ("rm", "the following arguments are required: URI"),
        ("run", "the following arguments are required: COMMAND"),
        ("run --", "the following arguments are required: COMMAND"),
        ("ls --registry x", "ctxpack: error: ctxpack ls has no option --registry"),
    ],
)
def test_bad_usage_ends_with_status_2_and_says_why(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(line.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("usage: ctxpack")
    assert out == ""


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments([])
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert all(f"\n    {command} " in shown.out + shown.err for command in COMMANDS)


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)], ids=lambda command: " ".join(command))
def test_help_is_a_result(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments([*command, "--help"])
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: ctxpack")
    assert err == ""
