"""The command line: what can be asked, in the words of the user."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

__all__ = ["parse_arguments"]

_CONTRACT = "contract.json"


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments, with ``command`` set. Exits with status 2 on bad usage, 0 after --help or --version."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        parser.exit(2)
    return arguments


def _parser() -> argparse.ArgumentParser:
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
    # prog is given because argparse would otherwise format a usage line to find it: 2 ms of every command.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="ctxpack")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            allow_abbrev=False,
            formatter_class=_Formatter,
        )
        made.add_argument("--json", action="store_true", help="print one JSON document; errors too, on stderr")
        made.add_argument("-q", "--quiet", action="store_true", help="no progress and no hints")
        made.add_argument("--cache", metavar="FOLDER", help="where packs are kept on this machine")
        return made

    def with_registry(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument("--registry", metavar="WHERE", help="host[:port]/repo/path, http://…, or oci:/folder")
        return made

    def with_inputs(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument("--rehash", action="store_true", help="read everything again, also unchanged files")
        return made

    init = command("init", "write a contract to fill in")
    init.add_argument("contract", nargs="?", default=_CONTRACT, help=f"default: {_CONTRACT}")

    identify = with_inputs(with_registry(command("id", "print the URI of a contract; no side effects")))
    identify.add_argument("contract", nargs="?", default=_CONTRACT, help=f"default: {_CONTRACT}")
    identify.add_argument("--canonical", action="store_true", help="print the canonical bytes, exactly")

    seed = with_inputs(with_registry(command("seed", "make a pack of outputs, in the cache")))
    seed.add_argument("outputs", nargs="*", metavar="OUTPUT", help="file or folder; default: the contract's outputs")
    seed.add_argument("--contract", default=_CONTRACT, metavar="FILE", help=f"default: {_CONTRACT}")

    push = with_registry(command("push", "copy a pack from the cache to the registry"))
    push.add_argument("uri", metavar="URI")

    pull = with_registry(command("pull", "fetch a pack and print the folder that holds its outputs"))
    pull.add_argument("uri", metavar="URI")
    pull.add_argument("-o", "--output", metavar="FOLDER", help="put an ordinary copy there")
    pull.add_argument(
        "--include",
        action="append",
        metavar="PATTERN",
        help="only what matches, in gitignore syntax, into --output; fetches no more than that takes",
    )
    pull.add_argument("--force", action="store_true", help="replace what stands at --output")

    inspect = with_registry(command("inspect", "show what made a pack and what it holds, without fetching it"))
    inspect.add_argument("uri", metavar="URI")
    inspect.add_argument("--remote", action="store_true", help="ask the registry even if the cache has it")

    run = with_inputs(with_registry(command("run", "place the outputs; run COMMAND only if nobody made them yet")))
    run.usage = "ctxpack run [options] [--contract FILE] -- COMMAND [ARG ...]"
    run.add_argument("--contract", default=_CONTRACT, metavar="FILE", help=f"default: {_CONTRACT}")
    run.add_argument("--push", action="store_true", help="see to it that the registry has the pack")
    run.add_argument("--offline", action="store_true", help="look in the cache only")
    run.add_argument("--force", action="store_true", help="on a hit, replace what stands at an output's place")
    run.add_argument("argv", nargs="+", metavar="COMMAND", help="what makes the outputs; its stdout goes to stderr")

    command("ls", "list the packs in the cache")

    remove = command("rm", "remove packs from the cache, never from the registry")
    remove.add_argument("uris", nargs="+", metavar="URI")
    return parser


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
