"""The home folder of the user, and paths that begin with ``~``."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["home_folder", "with_home"]


def home_folder(environ: Mapping[str, str]) -> str:
    """Return the home folder, an absolute path, or "" when it is not known.

    It is HOME. Where HOME is not set, as for many services, it is what the system says of this user. A HOME that is
    empty or relative is no home: files would land in the root or in the working directory.
    """
    home = environ.get("HOME")
    if home is None:
        import pwd  # most users have HOME

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return ""
    return home if os.path.isabs(home) else ""


def with_home(path: str, environ: Mapping[str, str]) -> str:
    """Return path with the home folder for a leading ``~`` or ``~user``; "" when that folder is not known.

    >>> with_home("~/packs", {"HOME": "/home/ann"}), with_home("packs", {}), with_home("~/packs", {"HOME": ""})
    ('/home/ann/packs', 'packs', '')
    """
    if not path.startswith("~"):
        return path
    user, slash, below = path.partition("/")
    home = home_folder(environ) if user == "~" else os.path.expanduser(user)
    if not os.path.isabs(home):
        return ""
    return f"{home.rstrip('/')}{slash}{below}" or "/"
