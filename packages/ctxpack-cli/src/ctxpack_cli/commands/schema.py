"""``ctxpack schema``"""

from __future__ import annotations

import argparse
import json

from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import list_schemas, schema

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the schema to print; default: list all of them")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.name is not None:
        terminal.say(json.dumps(schema(arguments.name), ensure_ascii=False, indent=2))
        return 0
    listed = list_schemas()
    terminal.show(listed, *(f"{one['name']:<14} {one['title']}" for one in listed.schemas))
    return 0
