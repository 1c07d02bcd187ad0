"""``ctxpack pull``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_pack_argument, add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal, human_files, human_size
from ctxpack_pantry import parse_reference

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_pack_argument(parser)
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="put an ordinary copy there; a pack of one file becomes that file"
    )
    parser.add_argument(
        "--include",
        action="append",
        metavar="PATTERN",
        help="put only what matches, in gitignore syntax, into --output; fetch only the chunks for it",
    )
    parser.add_argument("--force", action="store_true", help="replace what is at --output")
    parser.add_argument(
        "--lock", action="store_true", help="ask the registry what a name stands for, and pin that in ctxpack.lock"
    )
    parser.add_argument("--locked", action="store_true", help="refuse a name that ctxpack.lock does not pin")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    pack = parse_reference(arguments.pack)
    with open_pantry(arguments, terminal, pack) as pantry:
        pulled = pantry.pull(
            pack,
            arguments.output,
            include=arguments.include or (),
            force=arguments.force,
            lock=arguments.lock,
            locked=arguments.locked,
        )
    terminal.show(pulled, pulled.folder)
    fetched = f"fetched {human_size(pulled.received)} from {pulled.registry}" if pulled.registry else "from the cache"
    if pulled.files is not None and pulled.size is not None:
        terminal.hint(f"{human_files(pulled.files)}, {human_size(pulled.size)}; {fetched}")
    elif pulled.registry:
        terminal.hint(fetched)
    return 0
