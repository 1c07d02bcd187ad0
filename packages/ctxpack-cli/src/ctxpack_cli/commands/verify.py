"""``ctxpack verify``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_local_argument
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal, human_files, human_size
from ctxpack_pantry import IntegrityError, InvalidInput, parse_reference
from ctxpack_pantry.referencekind import LOCAL

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_local_argument(parser, "uris", nargs="*")
    parser.add_argument("--all", action="store_true", help="all packs in the cache")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    references = [parse_reference(uri, kinds=LOCAL) for uri in arguments.uris]
    if arguments.all == bool(references):
        raise InvalidInput("which packs?", where="verify", fix="name their URIs, or say --all", code="E_USAGE")
    with open_pantry(arguments, terminal) as pantry:
        verified = pantry.verify(*map(pantry.find, references))
    sound = [pack for pack in verified.packs if not pack.damage]
    damaged = [pack.uri for pack in verified.packs if pack.damage]
    terminal.show(
        verified, *(f"Sound: {pack.uri} ({human_files(pack.files)}, {human_size(pack.size)})" for pack in sound)
    )
    if damaged:
        raise IntegrityError(
            "damaged, and set aside", where=", ".join(damaged), fix="`ctxpack pull` fetches it anew, `ctxpack run` too"
        )
    return 0
