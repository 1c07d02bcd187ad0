"""``ctxpack rm``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_local_argument
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import InvalidInput, NotFound, parse_reference
from ctxpack_pantry.referencekind import LOCAL

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_local_argument(parser, "uris", nargs="*")
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
    if _is_pack(arguments.registry):  # `rm --registry URI`
        arguments.uris.insert(0, arguments.registry)
        arguments.registry = None
    if arguments.all == bool(arguments.uris) or (arguments.all and there):
        fix = "name their URIs, or say --all, which is about the cache alone"
        raise InvalidInput("which packs?", where="rm", fix=fix, code="E_USAGE")
    references = [parse_reference(uri, kinds=LOCAL) for uri in arguments.uris]
    with open_pantry(arguments, terminal) as pantry:
        uris = [pantry.find(reference) for reference in references]  # all of them, before anything is removed
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


def _is_pack(word: str | None) -> bool:
    """Return whether a word after --registry is a pack: the name of a registry has a slash, or begins with oci:."""
    if not word:
        return False
    return word.startswith("ctx:") or all(digit in "0123456789abcdef" for digit in word)
