"""Frequent commands load nothing that they do not use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_cli.commands import COMMANDS

if TYPE_CHECKING:
    from cli_process import Cli

HEAVY = {
    "concurrent.futures",
    "ctxpack_bundle",
    "ctxpack_oci",
    "ctypes",
    "importlib.metadata",
    "msgspec",
    "requests",
    "subprocess",
    "tomllib",
}

SCRIPT = """
import os, sys
from ctxpack_cli.main import main
leave = os._exit
def report(status):
    print(status, *(name for name in sys.modules if name in set(sys.argv[1].split())), file=sys.stderr)
    leave(status)
os._exit = report
main(sys.argv[2:])
"""


@pytest.mark.parametrize("line", ["--help", "id", "id --json", "pull URI"])
def test_frequent_commands_load_only_what_they_use(cli: Cli, project: Path, line: str) -> None:
    uri = cli("seed", "-q").out.strip()
    arguments = [uri if word == "URI" else word for word in line.split()]
    assert cli.python("-c", SCRIPT, " ".join(HEAVY), *arguments).err == "0\n"


def test_help_does_not_load_the_pantry(cli: Cli) -> None:
    assert cli.python("-c", SCRIPT, "ctxpack_pantry ctxpack_cache ctxpack_identity json", "--help").err == "0\n"


def test_only_the_file_of_the_command_is_loaded(cli: Cli, project: Path) -> None:
    modules = " ".join(f"ctxpack_cli.commands.{name}" for name in COMMANDS)
    assert cli.python("-c", SCRIPT, modules, "id").err == "0 ctxpack_cli.commands.id\n"
    assert cli.python("-c", SCRIPT, modules, "--help").err == "0\n"
