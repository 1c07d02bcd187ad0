"""Run: place the outputs of a contract if anybody made them already, otherwise make and seed them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import CtxUri, InvalidInput, NotFound, uri_digest
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify, require_room, say_weak_points
from ctxpack_pantry.outputs import require_outputs
from ctxpack_pantry.place import each_to, place
from ctxpack_pantry.results import Identified, Ran

if TYPE_CHECKING:
    from ctxpack_pantry.provenance import Execution

# A hit in the cache is the most frequent case, so what only a miss needs is imported where it is used.

__all__ = ["run"]


def run(
    context: Context,
    contract_file: LoadedContractFile,
    command: Sequence[str] = (),
    *,
    push: bool = False,
    force: bool = False,
    offline: bool = False,
) -> Ran:
    """Place the declared outputs if their pack is in the cache or the registry; else run the command and seed them.

    command: the contract's, where the contract file has none. It is run in the folder of the contract file. push: send
    the pack to the registry too. force: replace what is at an output's place. offline: ask the cache only. On a miss
    nothing is seeded when the command fails (its status is returned), an output is missing, or an input changed
    meanwhile. Of two processes with one contract the second waits, and then hits.
    Raises: AccessDenied, Unavailable when the registry's answer is not known, which is not a miss; InvalidInput,
    Conflict, IntegrityError, PolicyRefused, LocalFailure.
    """
    contract_file = _runnable(contract_file.with_command(command))
    outputs = require_outputs(contract_file)
    identified = identify(context, contract_file)
    say_weak_points(context, identified)
    uri = identified.uri
    waiting = "another process runs this contract; waiting"
    with context.cache.lock(uri_digest(uri), "run", on_wait=lambda: context.notice(waiting)):
        folder = find_cached(context, uri) if offline else _find(context, uri)
        if folder is not None:
            place(context, folder, each_to(read_pack_manifest(folder), outputs), force=force)
        else:
            from ctxpack_pantry.seed import seed

            status, execution = _execute(context, contract_file, identified)
            if status != 0:
                return Ran(uri, False, status)
            _require_made(outputs)
            seed(context, contract_file, outputs, execution=execution, expected=identified)
    if push:
        from ctxpack_pantry.push import push as push_pack

        push_pack(context, uri)
    return Ran(uri, folder is not None, 0)


def _runnable(contract_file: LoadedContractFile) -> LoadedContractFile:
    """Return contract_file. Raises: InvalidInput when it has no command, or is a map."""
    contract_file.require_no_map("run")
    if contract_file.file.command is None:
        raise InvalidInput(
            "no command",
            where=f"{contract_file.path}, /command",
            fix='say what makes the outputs: "command": ["sh", "run.sh"], or: ctxpack run -- sh run.sh',
            code="E_COMMAND",
        )
    return contract_file


def _execute(context: Context, contract_file: LoadedContractFile, identified: Identified) -> tuple[int, Execution]:
    """Run the command of the contract, which finds the contract in a file. Raises: as execute does."""
    from ctxpack_pantry.execution import execute

    require_room(contract_file, identified)
    contract = identified.contract
    with context.cache.staging() as staging:
        path = os.path.abspath(os.path.join(staging, "contract.json"))
        with open(path, "xb") as file:
            file.write(identified.canonical)
        variables = {**contract["variables"], "CTXPACK_CONTRACT": path, "CTXPACK_URI": identified.uri}
        return execute(contract["command"], contract_file.base, variables)


def _find(context: Context, uri: CtxUri) -> str | None:
    """Return the pack's folder, fetched if necessary, or None for a miss. Raises: as fetch does, but not NotFound."""
    folder = find_cached(context, uri)
    if folder is not None:
        return folder
    from ctxpack_pantry.fetch import fetch

    try:
        return fetch(context, uri).folder
    except NotFound:
        return None


def _require_made(outputs: Mapping[str, str]) -> None:
    """Raise InvalidInput when the command ended with 0 but did not make what the contract declares."""
    missing = [output for output in outputs.values() if not os.path.exists(output)]
    if missing:
        raise InvalidInput(
            "the command did not make this output, so nothing was seeded",
            where=missing[0],
            fix="make the command write it, or correct /outputs in the contract",
            code="E_OUTPUT_MISSING",
        )
