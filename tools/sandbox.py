"""The environment of a new account, in one folder."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

__all__ = ["SETTLE", "private_environment"]

# Other variables could bring the settings, registry, credentials or proxy of the developer into a test.
KEPT = ("LANG", "TERM")

SETTLE = "CTXPACK_SETTLE"


def private_environment(home: Path) -> dict[str, str]:
    """Return an environment whose home, settings, data, credentials and cache are all inside home.

    The commands installed with the running Python, such as ``ctxpack``, come first on PATH.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    environment["CTXPACK_CACHE"] = str(home / ".cache" / "ctxpack")
    # Each registry here has one writer, so a push need not wait to see whether another one wrote the tag at the same
    # time. What tests races sets its own time.
    environment[SETTLE] = "0"
    for name, folder in {
        "HOME": ".",
        "TMPDIR": "tmp",
        "XDG_CACHE_HOME": ".cache",
        "XDG_CONFIG_HOME": ".config",
        "XDG_DATA_HOME": ".local/share",
        "XDG_RUNTIME_DIR": ".run",
        "XDG_STATE_HOME": ".local/state",
    }.items():
        (home / folder).mkdir(parents=True, exist_ok=True)
        environment[name] = str((home / folder).resolve())
    return environment
