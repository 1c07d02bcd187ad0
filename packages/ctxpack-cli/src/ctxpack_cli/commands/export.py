"""``ctxpack export``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_local_argument, add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal, human_size
from ctxpack_pantry import parse_reference
from ctxpack_pantry.referencekind import LOCAL

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_local_argument(parser)
    parser.add_argument("--tar", metavar="FILE", default="", help="the .tar.gz to write")
    parser.add_argument("--force", action="store_true", help="replace the file")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    reference = parse_reference(arguments.uri, kinds=LOCAL)
    with open_pantry(arguments, terminal) as pantry:
        uri = pantry.find(reference)
        exported = pantry.export(uri, arguments.tar, force=arguments.force)
    terminal.show(exported, exported.tar)
    terminal.hint(f"{human_size(exported.size)}, the whole pack; tar -xzf unpacks it, and verifies nothing")
    return 0
