"""``ctxpack run``"""

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
from ctxpack_cli.report import push_lines
from ctxpack_cli.signer import key_for_push
from ctxpack_cli.terminal import Terminal

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_rehash_option(parser)
    add_contract_option(parser)
    add_push_options(parser)
    add_sign_options(parser)
    parser.add_argument("--recompute", action="store_true", help="run COMMAND even if there is a pack")
    parser.add_argument("--replace", action="store_true", help="with --push: replace other outputs in the registry")
    parser.add_argument("--offline", action="store_true", help="look in the cache only, for inputs that are packs, too")
    parser.add_argument(
        "--force", action="store_true", help="replace what is at an output's place, even if it cannot be made again"
    )
    parser.add_argument(
        "--keep-outputs", action="store_true", help="on a miss, keep what a failed run of the same contract left"
    )
    parser.add_argument(
        "--no-argv",
        action="store_true",
        help="keep the arguments of COMMAND out of contract and pack: for secrets. Any COMMAND then has the same URI",
    )
    add_command_after_options(
        parser,
        "run [options] [--contract FILE]",
        "what makes the outputs, run in the folder of the contract; default: the contract's command. All words after "
        "its name belong to it. Its stdout goes to stderr",
    )


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        key = key_for_push(arguments, terminal, pantry.settings, push=arguments.push)
        ran = pantry.run(
            arguments.contract,
            arguments.argv,
            push=arguments.push,
            force=arguments.force,
            keep_outputs=arguments.keep_outputs,
            offline=arguments.offline,
            recompute=arguments.recompute,
            replace=arguments.replace,
            on_conflict=arguments.on_conflict,
            key=key,
            argv=not arguments.no_argv,
        )
        is_default = pantry.settings.registry.is_default
    if ran.status:
        if terminal.as_json:
            terminal.show(ran)
        terminal.hint(f"the command failed with status {ran.status}; nothing was seeded")
        return ran.status
    done = "Adopted" if ran.adopted else "Hit" if ran.hit else "Seeded"
    terminal.show(ran, f"{done}: {ran.uri}", bare=ran.uri)
    if ran.registry:
        terminal.hint(f"fetched from {ran.registry}")
    if ran.pushed:
        for line in push_lines(ran.pushed, is_default=is_default):
            terminal.hint(line)
    return 0
