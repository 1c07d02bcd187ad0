"""Secrets in the environment: what no process that we start gets, or can read from ours.

A signer's key and passwords come in variables, as CI systems hand them over. Commands, credential helpers and git need
none of them, and run code of others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["child_environment", "keep_from_children", "keep_variables_from_children", "without_secrets"]

_PREFIX = "CTXPACK_"
_WORDS = ("KEY", "PASSWORD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL")
_HALF = "CTXPACK_USERNAME"  # no secret, but an error without CTXPACK_PASSWORD: a command may run ctxpack again
_SET_DUMPABLE = 4  # linux/prctl.h


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return environ without CtxPack's secrets. Those of other programs stay: commands may be given them on purpose.

    >>> without_secrets({"CTXPACK_KEY": "…", "CTXPACK_KEY_PASSWORD": "…", "CTXPACK_CACHE": "/c", "HF_TOKEN": "t"})
    {'CTXPACK_CACHE': '/c', 'HF_TOKEN': 't'}
    """
    return {name: value for name, value in environ.items() if not _is_secret(name)}


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a process that is about to be started. environ: what it inherits, by default ours.

    Every process that we start gets it. This process cannot be read by children from then on, if it holds secrets.
    """
    inherited = os.environ if environ is None else environ
    keep_variables_from_children(inherited)
    return without_secrets(inherited)


def keep_variables_from_children(*others: Mapping[str, str]) -> None:
    """Keep children from reading this process, if its variables, or others that it was given, hold secrets.

    The kernel shows the variables that a process began with, whatever becomes of them, so to remove them is no help.
    """
    if any(_is_secret(name) for environ in (os.environ, *others) for name in environ):
        keep_from_children()


def keep_from_children() -> None:
    """Keep other processes of this user from reading memory and environment of this one, and of what it forks.

    Linux only (prctl(2), PR_SET_DUMPABLE). Root with all capabilities can read them all the same. A program that is
    executed can be read again: it has neither our memory nor, by child_environment, our secrets.
    """
    import sys

    if sys.platform != "linux":
        return
    try:
        import ctypes  # slow to load, and few processes hold secrets

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError, MemoryError):  # a Python without ctypes, or not allowed to use it
        return
    none = ctypes.c_ulong(0)
    prctl(_SET_DUMPABLE, none, none, none, none)


def _is_secret(name: str) -> bool:
    return name.startswith(_PREFIX) and (name == _HALF or any(word in name.upper() for word in _WORDS))
