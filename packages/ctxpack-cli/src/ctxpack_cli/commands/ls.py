"""``ctxpack ls``"""

from __future__ import annotations

import argparse

from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.report import pack_line, pack_row
from ctxpack_cli.terminal import Terminal

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: ls has the options of all commands only."""


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        packs = list(pantry.packs())
    if terminal.as_json:
        terminal.say("", {"schema": "ctxpack/ls/v1", "packs": [pack_row(pack) for pack in packs]})
    else:
        for pack in packs:
            terminal.say(pack_line(pack))
    if not packs:
        terminal.hint("the cache holds no packs yet")
    return 0
