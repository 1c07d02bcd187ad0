"""``ctxpack run``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_contract_option, add_registry_option, add_rehash_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from typing import Any

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "ctxpack run [options] [--contract FILE] [-- COMMAND [ARG ...]]"
    add_registry_option(parser)
    add_rehash_option(parser)
    add_contract_option(parser)
    parser.add_argument("--push", action="store_true", help="push the pack too, unless the registry has it")
    parser.add_argument("--offline", action="store_true", help="look in the cache only")
    parser.add_argument(
        "--force", action="store_true", help="replace what is at an output's place, even if it cannot be made again"
    )
    parser.add_argument(
        "--keep-outputs", action="store_true", help="on a miss, keep what a failed run of the same contract left"
    )
    command = parser.add_argument(
        "argv",
        nargs=argparse.PARSER,
        action=_Command,
        metavar="COMMAND",
        help="what makes the outputs, run in the folder of the contract; default: the contract's command. Its stdout "
        "goes to stderr",
    )
    command.required = False  # argparse has no optional argument that takes all words after it


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        ran = pantry.run(
            arguments.contract,
            arguments.argv or (),
            push=arguments.push,
            force=arguments.force,
            keep_outputs=arguments.keep_outputs,
            offline=arguments.offline,
        )
    if ran.status:
        terminal.hint(f"the command failed with status {ran.status}; nothing was seeded")
        return ran.status
    terminal.show(ran, f"{'Hit' if ran.hit else 'Seeded'}: {ran.uri}")
    return 0


class _Command(argparse.Action):
    """All words from COMMAND on, options too. Not every version of argparse removes the `--` before them."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:
        setattr(namespace, self.dest, values[1:] if values[0] == "--" else values)
