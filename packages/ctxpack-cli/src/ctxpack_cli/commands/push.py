"""``ctxpack push``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_local_argument, add_registry_option, add_sign_options
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.report import push_lines
from ctxpack_cli.signer import key_for_push
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import parse_reference
from ctxpack_pantry.referencekind import LOCAL

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_local_argument(parser)
    parser.add_argument(
        "--borrow", action="store_true", help="send less: compare with a similar pack that somebody else pushed"
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="read all that the registry has of the pack, and send what it lost or damaged; replace what is no pack",
    )
    parser.add_argument("--replace", action="store_true", help="replace other outputs of the same contract")
    add_sign_options(parser)


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    reference = parse_reference(arguments.uri, kinds=LOCAL)
    with open_pantry(arguments, terminal) as pantry:
        key = key_for_push(arguments, terminal, pantry.settings)
        uri = pantry.find(reference)
        pushed = pantry.push(
            uri,
            borrow=arguments.borrow,
            repair=arguments.repair,
            replace=arguments.replace,
            key=key,
            if_own=not arguments.sign,
        )
        is_default = pantry.settings.registry.is_default
    terminal.show(pushed, f"Pushed: {uri}", bare=uri)
    for line in push_lines(pushed, is_default=is_default):
        terminal.hint(line)
    return 0
