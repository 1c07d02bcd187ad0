"""``ctxpack ls``"""

from __future__ import annotations

import argparse

from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.report import pack_line
from ctxpack_cli.terminal import Terminal

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: ls has the options of all commands only."""


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        listed = pantry.list_packs()
    terminal.show(listed, *map(pack_line, listed.packs))
    if not listed.packs:
        terminal.hint("the cache holds no packs yet")
    return 0
