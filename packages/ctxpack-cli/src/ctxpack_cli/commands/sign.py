"""``ctxpack sign``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_key_option, add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.passwords import open_key
from ctxpack_cli.report import signed_line
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import InvalidInput, Reference, SignedAll, parse_reference

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_key_option(parser)
    parser.add_argument(
        "pack", nargs="?", metavar="PACK", help="a pack in the registry: its URI, a contract file, or a name"
    )
    parser.add_argument(
        "--vouch",
        action="store_true",
        help="sign also what was not made here: you say that it is right, and it counts towards no threshold",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="with --signed-by: sign each pack that an old key signed",
    )
    parser.add_argument("--signed-by", metavar="OLD", help="the file of the old public key, or its key id")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    reference = _reference(arguments)
    references = [] if reference is None else [reference]
    with open_pantry(arguments, terminal, *references) as pantry:
        key = open_key(arguments, terminal, pantry.settings)
        if reference is None:
            result = pantry.sign_all(key, arguments.signed_by)
            return _show_all(result, terminal)
        signed = pantry.sign(reference, key, vouch=arguments.vouch)
    terminal.show(signed, f"Signed: {signed.uri}", bare=signed.uri)
    terminal.hint(signed_line(signed))
    return 0


def _reference(arguments: argparse.Namespace) -> Reference | None:
    """Return the pack to sign, None for all. Raises: InvalidInput for options that do not go together."""
    is_all = arguments.all or arguments.signed_by is not None
    if is_all and (not arguments.all or arguments.signed_by is None):
        raise _usage("--all and --signed-by go together", "ctxpack sign --all --signed-by OLD.pub")
    if is_all and (arguments.pack is not None or arguments.vouch):
        raise _usage("--all signs what OLD signed, as OLD did", "leave out PACK and --vouch")
    if is_all:
        return None
    if arguments.pack is None:
        raise _usage("no pack", "name the pack to sign, or say --all --signed-by OLD.pub")
    return parse_reference(arguments.pack)


def _usage(what: str, fix: str) -> InvalidInput:
    return InvalidInput(what, where="sign", fix=fix, code="E_USAGE")


def _show_all(result: SignedAll, terminal: Terminal) -> int:
    terminal.show(result, *(f"Signed: {signed.uri}" for signed in result.signed))
    for left in result.unsigned:
        terminal.hint(f"not signed: {left.uri or left.image}: {left.why}")
    new = sum(signed.new for signed in result.signed)
    terminal.hint(f"{new} signed now, {len(result.signed) - new} before, {len(result.unsigned)} not")
    return 0
