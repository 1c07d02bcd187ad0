"""Run: place the outputs of a contract if anybody made them already, otherwise make and seed them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import CtxUri, InvalidInput, NotFound, uri_digest
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify
from ctxpack_pantry.place import each_to, place
from ctxpack_pantry.results import Ran

# A hit in the cache is the most frequent case, so what only a miss needs is imported where it is used.

__all__ = ["require_outputs", "run"]


def run(
    context: Context,
    contract_file: LoadedContractFile,
    command: Sequence[str],
    *,
    push: bool = False,
    force: bool = False,
    offline: bool = False,
) -> Ran:
    """Place the declared outputs if their pack is in the cache or the registry; else run command and seed its outputs.

    push: send the pack to the registry too. force: replace what is at an output's place. offline: ask the cache only.
    On a miss nothing is seeded when the command fails (its status is returned), an output is missing, or an input
    changed meanwhile. Of two processes with one contract the second waits, and then hits.
    Raises: AccessDenied, Unavailable when the registry's answer is not known, which is not a miss; InvalidInput,
    Conflict, IntegrityError, PolicyRefused, LocalFailure.
    """
    outputs = require_outputs(contract_file)
    identified = identify(context, contract_file)
    uri = identified.uri
    waiting = "another process runs this contract; waiting"
    with context.cache.lock(uri_digest(uri), "run", on_wait=lambda: context.notice(waiting)):
        folder = find_cached(context, uri) if offline else _find(context, uri)
        if folder is not None:
            place(context, folder, each_to(read_pack_manifest(folder), outputs), force=force)
        else:
            from ctxpack_pantry.execution import execute
            from ctxpack_pantry.seed import seed

            status, execution = execute(command, uri)
            if status != 0:
                return Ran(uri, False, status)
            _require_made(outputs)
            seed(context, contract_file, outputs, execution=execution, expected=identified)
    if push:
        from ctxpack_pantry.push import push as push_pack

        push_pack(context, uri)
    return Ran(uri, folder is not None, 0)


def require_outputs(contract_file: LoadedContractFile) -> list[str]:
    """Return the declared outputs as paths on disk. Raises: InvalidInput when the contract file declares none."""
    if not contract_file.outputs:
        raise InvalidInput(
            "contract declares no outputs",
            where=f"{contract_file.path}, /outputs",
            fix='say what the command makes: "outputs": [{"path": "./processed_data"}]',
            code="E_NO_OUTPUTS",
        )
    return contract_file.outputs


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


def _require_made(outputs: Sequence[str]) -> None:
    """Raise InvalidInput when the command ended with 0 but did not make what the contract declares."""
    missing = [output for output in outputs if not os.path.exists(output)]
    if missing:
        raise InvalidInput(
            "the command did not make this output, so nothing was seeded",
            where=missing[0],
            fix="make the command write it, or correct /outputs in the contract",
            code="E_OUTPUT_MISSING",
        )
