"""Run the commands that the documents show, as a reader types them, and compare their output.

A ``console`` block: lines that start with ``$ `` are commands, and lines that start with ``> `` continue them. Other
lines are the expected output, where ``…`` matches any text. Without such lines nothing is compared. A command must end
with status 0, or with 3 if its last words are ``# exit 3``. A ``sh`` or ``bash`` block is one script, which must end
with status 0.

The blocks of a document run in order, in one scratch folder. The current folder and exported variables are kept from
command to command, as in a terminal.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Command", "Console", "commands_in", "documents"]

LIMIT_SECONDS = 120

_fence = re.compile(r"^ *(`{3,}|~{3,}) *(console|bash|sh)\b[^\n]*\n(.*?)^ *\1 *$", re.DOTALL | re.MULTILINE)


# The file named by $1 holds variables and folder; they are saved there again, however the command ends.
_WRAPPED = """\
. "$1"
trap '{ export -p; printf "cd %q\\n" "$PWD"; } >"$1"' EXIT
"""


class Command(NamedTuple):
    """One command of a document. text: what to type; expected: its output, "" for any; status: its exit status."""

    where: str  # file name and line
    text: str
    expected: str
    status: int


def documents(root: Path) -> list[Path]:
    """Return the Markdown documents of the repository whose commands must work."""
    named = [root / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    return [*filter(Path.exists, named), *sorted(root.glob("packages/*/README.md")), *sorted(root.glob("docs/**/*.md"))]


def commands_in(text: str, name: str) -> list[Command]:
    """Return the commands in the Markdown text of the document called name, in order."""
    found = []
    for block in _fence.finditer(text):
        line = text.count("\n", 0, block.start(3)) + 1
        read = _console if block[2] == "console" else _script
        found += read(_dedented(block[3]), name, line)
    return found


class Console:
    """A terminal: runs commands one after the other, and keeps the current folder and exported variables."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._state = folder.with_name(folder.name + ".state")
        self._state.write_text("", encoding="utf-8")

    def complaint(self, command: Command) -> str:
        """Run command; return "" if it did what the document says, else a text with the difference."""
        try:
            done = subprocess.run(
                ["bash", "-c", _WRAPPED + command.text, "bash", str(self._state)],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{command.where}: `{command.text}`: still ran after {LIMIT_SECONDS} s"
        output = done.stdout.decode(errors="backslashreplace")
        command_line = f"{command.where}: `{command.text}`"
        if done.returncode != command.status:
            return f"{command_line}: expected exit {command.status}, got {done.returncode}:\n{output}"
        if command.expected and not _matches(output, command.expected):
            return f"{command_line}: expected\n{command.expected}\ngot\n{output}"
        return ""


def _console(block: str, name: str, first_line: int) -> list[Command]:
    found: list[Command] = []
    for number, line in enumerate(block.splitlines(), first_line):
        if line.startswith("$ "):
            found.append(Command(f"{name}:{number}", line[2:], "", _status(line)))
        elif not found:
            raise ValueError(f"{name}:{number}: a console block begins with a command, `$ …`, not with {line!r}")
        elif line.startswith("> ") and not found[-1].expected:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}\n{line[2:]}", status=_status(line))
        else:
            found[-1] = found[-1]._replace(expected=f"{found[-1].expected}{line}\n")
    return found


def _script(block: str, name: str, first_line: int) -> list[Command]:
    return [Command(f"{name}:{first_line}", f"set -e\n{block}", "", 0)]


def _status(line: str) -> int:
    found = re.search(r"# exit (\d+)\s*$", line)
    return int(found[1]) if found else 0


def _matches(output: str, expected: str) -> bool:
    """Compare all but line ends and trailing blanks; ``…`` matches any text, also of many lines."""
    pattern = ".*?".join(re.escape(part) for part in _tidy(expected).split("…"))
    return re.fullmatch(pattern, _tidy(output), re.DOTALL) is not None


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _dedented(block: str) -> str:
    """Return block without the common indent that it has inside a list item."""
    indents = [len(line) - len(line.lstrip()) for line in block.splitlines() if line.strip()]
    return "".join(line[min(indents) :] if line.strip() else line for line in block.splitlines(keepends=True))
