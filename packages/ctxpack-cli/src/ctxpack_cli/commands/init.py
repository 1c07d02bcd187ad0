"""``ctxpack init``"""

from __future__ import annotations

import argparse
import os

from ctxpack_cli.options import add_contract_argument
from ctxpack_cli.template import contract_template
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import InvalidInput, LocalFailure

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_contract_argument(parser)


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    path = arguments.contract
    template = contract_template(os.path.dirname(path) or ".")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(template)
    except FileExistsError as error:
        raise InvalidInput("exists already", where=path, fix="edit it, or name another file") from error
    except OSError as error:
        raise LocalFailure(f"cannot be written: {error.strerror}", where=path) from error
    terminal.say(path, {"schema": "ctxpack/init/v1", "contract": path})
    terminal.hint(f"fill it in, then: ctxpack id {path}")
    return 0
