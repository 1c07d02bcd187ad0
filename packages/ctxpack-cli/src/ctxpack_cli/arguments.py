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
_MOST = 400  # characters of a message, of which users may have typed any number


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments, with ``command`` set. Exits with status 2 on bad usage, 0 after --help or --version.

    Options may come before the command's name. With --json, bad usage is a JSON document too.
    """
    try:
        return _parse(argv)
    except _BadUsage as error:
        if "--json" in _own_words(argv):
            _fail_in_json(error)
        from ctxpack_pantry import printable  # takes a while to load, which --help must not wait for

        text = str(error)
        if len(text) > _MOST:
            text = f"{text[: _MOST // 2]} … {text[-_MOST // 2 :]}"
        error.parser.print_usage(sys.stderr)
        error.parser.exit(2, printable(f"{error.said_by}: error: {text}") + "\n")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
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
    words = parser.action_first(words)
    given = argparse.Namespace(command=name)
    if parser.get_default("argv") is not None:  # see options.add_command_…
        words, given.argv = _without_command(parser, words)
    arguments, unknown = parser.parse_known_args(words, given)
    if unknown:
        _refuse(parser.acting(words), unknown)
    return arguments


def _without_command(parser: _Parser, words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that are ours and those of the contract's command, of which nothing is parsed.

    The command comes after ``--``, or begins with the first word that is no option, if no other words are expected.
    """
    end = parser.first_word(words)
    if parser.has_positionals:
        end = words.index("--") if "--" in words else len(words)
    if words[end:] == ["--"]:
        parser.error(_NOTHING)
    return words[:end], words[end + 1 :] if words[end : end + 1] == ["--"] else words[end:]


def _main_parser() -> _Parser:
    """Return the parser of `ctxpack --help` and `ctxpack --version`, which also describes the commands."""
    parser = _Parser(
        prog="ctxpack",
        description="Bazel-grade identity for AI data pipelines. Pull by URI.",
        epilog="Settings: flag, then CTXPACK_REGISTRY, CTXPACK_CACHE and CTXPACK_SETTLE, then ctxpack.toml, then the "
        "user's file. With nothing set, packs are pushed to an OCI layout in your data folder.",
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


def _command_parser(name: str) -> _Parser:
    help = COMMANDS[name]
    parser = _Parser(
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
    index = finder.first_word(argv)
    found, unknown = finder.parse_known_args(argv[:index])
    if found.about:
        _main_parser().parse_args([found.about])
    if unknown:
        _refuse(finder, unknown)
    if index == len(argv):
        finder.error(f"no command is named; the commands are {', '.join(COMMANDS)}")
    return [argv[index], *argv[:index], *argv[index + 1 :]]


def _own_words(argv: Sequence[str]) -> Sequence[str]:
    """Return the words of argv that are ours, whatever is wrong with them: those before the command of a contract."""
    finder = _CommandFinder()
    end = finder.first_word(argv)
    if argv[end : end + 1] in (["run"], ["map"]):
        end += 1
        return argv[: end + finder.first_word(argv[end:])]
    return argv[: argv.index("--")] if "--" in argv else argv


class _BadUsage(Exception):
    """What parser does not understand. said_by: the name before the message."""

    def __init__(self, parser: argparse.ArgumentParser, message: str, said_by: str) -> None:
        super().__init__(message)
        self.parser, self.said_by = parser, said_by


class _Parser(argparse.ArgumentParser):
    """Knows which options take a value, whether words that are no options are expected, and the command's actions."""

    def __init__(self, **settings: Any) -> None:
        self.has_positionals = False
        self._takes_value: dict[str, bool] = {}
        self._actions_of: Any = None
        super().__init__(**settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        action = super().add_argument(*names, **settings)
        self._takes_value |= dict.fromkeys(action.option_strings, action.nargs != 0)
        self.has_positionals |= not action.option_strings
        return action

    def add_subparsers(self, **settings: Any) -> Any:
        """Say that the command has actions. Options may come before the action's name."""
        self._actions_of = super().add_subparsers(**settings)
        return self._actions_of

    def action_first(self, words: list[str]) -> list[str]:
        """Return words with the name of the action before the options; as they are, if the command has no actions."""
        if self._actions_of is None:
            return words
        actions: dict[str, _Parser] = self._actions_of.choices
        for action in actions.values():
            self._takes_value |= action._takes_value
        index = self.first_word(words)
        if index == len(words):
            return words
        if words[index] not in actions:
            self.error(f"no action {words[index]!r}; the actions are {', '.join(actions)}")
        return [words[index], *words[:index], *words[index + 1 :]]

    def acting(self, words: Sequence[str]) -> _Parser:
        """Return the parser of the action that words begin with; this one, if the command has no actions."""
        actions: dict[str, _Parser] = {} if self._actions_of is None else self._actions_of.choices
        return actions.get(words[0], self) if words else self

    def error(self, message: str) -> NoReturn:
        raise _BadUsage(self, message, self.prog)

    def first_word(self, words: Sequence[str]) -> int:
        """Return the index of the first word that is neither an option nor the value of one, or is ``--``.

        The number of words if there is none. An option that is not known takes no value.
        """
        index = 0
        while index < len(words) and words[index].startswith("-") and words[index] not in ("-", "--"):
            index += 2 if self._wants_next(words[index]) else 1
        return min(index, len(words))

    def _wants_next(self, option: str) -> bool:
        """Return whether the word after option is its value. Several short options can be one word, as in -qo."""
        if option.startswith("--"):
            return self._takes_value.get(option, False)
        for position, letter in enumerate(option[1:], start=2):
            if self._takes_value.get(f"-{letter}", False):
                return position == len(option)
        return False


class _CommandFinder(_Parser):
    """Knows the options of all commands, so that it knows which word is not the value of an option.

    It loads all commands, so it is used only when the command line begins with an option, or is wrong.
    """

    def __init__(self) -> None:
        super().__init__(prog="ctxpack", add_help=False, allow_abbrev=False, conflict_handler="resolve")
        add_common_options(self)
        for name in COMMANDS:
            load_command(name).add_arguments(self)
        self.add_argument("-h", "--help", dest="about", action="store_const", const="--help")
        self.add_argument("--version", dest="about", action="store_const", const="--version")
        self.usage = "ctxpack [options] COMMAND ..."

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add an option, which need not be given; ignore a positional argument."""
        if names[0].startswith("-"):
            return super().add_argument(*names, **(settings | {"required": False}))
        return argparse.Action([], names[0])

    def add_subparsers(self, **settings: Any) -> Any:
        """Return what takes the options of actions for those of the command."""
        return self

    def add_parser(self, name: str, **settings: Any) -> _CommandFinder:
        return self


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Raise _BadUsage, naming the option among the words that parser does not know, or else these words."""
    if unknown == ["--"]:
        parser.error(_NOTHING)
    option = next((word.partition("=")[0] for word in unknown if word.startswith("-") and len(word) > 1), None)
    if option is None:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    raise _BadUsage(parser, f"{parser.prog} has no option {option}", "ctxpack")


def _fail_in_json(error: _BadUsage) -> NoReturn:
    from ctxpack_cli.exitcode import exit_code  # these take a while to load, which --help must not wait for
    from ctxpack_cli.terminal import Terminal
    from ctxpack_pantry import InvalidInput

    program = error.parser.prog
    fault = InvalidInput(str(error), where=program, fix=f"`{program} --help` shows what it takes", code="E_USAGE")
    Terminal(sys.stderr, live=False, quiet=True, as_json=True).fail(fault)
    error.parser.exit(exit_code(fault))


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
