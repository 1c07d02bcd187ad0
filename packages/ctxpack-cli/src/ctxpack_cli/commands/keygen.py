"""``ctxpack keygen``"""

from __future__ import annotations

import argparse
import os
import shlex

from ctxpack_cli.passwords import ask_new_password
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry.signer import PASSWORD, key_files, keygen

__all__ = ["act", "add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="writes NAME.key, which is secret, and NAME.pub")
    parser.add_argument("--ed25519", action="store_true", help="an Ed25519 key, instead of ECDSA on P-256")


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    files = key_files(arguments.name)  # before anybody types
    given = os.environ.get(PASSWORD, "") or ask_new_password(files.private)
    algorithm = "ed25519" if arguments.ed25519 else "ecdsa-p256"
    key = keygen(arguments.name, os.fsencode(given), algorithm=algorithm)
    terminal.show(
        key,
        f"Private key: {key.private}",
        f"Public key:  {key.public}",
        f"Key id:      {key.key_id}",
        bare=key.key_id,
    )
    terminal.hint(f"to sign a pack: ctxpack push URI --sign --key {shlex.quote(key.private)}")
    terminal.hint(f"those who trust you: ctxpack trust add {shlex.quote(key.public)} --owner NAME")
    terminal.hint("keep a copy of the key and its password: neither can be made again; use the key for claims only")
    return 0
