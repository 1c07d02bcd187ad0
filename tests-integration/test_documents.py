"""The commands in README.md and the other documents work, and print what the documents show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import goprograms
from doccommands import Command, Console, commands_in, documents
from sandbox import private_environment

ROOT = Path(__file__).resolve().parent.parent

# Commands not run here, and the file of the repository that runs them instead.
ELSEWHERE = {
    "python3 tools/test.py": ".ci/run",  # would start itself
    "python3 tools/demo.py": "tests-integration/test_demo.py",  # installs its own dependencies
    "python3 tools/audit_demo.py": "tests-integration/test_demo.py",
}


def test_commands_run_elsewhere_are_run_there() -> None:
    texts = [one.text for path in documents(ROOT) for one in commands_in(path.read_text(encoding="utf-8"), path.name)]
    for command, file in ELSEWHERE.items():
        assert any(command in text for text in texts), f"no document says `{command}`: take it off the list"
        assert command.split()[-1] in (ROOT / file).read_text(encoding="utf-8"), f"{file} does not run `{command}`"


@pytest.mark.parametrize("path", documents(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_commands_do_what_the_document_says(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    environment = private_environment(tmp_path / "home")
    environment["PATH"] += os.pathsep + str(goprograms.obtain("oras").parent)
    console = Console(folder, environment)
    commands = commands_in(path.read_text(encoding="utf-8"), path.name)
    # In order. The first fault ends the test: later commands may depend on this one.
    for command in commands:
        if not _runs_elsewhere(command):
            assert console.complaint(command) == ""


def _runs_elsewhere(command: Command) -> bool:
    lines = command.text.removeprefix("set -e\n").splitlines()
    return all(line.startswith(tuple(ELSEWHERE)) for line in lines)


DOCUMENT = """\
# Title
```python
$ not ours
```
1. In a list:

   ```console
   $ cd /
   $ export A=b; ls missing # exit 2
   ls: …
   ```
~~~sh
echo one
~~~
```console
$ cat <<END
> $A in
> END
b in

$ pwd
/
```
"""


def test_the_commands_of_a_document_are_found_in_order() -> None:
    assert commands_in(DOCUMENT, "A.md") == [
        Command("A.md:8", "cd /", "", 0),
        Command("A.md:9", "export A=b; ls missing # exit 2", "ls: …\n", 2),
        Command("A.md:13", "set -e\necho one\n", "", 0),
        Command("A.md:16", "cat <<END\n$A in\nEND", "b in\n\n", 0),
        Command("A.md:21", "pwd", "/\n", 0),
    ]


def test_folder_and_variables_carry_over_from_command_to_command(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    console = Console(folder, private_environment(tmp_path / "a home"))
    assert [console.complaint(command) for command in commands_in(DOCUMENT, "A.md")] == [""] * 5


@pytest.mark.parametrize(
    ("text", "expected", "status", "complaint"),
    [
        ("exit 3", "", 0, "A.md:1: `exit 3`: expected exit 0, got 3:\n"),
        ("true # exit 1", "", 1, "A.md:1: `true # exit 1`: expected exit 1, got 0:\n"),
        ("echo one two", "one … three", 0, "A.md:1: `echo one two`: expected\none … three\ngot\none two\n"),
        ("echo one >&2", "", 0, ""),
        ("echo one; echo two; echo three", "one\n…\nthree", 0, ""),
    ],
)
def test_a_difference_from_the_document_is_named(
    tmp_path: Path, text: str, expected: str, status: int, complaint: str
) -> None:
    console = Console(tmp_path, private_environment(tmp_path / "home"))
    assert console.complaint(Command("A.md:1", text, expected, status)) == complaint


def test_output_before_the_first_command_is_a_fault_of_the_document() -> None:
    with pytest.raises(ValueError, match=r"A\.md:2: a console block begins with a command, `\$ …`, not with 'hello'"):
        commands_in("```console\nhello\n```\n", "A.md")
