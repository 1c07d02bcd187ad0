"""Seed: outputs on disk become a pack in the cache."""

from __future__ import annotations

from collections.abc import Sequence

from ctxpack_bundle import InputListings, PackManifest, assemble, read_entries, read_pack_manifest
from ctxpack_identity import Conflict, CtxUri, InvalidInput, uri_digest
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify
from ctxpack_pantry.provenance import Execution, record_provenance
from ctxpack_pantry.results import Identified, Seeded

__all__ = ["VERSION", "seed"]

VERSION = "0.1.0"  # of this package; packs are marked with it


def seed(
    context: Context,
    contract_file: LoadedContractFile,
    outputs: Sequence[str],
    *,
    execution: Execution | None = None,
    expected: Identified | None = None,
) -> Seeded:
    """Hash the contract file's inputs, copy outputs into the cache, and publish them under the URI.

    execution: of the command that made them, for provenance. expected: what was identified before the command ran;
    inputs that changed since are an error, because it is not known which version made the outputs.
    Raises: Conflict when the cache holds other outputs under this URI; InvalidInput, LocalFailure; as identify does.
    """
    cache = context.cache
    with cache.staging() as staging:
        inputs = InputListings(staging)
        identified = identify(context, contract_file, on_entry=inputs.add)
        if expected is not None:
            _require_same(expected, identified)
        listed = {resolved.name for resolved in identified.inputs if resolved.tree is not None}
        listed |= _list_packs(context, identified, inputs)
        provenance = record_provenance(
            version=VERSION,
            base=contract_file.base,
            labels=contract_file.file.labels,
            upstream={resolved.name: resolved.uri for resolved in identified.inputs if resolved.uri},
            execution=execution,
        )
        with cache.flush_ahead(staging):
            manifest = assemble(
                staging,
                outputs,
                contract=identified.canonical,
                inputs=inputs.finish(listed),
                provenance=provenance,
                progress=context.progress,
            )
        key = uri_digest(identified.uri)
        with cache.lock(key):
            present = cache.find(key)
            if present is not None:
                return _already_there(present, manifest)
            folder = cache.publish(key, staging)
    return Seeded(identified.uri, folder, manifest, True)


def _require_same(before: Identified, after: Identified) -> None:
    if before.uri == after.uri:
        return
    was = {resolved.name: resolved.digest for resolved in before.inputs}
    changed = [resolved.name for resolved in after.inputs if was.get(resolved.name) != resolved.digest]
    raise InvalidInput(
        "changed while the command ran, so nothing was seeded",
        where=f"input {', '.join(changed)}" if changed else "the contract, its code or its environment",
        expected=before.uri,
        got=after.uri,
        fix="run it again when nothing writes to the inputs; outputs do not belong below an input",
        code="E_INPUT_CHANGED",
    )


def _list_packs(context: Context, identified: Identified, inputs: InputListings) -> set[str]:
    """List the inputs that are packs of the cache; the others stay known by digest alone."""
    listed = set()
    for resolved in identified.inputs:
        folder = find_cached(context, resolved.uri) if resolved.uri else None
        if folder is not None:
            listed.add(resolved.name)
            for entry in read_entries(folder):
                inputs.add(resolved.name, entry)
    return listed


def _already_there(folder: str, made: PackManifest) -> Seeded:
    uri, present = CtxUri(made.uri), read_pack_manifest(folder)
    if present.outputs_digest != made.outputs_digest:
        raise Conflict(
            "the cache holds other outputs of the same contract",
            where=uri,
            expected=f"outputs {present.outputs_digest}",
            got=made.outputs_digest,
            fix="the transform is not deterministic, or something it depends on is missing from the contract; "
            f"to replace the pack: ctxpack rm {uri}",
        )
    return Seeded(uri, folder, present, False)
