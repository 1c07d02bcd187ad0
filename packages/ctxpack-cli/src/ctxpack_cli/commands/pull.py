"""``ctxpack pull``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal, human_size
from ctxpack_pantry import CtxUri, InvalidInput, parse_uri

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    parser.add_argument("uri", metavar="URI")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="put an ordinary copy there")
    parser.add_argument(
        "--include",
        action="append",
        metavar="PATTERN",
        help="put only what matches, in gitignore syntax, into --output; fetch only the chunks for it",
    )
    parser.add_argument("--force", action="store_true", help="replace what is at --output")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    uri = parse_uri(arguments.uri)
    if arguments.include:
        return _pull_included(uri, arguments, terminal)
    with open_pantry(arguments, terminal) as pantry:
        received = pantry.fetch(uri)
        folder = pantry.pull(uri, arguments.output, force=arguments.force)
    terminal.say(folder, {"schema": "ctxpack/pull/v1", "uri": uri, "folder": folder, "received": received})
    return 0


def _pull_included(uri: CtxUri, arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.output is None:
        raise InvalidInput(
            "--include needs a folder to put the files in",
            fix="name one with --output: the cache holds whole packs only",
            code="E_USAGE",
        )
    with open_pantry(arguments, terminal) as pantry:
        picked = pantry.pick(uri, arguments.include, arguments.output, force=arguments.force)
    terminal.say(
        picked.path,
        {
            "schema": "ctxpack/pull/v1",
            "uri": uri,
            "folder": picked.path,
            "files": picked.files,
            "size": picked.size,
            "received": picked.received,
        },
    )
    files = f"{picked.files} file{'' if picked.files == 1 else 's'}"
    terminal.hint(f"{files}, {human_size(picked.size)}; fetched {human_size(picked.received)}")
    return 0
