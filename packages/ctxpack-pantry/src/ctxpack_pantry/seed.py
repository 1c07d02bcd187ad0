"""Seed: outputs on disk become a pack in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ctxpack_bundle import InputListings, PackManifest, assemble, read_entries, read_pack_manifest
from ctxpack_cache import Cache
from ctxpack_identity import (
    Conflict,
    CtxUri,
    Digest,
    Hashing,
    InvalidInput,
    Progress,
    Resolution,
    resolve,
    uri_digest,
)
from ctxpack_identity.hashing.deephash import KnownDigests
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.provenance import record_provenance

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["PackOutputs", "Run", "Seeded", "seed"]


PackOutputs = Callable[[CtxUri], Digest]
"""Answers the URI of a pack with the tree digest of its outputs."""


class Run(NamedTuple):
    """The command that made the outputs, and how long it took."""

    command: tuple[str, ...]
    seconds: float


class Seeded(NamedTuple):
    """A pack in the cache. path: its folder; new: whether it was not there before."""

    uri: CtxUri
    path: str
    manifest: PackManifest
    new: bool
    junk: tuple[str, ...]


def seed(
    cache: Cache,
    contract: LoadedContractFile,
    outputs: Sequence[str],
    *,
    version: str,
    pack_outputs: PackOutputs,
    executor: Executor | None,
    known: KnownDigests | None,
    progress: Progress,
    run: Run | None = None,
    expected: Resolution | None = None,
) -> Seeded:
    """Hash the contract's inputs, copy outputs into the cache, and publish them under the contract's URI.

    executor, known: see hash_tree.
    expected: what the contract resolved to before its command ran; inputs that changed since are an error, because
    nobody can say which version made the outputs.
    Raises: Conflict when the cache holds other outputs under this URI; InvalidInput, LocalFailure.
    """
    with cache.staging() as staging:
        inputs = InputListings(staging)
        resolution = resolve(
            contract.file,
            contract.base,
            where=contract.path,
            pack_outputs=pack_outputs,
            hashing=Hashing(executor, known, progress),
            on_entry=inputs.add,
        )
        if expected is not None:
            _require_same(expected, resolution)
        listed = {item.name for item in resolution.inputs if item.tree is not None}
        listed |= _list_upstream(cache, resolution, inputs)
        provenance = record_provenance(
            version=version,
            base=contract.base,
            labels=contract.file.labels,
            upstream={item.name: item.uri for item in resolution.inputs if item.uri},
            command=run.command if run else (),
            seconds=run.seconds if run else None,
        )
        with cache.flush_ahead(staging):
            manifest = assemble(
                staging,
                outputs,
                contract=resolution.canonical,
                inputs=inputs.finish(listed),
                provenance=provenance,
                progress=progress,
            )
        key = uri_digest(resolution.uri)
        with cache.lock(key):
            present = cache.find(key)
            if present is not None:
                return _already_there(present, manifest, resolution)
            path = cache.publish(key, staging)
    return Seeded(resolution.uri, path, manifest, True, resolution.junk)


def _require_same(before: Resolution, after: Resolution) -> None:
    if before.uri == after.uri:
        return
    was = {item.name: item.digest for item in before.inputs}
    changed = [item.name for item in after.inputs if was.get(item.name) != item.digest]
    raise InvalidInput(
        "changed while the command ran, so nothing was seeded",
        where=f"input {', '.join(changed)}" if changed else "the contract, its code or its environment",
        expected=before.uri,
        got=after.uri,
        fix="run it again when nothing writes to the inputs; outputs do not belong below an input",
        code="E_INPUT_CHANGED",
    )


def _list_upstream(cache: Cache, resolution: Resolution, inputs: InputListings) -> set[str]:
    """List the inputs given by URI whose packs are at hand; the others stay known by digest alone."""
    listed = set()
    for item in resolution.inputs:
        folder = cache.find(uri_digest(item.uri)) if item.uri else None
        if folder is not None:
            listed.add(item.name)
            for entry in read_entries(folder):
                inputs.add(item.name, entry)
    return listed


def _already_there(path: str, made: PackManifest, resolution: Resolution) -> Seeded:
    present = read_pack_manifest(path)
    if present.outputs_digest != made.outputs_digest:
        raise Conflict(
            "the cache holds other outputs of the same contract",
            where=resolution.uri,
            expected=f"outputs {present.outputs_digest}",
            got=made.outputs_digest,
            fix="the transform is not deterministic, or something it depends on is missing from the contract; "
            f"to replace the pack: ctxpack rm {resolution.uri}",
        )
    return Seeded(resolution.uri, path, present, False, resolution.junk)
