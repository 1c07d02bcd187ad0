"""Arguments that several commands share."""

from __future__ import annotations

import argparse

__all__ = [
    "add_command_after_dashes",
    "add_command_after_options",
    "add_common_options",
    "add_contract_argument",
    "add_contract_option",
    "add_key_option",
    "add_local_argument",
    "add_pack_argument",
    "add_push_options",
    "add_registry_option",
    "add_rehash_option",
    "add_sign_options",
]

_CONTRACT = "contract.json"


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands: --json, --quiet and --cache."""
    parser.add_argument("--json", action="store_true", help="print one JSON document; errors too, on stderr")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no hints")
    parser.add_argument("--cache", metavar="FOLDER", help="where packs are kept on this machine")


def add_registry_option(parser: argparse.ArgumentParser) -> None:
    """Add --registry."""
    parser.add_argument("--registry", metavar="WHERE", help="host[:port]/repo/path, http://…, or oci:/folder")


def add_push_options(parser: argparse.ArgumentParser) -> None:
    """Add --push and --on-conflict, for commands that make a pack."""
    parser.add_argument("--push", action="store_true", help="push the pack too, unless the registry has it")
    parser.add_argument(
        "--on-conflict",
        choices=("adopt", "fail"),
        default="adopt",
        help="when the registry has other outputs: take those (the default), or fail",
    )


def add_key_option(parser: argparse.ArgumentParser) -> None:
    """Add --key, for commands that sign; `passwords.open_key` opens it."""
    help = "the key to sign with; else CTXPACK_KEY, which holds its text, or key in your own settings file"
    parser.add_argument("--key", metavar="FILE", help=help)


def add_sign_options(parser: argparse.ArgumentParser) -> None:
    """Add --sign, --no-sign and --key, for commands that push; `signer.key_for_push` opens the key."""
    help = "sign the pack that was made here; the default for the registries under sign in your own settings file"
    parser.add_argument("--sign", action="store_true", default=None, help=help)
    parser.add_argument("--no-sign", action="store_false", dest="sign", help="do not sign, whatever the settings say")
    add_key_option(parser)


def add_rehash_option(parser: argparse.ArgumentParser) -> None:
    """Add --rehash, for commands that hash inputs."""
    parser.add_argument("--rehash", action="store_true", help="hash all files again, also unchanged ones")


def add_command_after_dashes(parser: argparse.ArgumentParser, synopsis: str) -> None:
    """Say that the contract's command may come after ``--``; parse_arguments takes it from there."""
    parser.set_defaults(argv=[])
    parser.usage = f"ctxpack {synopsis} [-- COMMAND [ARG ...]]"


def add_command_after_options(parser: argparse.ArgumentParser, synopsis: str, help: str) -> None:
    """Say that the contract's command may come after the options, of which parser must have nothing else.

    parse_arguments takes it from there, ``--`` or not.
    """
    parser.set_defaults(argv=[])
    parser.usage = f"ctxpack {synopsis} [-- COMMAND [ARG ...]]"
    parser.add_argument_group("COMMAND", help)


def add_pack_argument(parser: argparse.ArgumentParser) -> None:
    """Add the pack as a positional argument: anything that `parse_reference` takes."""
    help = "its URI or, of a cached pack, 8 or more of the digits it begins with; a contract file; or a name"
    parser.add_argument("pack", metavar="PACK", help=help)


def add_local_argument(parser: argparse.ArgumentParser, name: str = "uri", *, nargs: str | None = None) -> None:
    """Add a URI as a positional argument, for which the first digits of a cached one may stand."""
    help = "of a cached pack, 8 or more of the digits it begins with are enough"
    parser.add_argument(name, nargs=nargs, metavar="URI", help=help)


def add_contract_argument(parser: argparse.ArgumentParser) -> None:
    """Add the contract file as a positional argument that may be left out."""
    parser.add_argument("contract", nargs="?", default=_CONTRACT, help=f"default: {_CONTRACT}")


def add_contract_option(parser: argparse.ArgumentParser) -> None:
    """Add the contract file as the option --contract."""
    parser.add_argument("--contract", default=_CONTRACT, metavar="FILE", help=f"default: {_CONTRACT}")
