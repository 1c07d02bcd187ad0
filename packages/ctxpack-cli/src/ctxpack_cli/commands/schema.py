"""``ctxpack schema``"""

from __future__ import annotations

import argparse

from ctxpack_cli.terminal import Terminal, json_text
from ctxpack_pantry import list_schemas, schema

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the schema to print; default: list all of them")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.name is not None:
        terminal.say(json_text(schema(arguments.name), indent=2, sort_keys=False))
        return 0
    listed = list_schemas()
    terminal.show(listed, *(f"{one['name']:<14} {one['title']}" for one in listed.schemas))
    return 0
