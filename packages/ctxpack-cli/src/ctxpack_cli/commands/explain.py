"""``ctxpack explain``"""

from __future__ import annotations

import argparse

from ctxpack_cli.explanation import explanation_lines
from ctxpack_cli.options import add_command_after_dashes, add_registry_option, add_rehash_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import parse_reference

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_rehash_option(parser)
    words = "a contract file, a URI, 8 or more of the digits that a cached one begins with, or a name"
    parser.add_argument("one", metavar="A", nargs="?", default="contract.json", help=f"{words}; default: contract.json")
    parser.add_argument("other", metavar="B", nargs="?", help="the same; by default, the pack nearest to A is compared")
    parser.add_argument("--all", action="store_true", help="show all files, not only the first 20 of each kind")
    add_command_after_dashes(parser, "explain [options] [A] [B]")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    given = [one for one in (arguments.one, arguments.other) if one is not None]
    limit = None if arguments.all else 20
    with open_pantry(arguments, terminal, *map(parse_reference, given)) as pantry:
        explained = pantry.explain(*given, command=arguments.argv, limit=limit)
    lines = () if terminal.as_json else explanation_lines(explained.as_json(), shorten=not arguments.all)
    terminal.show(explained, *lines)
    return 0
