"""Install: the bytes of CtxPack and of what it needs, as pip has installed them, with and without claims."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.measure import execute
from bench.results import Table
from bench.stage import Stage
from bench.verdict import OURS

__all__ = ["Distribution", "installing", "needed", "shares"]

ROOT, TRUST, CRYPTOGRAPHY = "ctxpack-cli", "ctxpack-trust", "cryptography"


class Distribution(NamedTuple):
    """What pip installed under one name. size: bytes of its files, compiled ones too; needs: names."""

    files: int
    size: int
    needs: list[str]


def installing(stage: Stage) -> Iterator[Table]:
    place = stage.folder("install")
    found = {name: _installed(stage, program, place) for name, program in stage.versions.items()}
    ours = found[OURS]
    everything = needed(ours, ROOT)
    files = sum(ours[name].files for name in everything)
    table = Table(section="install", workload=OURS, files=files, size=_size(ours, everything), amounts=shares(ours))
    for name in found.keys() - {OURS}:
        table.amounts[f"{name}, with all it needs"] = _size(found[name], needed(found[name], ROOT))
    yield table


def shares(installed: Mapping[str, Distribution]) -> dict[str, int]:
    """Return the bytes of all of CtxPack, and of its parts."""
    everything = needed(installed, ROOT)
    rest = needed(installed, ROOT, without=(TRUST,))
    parts = {
        f"{OURS}, with all it needs": everything,
        f"without {TRUST} and what only it needs": rest,
        TRUST: everything & {TRUST},
        f"{CRYPTOGRAPHY}, and what only it needs": everything - rest - {TRUST},
    }
    return {what: _size(installed, names) for what, names in parts.items()}


def needed(installed: Mapping[str, Distribution], root: str, without: Collection[str] = ()) -> set[str]:
    """Return root and all that it needs, directly or not, as far as it is installed; not what only others need."""
    found: set[str] = set()
    pending = [root]
    while pending:
        name = pending.pop()
        if name in installed and name not in found and name not in without:
            found.add(name)
            pending += installed[name].needs
    return found


def _installed(stage: Stage, program: Path, place: Path) -> dict[str, Distribution]:
    command = stage.command(place, program.with_name("python"), "-I", stage.script("installed.py"))
    _, printed = execute(command, place)
    return {name: Distribution(**found) for name, found in json.loads(printed).items()}


def _size(installed: Mapping[str, Distribution], names: Collection[str]) -> int:
    return sum(installed[name].size for name in names)
