"""``ctxpack map``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import (
    add_command_after_options,
    add_contract_option,
    add_push_options,
    add_registry_option,
    add_rehash_option,
    add_sign_options,
)
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.report import map_lines, push_lines
from ctxpack_cli.signer import key_for_push
from ctxpack_cli.terminal import Terminal

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_rehash_option(parser)
    add_contract_option(parser)
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="commands at a time; default: one for each usable CPU, at most 8"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say how many items would be made")
    add_push_options(parser)
    add_sign_options(parser)
    parser.add_argument("--offline", action="store_true", help="look in the cache only, for inputs that are packs, too")
    parser.add_argument(
        "--force", action="store_true", help="replace what is at the output's place, even if it cannot be made again"
    )
    add_command_after_options(
        parser,
        "map [options] [--contract FILE]",
        "what makes an item, run in the folder of the contract; default: its command. {item} and {out} stand "
        "for the paths of the item and of its result; or {batch} for a file that lists many of them",
    )


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        key = key_for_push(arguments, terminal, pantry.settings, push=arguments.push)
        mapped = pantry.map(
            arguments.contract,
            command=arguments.argv,
            jobs=arguments.jobs,
            push=arguments.push,
            force=arguments.force,
            offline=arguments.offline,
            dry_run=arguments.dry_run,
            on_conflict=arguments.on_conflict,
            key=key,
        )
        is_default = pantry.settings.registry.is_default
    if mapped.status:
        if terminal.as_json:
            terminal.show(mapped)
    else:
        done = "Adopted" if mapped.adopted else "Hit" if mapped.hit else "Planned" if arguments.dry_run else "Mapped"
        terminal.show(mapped, f"{done}: {mapped.uri}", bare=mapped.uri)
    for line in map_lines(mapped, is_plan=arguments.dry_run):
        terminal.hint(line)
    if mapped.pushed:
        for line in push_lines(mapped.pushed, is_default=is_default):
            terminal.hint(line)
    return mapped.status
