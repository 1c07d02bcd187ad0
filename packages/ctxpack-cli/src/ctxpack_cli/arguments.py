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
    from typing import Any, NoReturn

__all__ = ["parse_arguments"]

_NOTHING = "nothing comes after --"


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments, with ``command`` set. Exits with status 2 on bad usage, 0 after --help or --version.

    Options may come before the command's name.
    """
    if not argv:
        parser = _main_parser()
        parser.print_help()
        parser.exit(2)
    if argv[0].startswith("-"):
        argv = _name_first(argv)
    name, *words = argv
    if name not in COMMANDS:
        _main_parser().error(f"no command {name!r}; the commands are {', '.join(COMMANDS)}")
    parser = _command_parser(name)
    given = argparse.Namespace(command=name)
    if parser.get_default("argv") is not None and "--" in words:  # see add_command_after_dashes
        end = words.index("--")
        given.argv, words = words[end + 1 :], words[:end]
        if not given.argv:
            parser.error(_NOTHING)
    arguments, unknown = parser.parse_known_args(words, given)
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


def _name_first(argv: Sequence[str]) -> list[str]:
    """Return argv, which begins with options, with the command's name before them.

    Exits when an option asks for the help or the version, or is no command's option.
    """
    if argv[0] in ("-h", "--help", "--version"):  # without loading any command
        _main_parser().parse_args(argv[:1])
    finder = _CommandFinder()
    found, unknown = finder.parse_known_args(argv)
    if found.about:
        _main_parser().parse_args([found.about])
    if unknown:
        _refuse(finder, unknown)
    if not found.words:
        finder.error(f"no command is named; the commands are {', '.join(COMMANDS)}")
    options = argv[: len(argv) - len(found.words)]
    return [found.words[0], *options, *found.words[1:]]


class _CommandFinder(argparse.ArgumentParser):
    """Knows the options of all commands, so that it knows which word is not the value of an option.

    It loads all commands, so it is used only when the command line begins with an option.
    """

    def __init__(self) -> None:
        super().__init__(prog="ctxpack", add_help=False, allow_abbrev=False, conflict_handler="resolve")
        add_common_options(self)
        for name in COMMANDS:
            load_command(name).add_arguments(self)
        super().add_argument("-h", "--help", dest="about", action="store_const", const="--help")
        super().add_argument("--version", dest="about", action="store_const", const="--version")
        super().add_argument("words", nargs=argparse.REMAINDER)
        self.usage = "ctxpack [options] COMMAND ..."

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add an option; ignore a positional argument."""
        if names[0].startswith("-"):
            return super().add_argument(*names, **settings)
        return argparse.Action([], names[0])


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Exit with status 2, naming the option among the words that parser does not know, or else these words."""
    if unknown == ["--"]:
        parser.error(_NOTHING)
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
