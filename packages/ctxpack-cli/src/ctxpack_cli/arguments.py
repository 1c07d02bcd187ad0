"""The command line: which command, with which arguments."""

from __future__ import annotations

import argparse
import os
import sys

from ctxpack_cli.commands import COMMANDS, load_command
from ctxpack_cli.options import add_common_options

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["parse_arguments"]


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments, with ``command`` set. Exits with status 2 on bad usage, 0 after --help or --version."""
    if not argv or argv[0].startswith("-"):
        parser = _main_parser()
        parser.parse_args(argv)
        parser.print_help()
        parser.exit(2)
    name, *words = argv
    if name not in COMMANDS:
        _main_parser().error(f"no command {name!r}; the commands are {', '.join(COMMANDS)}")
    parser = _command_parser(name)
    arguments, unknown = parser.parse_known_args(words, argparse.Namespace(command=name))
    if unknown:
        _refuse(parser, unknown)
    return arguments


def _main_parser() -> argparse.ArgumentParser:
    """Return the parser of `ctxpack --help` and `ctxpack --version`, which also describes the commands."""
    parser = argparse.ArgumentParser(
        prog="ctxpack",
        description="Bazel-grade identity for AI data pipelines. Pull by URI.",
        epilog="Settings: flag, then CTXPACK_REGISTRY and CTXPACK_CACHE, then ctxpack.toml, then the user's file. "
        "With nothing set, packs are pushed to an OCI layout in your data folder.",
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the version and exit"
    )
    # prog is given because argparse would otherwise format a usage line to find it, which takes 2 ms.
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", prog="ctxpack")
    for name, help in COMMANDS.items():
        commands.add_parser(name, help=help, add_help=False)
    return parser


def _command_parser(name: str) -> argparse.ArgumentParser:
    help = COMMANDS[name]
    parser = argparse.ArgumentParser(
        prog=f"ctxpack {name}",
        description=f"{help[0].upper()}{help[1:]}.",
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    add_common_options(parser)
    load_command(name).add_arguments(parser)
    return parser


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Exit with status 2, naming the option among the words that parser does not know, or else these words."""
    option = next((word.partition("=")[0] for word in unknown if word.startswith("-") and len(word) > 1), None)
    if option is None:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    parser.print_usage(sys.stderr)
    parser.exit(2, f"ctxpack: error: {parser.prog} has no option {option}\n")


class _Formatter(argparse.HelpFormatter):
    """Knows its width by itself. argparse asks shutil, whose compressors take 2 ms to load, once for each argument."""

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size().columns
        except OSError:
            columns = 80
        super().__init__(prog, width=max(40, min(columns, 120) - 2))


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        from importlib.metadata import version

        print(f"ctxpack {version('ctxpack-cli')}")
        parser.exit()
