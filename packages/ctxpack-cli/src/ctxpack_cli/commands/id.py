"""``ctxpack id``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_command_after_dashes, add_contract_argument, add_registry_option, add_rehash_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_rehash_option(parser)
    add_contract_argument(parser)
    parser.add_argument(
        "--canonical", action="store_true", help="print the canonical contract, whose SHA-256 the URI is"
    )
    add_command_after_dashes(parser, "id [options] [CONTRACT]")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        identified = pantry.resolve(arguments.contract, arguments.argv)
    if arguments.canonical:
        terminal.write(identified.canonical)
    else:
        terminal.show(identified, identified.uri)
    return 0
