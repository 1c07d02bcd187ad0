"""``ctxpack tag``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_pack_argument, add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import parse_reference

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_pack_argument(parser)
    parser.add_argument("name", metavar="NAME", help="letters, digits, '.', '_' and '-'")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    pack = parse_reference(arguments.pack)
    with open_pantry(arguments, terminal, pack) as pantry:
        tagged = pantry.tag(pack, arguments.name)
        is_default = pantry.settings.registry.is_default
    terminal.show(tagged, f"Tagged: {tagged.name} is {tagged.uri}", bare=tagged.uri)
    before = tagged.replaced
    if before is not None:
        terminal.hint(f"{tagged.name} was {before.uri or before.image} before")
        if before.uri == tagged.uri:
            terminal.hint(f"of the same contract, as {before.image}; now as {tagged.image}")
    elif not tagged.new:
        terminal.hint(f"{tagged.registry} had the name already")
    if is_default:
        terminal.hint(
            "only this machine sees that registry; name one for everybody with --registry or CTXPACK_REGISTRY"
        )
    return 0
