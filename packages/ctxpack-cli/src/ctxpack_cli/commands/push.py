"""``ctxpack push``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import parse_uri

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    parser.add_argument("uri", metavar="URI")
    parser.add_argument(
        "--borrow", action="store_true", help="send less: compare with a similar pack that somebody else pushed"
    )


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    uri = parse_uri(arguments.uri)
    with open_pantry(arguments, terminal) as pantry:
        pushed = pantry.push(uri, borrow=arguments.borrow)
    terminal.show(pushed, f"Pushed: {uri}")
    terminal.hint(f"{pushed.registry} {'has it now' if pushed.new else 'had it already; nothing was sent'}")
    return 0
