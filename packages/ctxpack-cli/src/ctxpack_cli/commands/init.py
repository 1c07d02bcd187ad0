"""``ctxpack init``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_contract_argument
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import init

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_contract_argument(parser)


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    initialised = init(arguments.contract)
    terminal.show(initialised, initialised.contract_file)
    terminal.hint(f"fill it in, then: ctxpack id {initialised.contract_file}")
    return 0
