"""``ctxpack init``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_command_after_dashes, add_contract_argument
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import init

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_contract_argument(parser)
    for name, what in (
        ("input", "a file or folder that goes in"),
        ("output", "what the command makes"),
        ("code", "what runs"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="PATH", help=f"{what}; may be given again"
        )
    add_command_after_dashes(parser, "init [options] [CONTRACT]")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    initialised = init(
        arguments.contract,
        inputs=arguments.input,
        outputs=arguments.output,
        code=arguments.code,
        command=arguments.argv,
    )
    terminal.show(initialised, initialised.contract_file)
    terminal.hint(f"fill it in, then: ctxpack id {initialised.contract_file}")
    return 0
