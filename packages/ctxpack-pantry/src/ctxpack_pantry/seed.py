"""Seed: outputs on disk become a pack in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctxpack_bundle import PackManifest, RootListings, assemble, read_entries, read_pack_manifest
from ctxpack_identity import Conflict, CtxUri, InvalidInput, uri_digest
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify, require_room, say_weak_points
from ctxpack_pantry.provenance import Execution, record_provenance
from ctxpack_pantry.results import Identified, Seeded

__all__ = ["VERSION", "seed"]

VERSION = "0.1.0"  # of this package; packs are marked with it


def seed(
    context: Context,
    contract_file: LoadedContractFile,
    outputs: Mapping[str, str],
    *,
    execution: Execution | None = None,
    expected: Identified | None = None,
) -> Seeded:
    """Hash the contract file's inputs, copy outputs into the cache, and publish them under the URI.

    outputs: where they lie, by name (see locate_outputs). execution: of the command that made them, for provenance.
    expected: what was identified before the command ran; inputs that changed since are an error, because it is not
    known which version made the outputs.
    Raises: Conflict when the cache holds other outputs under this URI; InvalidInput, LocalFailure; as identify does.
    """
    contract_file.require_no_map("seed")
    cache = context.cache
    with cache.staging() as staging:
        listings = RootListings(staging)
        identified = identify(context, contract_file, outputs=outputs, on_entry=listings.add)
        require_room(contract_file, identified)
        if expected is None:
            say_weak_points(context, identified)
        else:
            _require_same(expected, identified)
        listed = identified.listings | _list_packs(context, identified, listings)
        for root, text in identified.texts.items():
            listings.add_text(root, text)
        provenance = record_provenance(
            version=VERSION,
            base=contract_file.base,
            labels=contract_file.file.labels,
            upstream={resolved.name: resolved.uri for resolved in identified.inputs if resolved.uri},
            weak=(expected or identified).weak,
            execution=execution,
        )
        with cache.flush_ahead(staging):
            manifest = assemble(
                staging,
                outputs,
                contract=identified.canonical,
                listings=listings.finish(listed),
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
    changed = _changed(before.contract, after.contract)
    fix = "run it again when nothing writes to it"
    if any(what.startswith("code") for what in changed):
        fix = "let the command write elsewhere: a notebook that runs in place, for example, changes itself"
    raise InvalidInput(
        "changed while the command ran, so nothing was seeded",
        where=", ".join(changed) or "the contract",
        expected=before.uri,
        got=after.uri,
        fix=fix,
        code="E_INPUT_CHANGED",
    )


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what differs between two contracts of one contract file, for people."""
    inputs = [f"input {name}" for name, item in after["inputs"].items() if before["inputs"].get(name) != item]
    code = [
        f"{kind} of transform {number} ({now['tool']})"
        for number, (was, now) in enumerate(zip(before["transforms"], after["transforms"], strict=False))
        for kind in ("code", "environment")
        if was[f"{kind}_hash"] != now[f"{kind}_hash"]
    ]
    return inputs + code


def _list_packs(context: Context, identified: Identified, listings: RootListings) -> set[str]:
    """List the inputs that are packs of the cache; the others stay known by digest alone."""
    listed = set()
    for resolved in identified.inputs:
        folder = find_cached(context, resolved.uri) if resolved.uri and resolved.listed else None
        if folder is not None:
            root = f"inputs/{resolved.name}"
            listed.add(root)
            for entry in read_entries(folder):
                listings.add(root, entry)
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
