"""Signers: those of the policy, found by what a user writes; and the public key in a file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence

from ctxpack_identity import InvalidInput
from ctxpack_identity.hashing.filehash import unreadable
from ctxpack_trust import PublicKey, Signer, TrustPolicy, parse_public_key

__all__ = ["FEWEST_DIGITS", "by_name", "find_signers", "is_digits", "named_after", "read_public_key"]

FEWEST_DIGITS = 8  # of a key id that stand for the key of a signer

_MAX_KEY_FILE = 64 << 10  # bytes

is_digits = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}").fullmatch


def find_signers(policy: TrustPolicy, what: str) -> list[Signer]:
    """Return the signers of this name; else those whose key id begins with these digits, if it is one key.

    Raises: InvalidInput when several keys do.
    """
    named = [signer for signer in policy.signers if signer.name == what]
    if named or not is_digits(what):
        return named
    found = [signer for signer in policy.signers if signer.key.key_id.startswith(what)]
    if len({signer.key.key_id for signer in found}) > 1:
        names = ", ".join(sorted(signer.name for signer in found))
        raise InvalidInput(
            "several keys begin with these digits", where=what, got=names, fix="write more", code="E_USAGE"
        )
    return found


def named_after(policy: TrustPolicy, key: PublicKey) -> tuple[Signer, ...]:
    return tuple(signer for signer in policy.signers if signer.key.key_id == key.key_id)


def by_name(signers: Sequence[Signer]) -> list[Signer]:
    return sorted(signers, key=lambda signer: signer.name)


def read_public_key(path: str) -> PublicKey:
    """Return the public key in a file. Raises: InvalidInput when there is none; LocalFailure."""
    if not path:
        raise InvalidInput("the path of the public key is empty", where="trust", fix="name a file", code="E_KEY")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInput("not a file", where=path, fix="name the file of a public key (PEM)", code="E_KEY")
            return parse_public_key(file.read(_MAX_KEY_FILE), where=path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidInput(
            "no such file",
            where=path,
            fix="name the file of a public key: `ctxpack keygen` writes NAME.pub",
            code="E_KEY",
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO has no writer, perhaps for ever
