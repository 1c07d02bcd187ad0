"""Making: on a miss, a maker makes the outputs of a contract, and they are seeded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain

from ctxpack_bundle import OutputTree
from ctxpack_cache.pathlock import PathLocks
from ctxpack_cache.tree import walk
from ctxpack_identity import InvalidInput
from ctxpack_pantry.clearing import Clearing
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.execution import Ended, open_below
from ctxpack_pantry.identified import Identified
from ctxpack_pantry.identify import require_room
from ctxpack_pantry.makers import Maker, Order
from ctxpack_pantry.seed import seed
from ctxpack_pantry.weakpoints import WeakPoint

__all__ = ["make", "require_made"]


def make(
    context: Context,
    contract_file: LoadedContractFile,
    identified: Identified,
    outputs: Mapping[str, OutputTree],
    maker: Maker,
    *,
    held: PathLocks,
    force: bool,
    keep_outputs: bool,
    replace: bool,
) -> int:
    """Let maker make the outputs, and seed them; return its status. Unless that is 0, nothing is seeded.

    held: the places of the outputs, which stay held until a command has ended, even if this process is killed.
    replace: outputs in the cache give way. force, keep_outputs, Raises: as run.run; as the maker does.
    """
    require_room(contract_file, identified)
    with Clearing(context, identified.uri, outputs, force=force, keep=keep_outputs) as clearing:
        places = {name: tree.location for name, tree in outputs.items()}
        ended = maker.make(Order(context, contract_file, identified, places, held.descriptors))
        weak = [
            WeakPoint("survivor", f"process {process.pid} ({process.name}), which the command left behind, still runs")
            for process in ended.survivors
        ]
        for point in weak:
            context.notice(f"weak point: {point.what}")
        if ended.status:
            return ended.status
        require_made(clearing.missing(), maker.what)
        made = clearing.made_outputs()
        _require_closed(ended, [os.path.realpath(tree.location) for tree in made.values()])
        seed(
            context,
            contract_file,
            made,
            execution=ended.execution,
            expected=identified,
            weak=(*clearing.weak, *weak),
            replace=replace,
        )
        clearing.made = True
    return 0


def require_made(missing: Sequence[str], what: str) -> None:
    """Raise InvalidInput when the maker succeeded but did not make what the contract declares. what: Maker.what."""
    if missing:
        raise InvalidInput(
            f"the {what} did not make this output, so nothing was seeded",
            where=missing[0],
            fix=f"make the {what} write it, or correct /outputs in the contract",
            code="E_OUTPUT_MISSING",
        )


def _require_closed(ended: Ended, places: Sequence[str]) -> None:
    """Raise InvalidInput when a process that the command left may still write to an output."""
    fix = "let the command wait for it (in a shell: `wait`), or end it"
    for process in open_below(ended.survivors, places):
        raise InvalidInput(
            "a process that the command left behind has an output open, so nothing was seeded",
            where=f"process {process.pid} ({process.name})",
            fix=fix,
            code="E_OUTPUT_OPEN",
        )
    for path in places if ended.survivors else ():
        if written := _written_since(path, ended.ended):
            raise InvalidInput(
                "a process that the command left behind still runs, and this changed meanwhile, so nothing was seeded",
                where=written,
                fix=fix,
                code="E_OUTPUT_OPEN",
            )


def _written_since(path: str, moment: int) -> str:
    """Return the path of something at or below path that changed after that time (ns); "" if nothing did."""
    found = path
    try:
        for found in chain([path], (entry.path for entry in walk(path)) if os.path.isdir(path) else ()):
            if os.lstat(found).st_ctime_ns > moment:
                return found
    except FileNotFoundError:
        return found  # it went just now
    return ""
