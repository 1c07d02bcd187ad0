"""``ctxpack verify``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import (
    add_command_after_dashes,
    add_contract_option,
    add_key_option,
    add_local_argument,
    add_registry_option,
    add_rehash_option,
)
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import Conflict, IntegrityError, InvalidInput, Verified, VerifiedPack, parse_reference
from ctxpack_pantry.referencekind import LOCAL

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from ctxpack_pantry.signer import PrivateKey

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_rehash_option(parser)
    add_contract_option(parser)
    add_local_argument(parser, "uris", nargs="*")
    parser.add_argument("--all", action="store_true", help="all packs in the cache; who vouches for them is not asked")
    parser.add_argument("--skip-cache", action="store_true", help="read the registry's pack even if the cache has it")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="run the recipe of --contract again, in a fresh folder, and compare its outputs with the pack's, exactly",
    )
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="[NAME=]VALUE",
        help="with --rebuild: report how much numbers differ in .json, .jsonl, .csv and .npy files of the output NAME, "
        "or of all; what differs is never signed",
    )
    parser.add_argument("--sign", action="store_true", help="with --rebuild: sign the registry's pack if it is equal")
    add_key_option(parser)
    add_command_after_dashes(parser, "verify [options] [URI ...]")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    references = [parse_reference(uri, kinds=LOCAL) for uri in arguments.uris]
    if arguments.all == bool(references):
        raise _usage("which packs?", "name their URIs, or say --all")
    _require_options(arguments)
    with open_pantry(arguments, terminal) as pantry:
        key: PrivateKey | None = None
        if arguments.sign:
            from ctxpack_cli.passwords import open_key  # few verifications sign

            key = open_key(arguments, terminal, pantry.settings)
        verified = pantry.verify(
            *map(pantry.find, references),
            skip_cache=arguments.skip_cache,
            rebuild=arguments.contract if arguments.rebuild else None,
            command=arguments.argv,
            tolerance=arguments.tolerance,
            key=key,
        )
    from ctxpack_cli.verifiedrows import verified_lines  # it loads what only --rebuild and claims need

    terminal.show(verified, *(line for pack in verified.packs if not pack.damage for line in verified_lines(pack)))
    _require_sound(verified)
    for pack in verified.packs:
        status = _status(pack, terminal)
        if status:
            return status
        if pack.verdict is not None:
            pack.verdict.require_admitted()
    return 0


def _require_options(arguments: argparse.Namespace) -> None:
    """Raise InvalidInput for options that do not go together."""
    of_rebuild = {
        "--tolerance": arguments.tolerance,
        "--sign": arguments.sign,
        "-- COMMAND": arguments.argv,
        "--key": arguments.key,
    }
    for option, given in of_rebuild.items():
        if given and not arguments.rebuild:
            raise _usage(f"{option} is about a recipe that is run again", "say --rebuild too")
    if arguments.key is not None and not arguments.sign:
        raise _usage("--key says with what to sign", "say --sign too")
    if arguments.rebuild and len(arguments.uris) != 1:
        raise _usage("--rebuild is about one pack", "name its URI")
    if arguments.all and arguments.skip_cache:
        raise _usage("--all is about the cache", "leave out --skip-cache")


def _require_sound(verified: Verified) -> None:
    """Raise IntegrityError for what is damaged, or contradicts a claim that is trusted."""
    damaged = [pack for pack in verified.packs if pack.damage]
    cached = [pack.uri for pack in damaged if pack.cached]
    if cached:
        raise IntegrityError(
            "damaged, and set aside", where=", ".join(cached), fix="`ctxpack pull` fetches it anew, `ctxpack run` too"
        )
    for pack in damaged:
        raise IntegrityError(
            f"damaged in the registry: {pack.damage}",
            where=pack.uri,
            fix="`ctxpack push --repair` heals it from a cache that has the pack",
        )
    for pack in verified.packs:
        for contradiction in pack.contradictions:
            raise IntegrityError(
                f"the pack is not what a trusted claim says: {contradiction}",
                where=f"{pack.uri} in {pack.found_in}",
                fix="do not use it; ask whoever signed the claim",
                code="E_CLAIM",
            )


def _status(pack: VerifiedPack, terminal: Terminal) -> int:
    """Return the status of a command that failed when it was run again. Raises: Conflict when it made other outputs."""
    rebuilt = pack.rebuilt
    if rebuilt is None or rebuilt.equal:
        return 0
    if rebuilt.compared is None:
        terminal.hint(
            f"the command failed with status {rebuilt.status} in the fresh folder, which holds only what the contract "
            "names; nothing was compared"
        )
        return rebuilt.status
    if rebuilt.compared.is_near:
        return 0
    raise Conflict(
        "the recipe gives other outputs now",
        where=pack.uri,
        expected=f"those of {pack.found_in}",
        got=f"outputs {rebuilt.compared.outputs}",
        fix="the work is not deterministic, or something it depends on is missing from the contract; that the pack is "
        "wrong is not shown by this",
        code="E_NOT_REBUILT",
    )


def _usage(what: str, fix: str) -> InvalidInput:
    return InvalidInput(what, where="verify", fix=fix, code="E_USAGE")
