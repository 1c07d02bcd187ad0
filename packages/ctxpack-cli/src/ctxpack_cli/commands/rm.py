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
    uris = list(dict.fromkeys(parse_uri(uri) for uri in arguments.uris))
    with open_pantry(arguments, terminal) as pantry:
        missing = [uri for uri in uris if not pantry.remove(uri)]
    removed = [uri for uri in uris if uri not in missing]
    if terminal.as_json:
        terminal.say("", {"schema": "ctxpack/rm/v1", "removed": removed, "missing": missing})
    else:
        for uri in removed:
            terminal.say(f"Removed: {uri}")
    if missing:
        raise NotFound("not in the cache", where=", ".join(missing), fix="`ctxpack ls` lists what is")
    return 0
