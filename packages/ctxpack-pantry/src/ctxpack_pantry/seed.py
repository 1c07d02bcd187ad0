"""Seed: outputs on disk become a pack in the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctxpack_bundle import (
    OutputTree,
    PackManifest,
    RootListings,
    assemble,
    read_entries,
    read_pack_manifest,
)
from ctxpack_identity import Conflict, CtxUri, InvalidInput, NotFound, uri_digest
from ctxpack_identity.hashing.scan import Found
from ctxpack_pantry.admission import find_cached, is_admitted
from ctxpack_pantry.claimed import unsigned_sources
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify, require_room, say_weak_points
from ctxpack_pantry.kinship import note_kin
from ctxpack_pantry.made import Made
from ctxpack_pantry.outlet import damage_of, require_intact
from ctxpack_pantry.provenance import Execution, record_provenance
from ctxpack_pantry.results import Identified, Seeded
from ctxpack_pantry.sealed import note_sealed
from ctxpack_pantry.weakpoints import WeakPoint

if TYPE_CHECKING:
    from ctxpack_identity.rules import Each
    from ctxpack_pantry.items.seeding import Seeding

__all__ = ["VERSION", "Private", "list_packs", "publish", "require_same", "same_outputs", "seed"]

VERSION = "0.1.0"  # of this package; packs are marked with it


def seed(
    context: Context,
    contract_file: LoadedContractFile,
    outputs: Mapping[str, OutputTree],
    *,
    execution: Execution | None = None,
    expected: Identified | None = None,
    weak: Sequence[WeakPoint] = (),
    replace: bool = False,
) -> Seeded:
    """Hash the contract file's inputs, copy outputs into the cache, and publish them under the URI.

    outputs: where they lie, by name (see locate_outputs). execution: of the command that made them, for provenance.
    expected: what was identified before the command ran; inputs that changed since, even if they changed back, are an
    error, because it is not known which version made the outputs. weak: weak points of the execution. replace: other
    outputs that the cache holds under this URI give way, which is said.
    Of a map, the output must hold a result for each item, and nothing else.
    Raises: Conflict when the cache holds other outputs, unless replace is set; InvalidInput, LocalFailure; as identify
    does.
    """
    cache = context.cache
    with cache.staging() as staging:
        listings = RootListings(staging)
        identified = identify(
            context,
            contract_file,
            outputs={name: tree.location for name, tree in outputs.items()},
            on_entry=listings.add,
            before=expected and expected.looks,
        )
        require_room(contract_file, identified)
        if expected is None:
            say_weak_points(context, identified)
            weak = [*identified.weak, *weak]
        else:
            weak = [*expected.weak, *weak, *require_same(context, expected, identified)]
        listed = identified.listings | list_packs(context, identified, listings)
        for root, text in identified.texts.items():
            listings.add_text(root, text)
        provenance = record_provenance(
            version=VERSION,
            base=contract_file.base,
            labels=contract_file.file.labels,
            upstream={resolved.name: resolved.uri for resolved in identified.inputs if resolved.uri},
            weak=weak,
            execution=execution,
        )
        private, finished = Private(), listings.finish(listed)
        items = None if contract_file.file.each is None else _items_of(staging, contract_file.file.each)
        with cache.flush_ahead(staging):
            manifest = assemble(
                staging,
                outputs,
                contract=identified.canonical,
                listings=finished,
                provenance=provenance,
                progress=context.progress,
                on_found=private.look,
                on_entry=None if items is None else items.add,
            )
        if items is not None:
            items.finish()
        private.say(context)
        kind = "seed" if expected is None else "run"
        return publish(context, identified, staging, manifest, kind=kind, replace=replace)


def _items_of(staging: str, each: Each) -> Seeding:
    from ctxpack_pantry.items.seeding import Seeding  # few contracts are maps

    return Seeding(each, read_entries(staging, f"inputs/{each.input}.jsonl"))


def publish(
    context: Context,
    identified: Identified,
    staging: str,
    manifest: PackManifest,
    *,
    kind: str,
    replace: bool = False,
) -> Seeded:
    """Make a staging folder, which is the pack of manifest, a pack of the cache, and one's own.

    kind: how it was made, see `made`; a map that took items of packs that nobody vouches for counts as a seed, since a
    claim would bless them. Outputs that are cached under this URI stay if they are the same. replace: others
    give way, which is said; so do those that the policy does not admit.
    Raises: Conflict when the cache holds other outputs, unless replace is set; LocalFailure.
    """
    cache, uri, key = context.cache, identified.uri, uri_digest(identified.uri)
    made = Made(context.state)
    if unsigned_sources(manifest):
        kind = "seed"
    with cache.lock(key):
        present = _intact(context, uri)
        if present is not None:
            held = read_pack_manifest(present)
            same = same_outputs(held, manifest)
            if same:
                made.add(uri, held.digest, "rebuild" if kind == "run" else kind)
            if same and is_admitted(context, uri, present):
                return Seeded(uri, present, held, False)
            admitted = not same and is_admitted(context, uri, present)
            if admitted and not replace:
                raise _conflict(uri, held, manifest)
            cache.remove(key)
            if not same:
                _say_replaced(context, held, manifest, admitted=admitted)
        # Before there is a pack: if this process is killed in between, that says nothing of anybody's pack.
        if not made.add(uri, manifest.digest, kind) and context.trust.read():
            context.notice(
                "that this pack is your own cannot be kept in the state folder, so your policy treats it like anybody's"
            )
        folder = cache.publish(key, staging)
        note_sealed(cache, uri, folder)
        note_kin(cache, uri, identified.contract)
    return Seeded(uri, folder, manifest, True)


def same_outputs(one: PackManifest, other: PackManifest) -> bool:
    """Return whether two packs have the same files, with the same modes, in the same outputs."""
    files, others = one.listings[0], other.listings[0]
    return (files, one.outputs.roots, one.outputs_digest) == (others, other.outputs.roots, other.outputs_digest)


def _intact(context: Context, uri: CtxUri) -> str | None:
    """Return the folder of the pack in the cache; None when there is none, or when it was damaged, which is said."""
    folder = context.cache.find(uri_digest(uri))
    try:
        is_sound = folder is not None and damage_of(context, uri, folder, require_intact) is None
    except NotFound:  # it was removed meanwhile
        return None
    return folder if is_sound else None


class Private:
    """Counts the outputs that only their owner may read: a pack keeps 0644 and 0755, and whoever has it reads all."""

    def __init__(self) -> None:
        self._count, self._first = 0, ""

    def look(self, found: Found) -> None:
        if not found.is_empty_folder and not found.stat.st_mode & 0o077:
            self._count += 1
            self._first = self._first or found.path

    def say(self, context: Context) -> None:
        if self._count:
            others = f" and {self._count - 1} more" if self._count > 1 else ""
            what = "only their owner may read them here, but whoever can pull the pack can read them, too"
            context.notice(f"private outputs ({self._first}{others}): {what}")


def require_same(context: Context, before: Identified, after: Identified) -> list[WeakPoint]:
    """Return a weak point for each input that was touched. Raises: InvalidInput when one changed."""
    changed = _changed(before.contract, after.contract) if before.uri != after.uri else []
    different = after.looks.differences.values()
    back = [one.where for one in different if not one.touched]
    if before.uri == after.uri and not back:
        what = "ctime changed while the command ran, as a backup that makes hard links changes it"
        touched = [WeakPoint("touched", f"{one.where}: {what}") for one in different]
        for point in touched:
            context.notice(f"weak point: {point.what}")
        return touched
    changed = changed or back
    fix = "run it again when nothing writes to it"
    if any(what.startswith("code") for what in changed):
        fix = "let the command write elsewhere: a notebook that runs in place, for example, changes itself"
    raise InvalidInput(
        "changed while the command ran, so nothing was seeded",
        where=", ".join(changed) or "the contract",
        expected=before.uri,
        got=after.uri if before.uri != after.uri else "a file with another mtime, size or inode, and the same content",
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


def list_packs(context: Context, identified: Identified, listings: RootListings) -> set[str]:
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


def _conflict(uri: CtxUri, held: PackManifest, made: PackManifest) -> Conflict:
    return Conflict(
        "the cache holds other outputs of the same contract",
        where=uri,
        expected=f"outputs {held.outputs_digest}",
        got=made.outputs_digest,
        fix="the work is not deterministic, or something it depends on is missing from the contract. To put these in "
        f"its place: `ctxpack rm {uri}`, then the same again, or `ctxpack run --recompute`; to keep both: another "
        "`salt` in one contract",
    )


def _say_replaced(context: Context, held: PackManifest, made: PackManifest, *, admitted: bool) -> None:
    why = (
        "the transform is not deterministic, or something it depends on is missing from the contract"
        if admitted
        else "the policy did not admit it"
    )
    context.notice(
        f"the cached pack had other outputs, {held.outputs_digest}, and was replaced by {made.outputs_digest}: {why}"
    )
