"""``ctxpack inspect``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_pack_argument, add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.report import file_lines, inspection_text
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import InvalidInput, parse_reference

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_pack_argument(parser)
    parser.add_argument("--skip-cache", action="store_true", help="ask the registry even if the cache has the pack")
    parser.add_argument("--files", action="store_true", help="list the files of the outputs instead")
    parser.add_argument("--inputs", metavar="NAME", help="list the files of this input instead")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    pack = parse_reference(arguments.pack)
    if arguments.files and arguments.inputs is not None:
        raise InvalidInput("--files or --inputs", where="inspect", fix="ask for one list at a time", code="E_USAGE")
    with open_pantry(arguments, terminal, pack) as pantry:
        if not arguments.files and arguments.inputs is None:
            inspected = pantry.inspect(pack, skip_cache=arguments.skip_cache)
            terminal.show(inspected, "" if terminal.as_json else inspection_text(inspected.as_json()))
            return 0
        with pantry.list_files(pack, input=arguments.inputs, skip_cache=arguments.skip_cache) as files:
            terminal.show_many(files, file_lines(files))
    return 0
