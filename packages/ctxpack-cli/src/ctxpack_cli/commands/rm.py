"""``ctxpack rm``"""

from __future__ import annotations

import argparse

from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import InvalidInput, NotFound, parse_uri

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uris", nargs="*", metavar="URI")
    parser.add_argument("--all", action="store_true", help="empty the cache: all packs, damaged ones too")
    parser.add_argument(
        "--registry",
        nargs="?",
        const="",
        metavar="WHERE",
        help="remove them from the registry too, so that nobody pulls them: the one of the settings, or WHERE",
    )


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    there = arguments.registry is not None
    if (arguments.registry or "").startswith("ctx:"):  # `rm --registry URI`
        arguments.uris.insert(0, arguments.registry)
        arguments.registry = None
    if arguments.all == bool(arguments.uris) or (arguments.all and there):
        fix = "name their URIs, or say --all, which is about the cache alone"
        raise InvalidInput("which packs?", where="rm", fix=fix, code="E_USAGE")
    uris = [parse_uri(uri) for uri in arguments.uris]
    with open_pantry(arguments, terminal) as pantry:
        done = pantry.remove_all() if arguments.all else pantry.remove(*uris, registry=there)
    terminal.show(done, *(f"Removed: {uri}" for uri in done.removed))
    if done.registry and done.removed:
        terminal.hint(
            f"removed from the cache and from {done.registry}, which may keep blobs until it collects garbage"
        )
    if done.missing:
        where = f"neither in the cache nor in {done.registry}" if done.registry else "not in the cache"
        raise NotFound(where, where=", ".join(done.missing), fix="`ctxpack ls` lists the cache")
    return 0
