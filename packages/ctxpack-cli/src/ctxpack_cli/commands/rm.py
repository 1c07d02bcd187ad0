"""``ctxpack rm``"""

from __future__ import annotations

import argparse

from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import NotFound, parse_uri

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uris", nargs="+", metavar="URI")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    uris = [parse_uri(uri) for uri in arguments.uris]
    with open_pantry(arguments, terminal) as pantry:
        done = pantry.remove(*uris)
    terminal.show(done, *(f"Removed: {uri}" for uri in done.removed))
    if done.missing:
        raise NotFound("not in the cache", where=", ".join(done.missing), fix="`ctxpack ls` lists the cache")
    return 0
