"""``ctxpack init``"""

from __future__ import annotations

import argparse
import shlex

from ctxpack_cli.options import add_command_after_dashes, add_contract_argument
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import init

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_contract_argument(parser)
    for name, metavar, what in (
        ("input", "[NAME=]PATH", "a file or folder that goes in"),
        ("output", "[NAME=]PATH", "what the command makes"),
        ("code", "PATH", "what runs"),
        ("param", "NAME=VALUE", "a param: JSON, or else a text"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar=metavar, help=f"{what}; may be given again"
        )
    parser.add_argument("--tool", default="", metavar="NAME", help="what makes the outputs")
    parser.add_argument("--tool-version", default="", metavar="V", help="its version")
    add_command_after_dashes(parser, "init [options] [CONTRACT]")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    initialised = init(
        arguments.contract,
        inputs=arguments.input,
        outputs=arguments.output,
        code=arguments.code,
        command=arguments.argv,
        params=arguments.param,
        tool=arguments.tool,
        tool_version=arguments.tool_version,
    )
    terminal.show(initialised, initialised.contract_file)
    for what, value, why in initialised.guesses:
        terminal.hint(f"{what}: {_shown(value)} ({why})")
    for what, value in initialised.placeholders.items():
        terminal.hint(f"{what}: {_shown(value)} is a placeholder: nothing here shows it")
    todo = "fill it in" if initialised.placeholders else "look whether that is right"
    terminal.hint(f"{todo}, then: ctxpack id {initialised.contract_file}")
    return 0


def _shown(value: str | list[str]) -> str:
    return value if isinstance(value, str) else shlex.join(value)
