"""README.md shows every command; tests-integration runs what it shows."""

from __future__ import annotations

import re
from pathlib import Path

from ctxpack_cli.commands import COMMANDS
from ctxpack_cli.exitcode import exit_code
from ctxpack_pantry import Conflict

README = Path(__file__).parents[1] / "README.md"


def test_every_command_has_an_example() -> None:
    shown = re.findall(r"^\$ (?:.*\()?ctxpack (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(shown) == set(COMMANDS)


def test_the_exit_codes_are_those_of_the_code() -> None:
    assert f"{exit_code(Conflict('x'))} conflict" in README.read_text(encoding="utf-8")
