"""``ctxpack lineage``"""

from __future__ import annotations

import argparse

from ctxpack_cli import drawing
from ctxpack_cli.options import add_pack_argument, add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import InvalidInput, parse_reference

__all__ = ["act", "add_arguments"]

_FORMATS = {"text": drawing.as_text, "mermaid": drawing.as_mermaid, "dot": drawing.as_dot, "json": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_pack_argument(parser)
    parser.add_argument("--format", default="text", metavar="F", help="text (the default), mermaid, dot or json")
    parser.add_argument(
        "--ask-registry", action="store_true", help="look in the registry for packs that the cache does not have"
    )


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    pack = parse_reference(arguments.pack)
    if arguments.format not in _FORMATS:
        formats = f"one of {', '.join(_FORMATS)}"
        raise InvalidInput(
            "no such format", where="--format", expected=formats, got=repr(arguments.format), code="E_USAGE"
        )
    with open_pantry(arguments, terminal, pack) as pantry:
        lineage = pantry.lineage(pack, ask_registry=arguments.ask_registry)
    draw = _FORMATS[arguments.format]
    if draw is None:
        terminal.as_json = True
    terminal.show(lineage, *(() if draw is None or terminal.as_json else draw(lineage)))
    missing = sum(one.missing == "not found" for one in lineage.packs)
    if missing and not arguments.ask_registry:
        packs = "1 pack is" if missing == 1 else f"{missing} packs are"
        terminal.hint(f"{packs} not in the cache; --ask-registry looks in the registry, too")
    if not lineage.complete:
        terminal.hint("there is more than that, which was left out")
    return 0
