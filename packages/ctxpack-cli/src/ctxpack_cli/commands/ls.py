"""``ctxpack ls``"""

from __future__ import annotations

import argparse
import time

from ctxpack_cli.packrows import long_line, pack_lines
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal, columns

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--long", action="store_true", help="full URIs, files, when they were made, tools and labels")
    parser.add_argument("--sort", default="used", metavar="BY", help="used (the default), created, size, tool or uri")
    parser.add_argument("--tool", metavar="NAME", help="packs that this tool made")
    parser.add_argument(
        "--label", action="append", default=[], metavar="K=V", help="packs with this label, or K for any value"
    )
    parser.add_argument("--input", metavar="NAME", help="packs with an input of this name")
    parser.add_argument("--since", metavar="WHEN", help="packs that were used since: 7d, 12h, 2026-11-01")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    chosen = {name: getattr(arguments, name) for name in ("tool", "label", "input", "since")}
    with open_pantry(arguments, terminal) as pantry:
        listed = pantry.list_packs(sort=arguments.sort, **chosen)
    if arguments.long:
        terminal.show(listed, *map(long_line, listed.packs))
    elif arguments.quiet:
        terminal.show(listed, *(pack.uri for pack in listed.packs))
    else:
        terminal.show(listed, *pack_lines(listed.packs, width=columns(), now=time.time(), by=arguments.sort))
    if not listed.packs:
        terminal.hint("no cached pack is like that" if any(chosen.values()) else "the cache holds no packs yet")
    return 0
