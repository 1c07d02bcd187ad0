"""A registry of each kind that claims are tested with, on loopback, which always stops at the end.

``registry2`` and ``registry3`` are the two distributions; ``ggcr`` is go-containerregistry's, as `crane registry serve`
starts it; ``ggcr-referrers`` is the same with the referrers API, which none of the others has.
"""

from __future__ import annotations

import re
from pathlib import Path

import goprograms
from registry2 import RegistryServer

__all__ = ["KINDS", "GgcrServer", "serving"]

KINDS = ("registry2", "registry3", "ggcr", "ggcr-referrers")


class GgcrServer(RegistryServer):
    """A registry in memory that runs inside ``with``: its storage stays empty. program: takes no configuration."""

    def _start_program(self, program: list[str]) -> str:
        self._spawn(program)
        return self._wait_until(lambda: _serving(self._log()), "its port")


def serving(kind: str, folder: Path) -> RegistryServer:
    """Return the server of a kind in KINDS, to be used with ``with``. folder: see RegistryServer.

    Raises: RegistryUnavailable, GoProgramUnavailable.
    """
    if kind == "registry2":
        return RegistryServer(folder)
    if kind == "registry3":
        return RegistryServer(folder, program=[str(goprograms.obtain("registry3")), "serve"])
    if kind == "ggcr":
        crane = str(goprograms.obtain("crane"))
        return GgcrServer(folder, program=[crane, "registry", "serve", "--address", "127.0.0.1:0"])
    return GgcrServer(folder, program=[str(goprograms.obtain("referrersregistry"))])


def _serving(log: str) -> str:
    found = re.search(r"serving on port (\d+)", log)
    return f"127.0.0.1:{found[1]}" if found else ""
