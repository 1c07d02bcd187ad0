"""``ctxpack trust``"""

from __future__ import annotations

import argparse

from ctxpack_cli.options import add_common_options, add_pack_argument, add_registry_option
from ctxpack_cli.pantry import open_pantry
from ctxpack_cli.terminal import Terminal
from ctxpack_cli.trustrows import check_lines, deny_lines, key_lines, policy_lines
from ctxpack_pantry import InvalidInput, parse_reference

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions", prog=parser.prog)
    for name, (help, add, _) in _ACTIONS.items():
        description = f"{help[0].upper()}{help[1:]}."
        action = actions.add_parser(
            name, help=help, description=description, allow_abbrev=False, formatter_class=parser.formatter_class
        )
        if action is not parser:
            add_common_options(action)
        add(action)


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    return _ACTIONS[arguments.action][2](arguments, terminal)


def _scope(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--scope", metavar="REGISTRY/REPO", help=help)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    parser.add_argument("pub", nargs="?", metavar="PUB", help="the file of a public key, as `ctxpack keygen` writes it")
    parser.add_argument(
        "--owner", required=True, metavar="NAME", help="who holds the key; claims of one owner count once"
    )
    parser.add_argument(
        "--scope",
        action="append",
        default=[],
        metavar="REGISTRY/REPO",
        help="where its claims count, with all below it; everywhere, if not given",
    )
    parser.add_argument(
        "--name", default="", metavar="NAME", help="of the signer; default: the file's name, or the owner"
    )
    parser.add_argument("--from", dest="pack", metavar="PACK", help="take the key from the claims on this pack instead")
    parser.add_argument("--key-id", default="", metavar="DIGITS", help="which key, where several signed the pack")


def _add(arguments: argparse.Namespace, terminal: Terminal) -> int:
    pack = None if arguments.pack is None else parse_reference(arguments.pack)
    with open_pantry(arguments, terminal, *([pack] if pack else [])) as pantry:
        shown = pantry.trust_add(
            arguments.owner,
            pub=arguments.pub,
            pack=pack,
            key_id=arguments.key_id,
            scopes=arguments.scope,
            name=arguments.name,
        )
    terminal.show(shown, f"Trusted: {shown.added}, key {shown.key.key_id}", bare=shown.key.key_id)
    return 0


def _mode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mode", metavar="MODE", help="accept-any, tofu, signed or reject")
    _scope(parser, "of packs there; the default of all others, if not given")
    parser.add_argument(
        "--threshold", type=int, metavar="K", help="of the mode signed: how many owners must have signed a pack"
    )


def _mode(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        trusted = pantry.trust_mode(arguments.mode, scope=arguments.scope, threshold=arguments.threshold)
    terminal.show(trusted, *policy_lines(trusted))
    return 0


def _remove_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a signer")
    _scope(parser, "remove the mode of this scope instead")
    parser.add_argument(
        "--pin", metavar="REGISTRY/REPO", help="forget the key that the mode tofu has pinned there instead"
    )


def _remove(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        trusted = pantry.trust_remove(arguments.name, scope=arguments.scope, pin=arguments.pin)
    terminal.show(trusted, f"Removed: {arguments.name or arguments.scope or arguments.pin}")
    return 0


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def _list(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        trusted = pantry.trust_list()
    terminal.show(trusted, *policy_lines(trusted))
    return 0


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NAME", help="of a signer, or 8 or more of the digits its key id begins with")
    parser.add_argument("--pem", action="store_true", help="print only the public key, for other programs")


def _show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with open_pantry(arguments, terminal) as pantry:
        shown = pantry.trust_show(arguments.what)
    pem = shown.key.as_pem().decode().removesuffix("\n")
    terminal.show(shown, *([pem] if arguments.pem else key_lines(shown)), bare=pem if arguments.pem else "")
    return 0


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    add_registry_option(parser)
    add_pack_argument(parser)
    parser.add_argument("--skip-cache", action="store_true", help="ask the registry even if the cache has the pack")


def _check(arguments: argparse.Namespace, terminal: Terminal) -> int:
    pack = parse_reference(arguments.pack)
    with open_pantry(arguments, terminal, pack) as pantry:
        verdict = pantry.trust_check(pack, skip_cache=arguments.skip_cache)
    terminal.show(verdict, *check_lines(verdict))
    verdict.require_admitted()
    return 0


def _deny_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="WHAT", help="a signer, a key id, the file of a public key, a URI, or a digest of packs"
    )
    parser.add_argument("--image", action="store_true", help="the digest is that of an image manifest")
    parser.add_argument("--outputs", action="store_true", help="the digest is that of outputs")
    parser.add_argument("--undo", action="store_true", help="deny it no longer")
    parser.add_argument(
        "--show-affected",
        action="store_true",
        help="list packs that it is about, what was made of them, and where it is",
    )
    parser.add_argument("--dry-run", action="store_true", help="deny nothing; list what would be affected")


def _deny(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.image and arguments.outputs:
        raise InvalidInput("--image or --outputs", where="trust deny", fix="say one of them", code="E_USAGE")
    kind = "image" if arguments.image else "outputs" if arguments.outputs else ""
    with open_pantry(arguments, terminal) as pantry:
        denied = pantry.trust_deny(
            arguments.what,
            kind=kind,
            undo=arguments.undo,
            dry_run=arguments.dry_run,
            show_affected=arguments.show_affected or arguments.dry_run,
        )
    terminal.show(denied, *deny_lines(denied, is_plan=arguments.dry_run))
    for line in denied.affected.unknown if denied.affected is not None else ():
        terminal.hint(line)
    return 0


_ACTIONS: dict[
    str,
    tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace, Terminal], int]],
] = {
    "add": ("add a signer: a public key, and who holds it", _add_arguments, _add),
    "mode": ("say what packs of a registry need: nothing, a known signer, claims by owners", _mode_arguments, _mode),
    "remove": ("remove a signer, the mode of a scope, or a pinned key", _remove_arguments, _remove),
    "list": ("show the policy: modes, signers, what is denied, and pinned keys", _list_arguments, _list),
    "show": ("show a key of the policy, or a pinned one, and who has it", _show_arguments, _show),
    "check": ("say whether the policy admits a pack, by whom, and why not", _check_arguments, _check),
    "deny": ("deny a key, a pack or outputs, whatever else admits them", _deny_arguments, _deny),
}
