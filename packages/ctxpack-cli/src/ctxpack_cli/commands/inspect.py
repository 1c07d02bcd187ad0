"""``ctxpack inspect``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.report import inspection_text
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import parse_uri

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    parser.add_argument("uri", metavar="URI")
    parser.add_argument("--skip-cache", action="store_true", help="ask the registry even if the cache has the pack")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    uri = parse_uri(arguments.uri)
    with open_pantry(arguments, terminal) as pantry:
        inspected = pantry.inspect(uri, skip_cache=arguments.skip_cache)
    terminal.show(inspected, "" if terminal.as_json else inspection_text(inspected.as_json()))
    return 0
