"""``ctxpack seed``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_contract_option, add_registry_option, add_rehash_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_rehash_option(parser)
    parser.add_argument(
        "outputs",
        nargs="*",
        metavar="[NAME=]PATH",
        help="an output that does not lie where the contract says; default: the contract's outputs",
    )
    add_contract_option(parser)


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        seeded = pantry.seed(arguments.outputs, arguments.contract)
    terminal.show(seeded, f"Seeded: {seeded.uri}", bare=seeded.uri)
    terminal.hint(f"share it: ctxpack push {seeded.uri}" if seeded.new else "the cache had it already")
    return 0
