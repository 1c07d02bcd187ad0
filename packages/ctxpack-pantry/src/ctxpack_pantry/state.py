"""The user's state folder: what must outlive a process, and is no cache (XDG Base Directory Specification)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ctxpack_identity.home import home_folder

__all__ = ["make_state_folder", "state_folder"]


def state_folder(environ: Mapping[str, str]) -> str:
    """Return the path of CtxPack's folder there, which need not exist; "" when the home folder is not known.

    >>> state_folder({"XDG_STATE_HOME": "/s"}), state_folder({"HOME": "/home/ann", "XDG_STATE_HOME": "relative"})
    ('/s/ctxpack', '/home/ann/.local/state/ctxpack')
    """
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # such a value is invalid, and ignored
        home = home_folder(environ)
        state = os.path.join(home, ".local", "state") if home else ""
    return os.path.join(state, "ctxpack") if state else ""


def make_state_folder(state: str, *names: str) -> str:
    """Return a folder below the state folder, made if it is missing; only the user may enter what is made here.

    Raises: OSError.
    """
    os.makedirs(os.path.dirname(state), exist_ok=True)
    path = state
    for name in ("", *names):
        path = os.path.join(path, name) if name else path
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
    return path
