"""One map that no pack is there of: its items are looked up, the missing ones made, and all assembled into a pack."""

from __future__ import annotations

import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ctxpack_bundle import ARTIFACTS, MANIFEST, Listing, OutputTree, PackManifest, RootListings, assemble, read_entries
from ctxpack_bundle.copyqueue import CopyProcesses
from ctxpack_bundle.packmanifest import FILES
from ctxpack_identity import (
    CtxPackError,
    HashedRoot,
    Hashing,
    InvalidInput,
    LocalFailure,
    TreeEntry,
    hex_of,
    uri_digest,
)
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.items import ItemContracts, items_of
from ctxpack_identity.rules import Each
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify, require_room
from ctxpack_pantry.items.inputs import input_folder
from ctxpack_pantry.items.journal import Journal
from ctxpack_pantry.items.looks import ItemLooks, Surroundings
from ctxpack_pantry.items.lookup import PackResults, Sought, find_finished, find_in_cache, find_in_registry
from ctxpack_pantry.items.making import ItemMaker
from ctxpack_pantry.items.results import NOTHING, ResultDigests, Sealing, hash_result
from ctxpack_pantry.items.table import ItemTable
from ctxpack_pantry.items.workplace import FinishedResults, Workplace
from ctxpack_pantry.misses import say_miss
from ctxpack_pantry.outlet import Outlet
from ctxpack_pantry.packview import PackView
from ctxpack_pantry.place import hold
from ctxpack_pantry.provenance import Execution, record_provenance
from ctxpack_pantry.replacing import Site
from ctxpack_pantry.results import FailedItem, Identified, Mapped
from ctxpack_pantry.seed import VERSION, Private, list_packs, publish
from ctxpack_pantry.standing import Standing

if TYPE_CHECKING:
    from ctxpack_pantry.nearest import Listings

__all__ = ["Making"]

_LOOK = 60.0  # seconds between two looks at what the items share
_ATTEMPTS = 3  # when that changes, or a result is lost
_MOST_SOURCES = 1000  # packs that provenance names
_REASON = 300  # characters of why an item failed


class _Hashed(NamedTuple):
    """A contract whose roots were hashed again, with listings. look: at what the items share, then.

    over: the input that the map goes over, None where it is a pack; shared: all other roots.
    """

    identified: Identified
    listings: tuple[Listing, ...]
    table: ItemTable
    look: str
    over: HashedRoot | None
    shared: tuple[HashedRoot, ...]
    looks: ItemLooks | None


class Making:
    """The making of one map. output: the declared one. force: as for map_items.

    sure: items are taken only from packs that are one's own, or signed by those whom the policy names.
    """

    def __init__(
        self,
        context: Context,
        contract_file: LoadedContractFile,
        identified: Identified,
        output: OutputTree,
        *,
        force: bool,
        sure: bool = False,
    ) -> None:
        self._sure = sure
        self._context, self._contract_file, self._identified = context, contract_file, identified
        self._output, self._force = output, force
        [self._name] = identified.contract["outputs"]
        self._each = Each(**identified.contract["each"])
        self._contracts = ItemContracts(identified.contract)
        excludes = compile_excludes(output.excludes) if output.excludes else None
        self._sealing = Sealing(excludes, follow=output.follow)

    def plan(self) -> Mapped:
        """Return how many items are there already, and how many would be made. Only listings are fetched."""
        with self._context.cache.staging() as staging:
            hashed = self._hash(staging)
            find_finished(hashed.table, self._contracts, self._journal(), self._each, hashed.look)
            self._look_up(staging, hashed.table)
            return self._mapped(hashed.table)

    def make(self, maker: ItemMaker) -> Mapped:
        """Make the pack, in the cache; return what came of it. Its status is 1 when items failed.

        Raises: as mapping.map_items does.
        """
        context, cache = self._context, self._context.cache
        require_room(self._contract_file, self._identified)
        self._require_replaceable()
        waiting = "another process maps other files in the same way; waiting"
        with ExitStack() as stack:
            stack.enter_context(cache.lock(self._contracts.common, "map", on_wait=lambda: context.notice(waiting)))
            staging, fetched = stack.enter_context(cache.staging()), stack.enter_context(cache.staging())
            hashed, journal = self._hash(staging), self._journal()
            reason = _Reason(context, hashed.identified, lambda root: _listed(staging, hashed, root))
            table = hashed.table
            stack.callback(journal.close)
            journal.tidy(find_finished(table, self._contracts, journal, self._each, hashed.look))
            received = self._look_up(staging, table, fetched=fetched, on_pack=reason.say)
            entries, fresh = self._entries(staging), os.path.join(fetched, "input")
            inputs = input_folder(context, self._contract_file, hashed.over, hashed.looks, table, entries, fresh)
            workplace = Workplace(table, self._contracts, self._each, journal, self._sealing, inputs)
            work = _Work(context, hashed, self._contracts, journal, workplace)
            began = time.monotonic()
            for _ in range(_ATTEMPTS):
                failed = work.make(maker, self._require_same)
                if failed:
                    return self._mapped(table, failed=failed, received=received)
                manifest = self._assemble(staging, hashed, time.monotonic() - began)
                if manifest is not None:
                    break
            else:
                raise _unstable("results of items that were there already")
            publish(context, hashed.identified, staging, manifest, kind="run")
            journal.remove()
            return self._mapped(table, received=received)

    def _hash(self, staging: str) -> _Hashed:
        """Hash everything again, and list it in staging."""
        context, over = self._context, f"inputs/{self._each.input}"
        listings, around = RootListings(staging), Surroundings()
        mapped = next((root for root in self._identified.hashed if root.listing == over), None)
        looks = ItemLooks(mapped) if mapped is not None and not mapped.is_url else None

        def look(root: HashedRoot, folder: Folder) -> None:
            if root.listing != over:
                around.on_folder(root, folder)
            elif looks is not None:
                looks.on_folder(folder)

        self._fetch_input()
        identified = identify(context, self._contract_file, on_entry=listings.add, on_folder=look)
        if identified.uri != self._identified.uri:
            raise _unstable("what the map reads")
        if looks is not None:
            looks.finish()
        listed = identified.listings | list_packs(context, identified, listings)
        for root, text in identified.texts.items():
            listings.add_text(root, text)
        finished = listings.finish(listed)
        table = ItemTable(items_of(self._each, self._entries(staging)))
        shared = tuple(root for root in identified.hashed if root.listing != over)
        return _Hashed(identified, finished, table, around.look, mapped, shared, looks)

    def _entries(self, staging: str) -> Iterator[TreeEntry]:
        """Yield the listing of the input that the map goes over, which staging has."""
        return read_entries(staging, f"inputs/{self._each.input}.jsonl")

    def _fetch_input(self) -> None:
        """Fetch the pack that the map goes over, if its input is one."""
        for resolved in self._identified.inputs:
            if resolved.name == self._each.input and resolved.uri is not None:
                Outlet(self._context, resolved.uri).take(lambda folder: folder)

    def _journal(self) -> Journal:
        return Journal(self._context.cache, self._context.state, self._contracts.common)

    def _look_up(
        self,
        staging: str,
        table: ItemTable,
        *,
        fetched: str = "",
        on_pack: Callable[[PackView], object] = lambda pack: None,
    ) -> int:
        """Look for missing items in packs. fetched: a folder for results from the registry, "" to fetch none.

        on_pack: called with each pack of the registry that has some. Returns: bytes that were fetched.
        """
        context, uri, contract = self._context, self._identified.uri, self._identified.contract
        sought = Sought(table, lambda: self._entries(staging))
        find_in_cache(context, sought, contract, uri, sure=self._sure)
        if context.offline:
            return 0
        return find_in_registry(context, sought, contract, uri, fetched, sure=self._sure, on_pack=on_pack)

    def _require_replaceable(self) -> None:
        """Raise InvalidInput, before anything is made, when what is at the output cannot be made again."""
        with hold(self._context, [self._output.location]):
            sites = {self._name: Site(self._output.location)}
            Standing(self._context, sites, {self._name: self._output.follow}).require_held(force=self._force)

    def _require_same(self) -> None:
        """Raise InvalidInput when what the map reads is not what its contract says any more."""
        if identify(self._context, self._contract_file).uri != self._identified.uri:
            raise _unstable("what the map reads")

    def _assemble(self, staging: str, hashed: _Hashed, seconds: float) -> PackManifest | None:
        """Make staging the pack; return its manifest, None when a result was lost meanwhile: it is missing then."""
        context, table = self._context, hashed.table
        lost = array("L")

        def note(number: int, result: bytes) -> None:
            if result != table.result(number):
                lost.append(number)

        def branches() -> Iterator[tuple[str, str]]:
            return ((table.outputs[number], table.location(number)) for number in table.by_output)

        private = Private()
        digests = ResultDigests(((table.outputs[number], number) for number in table.by_output), note)
        try:
            with CopyProcesses(len(table)) as processes, context.cache.flush_ahead(staging):
                manifest = assemble(
                    staging,
                    {self._name: self._output._replace(branches=branches)},
                    contract=hashed.identified.canonical,
                    listings=hashed.listings,
                    provenance=self._provenance(hashed, seconds),
                    progress=context.progress,
                    on_found=private.look,
                    on_entry=digests.add,
                    processes=processes,
                )
        except (InvalidInput, LocalFailure):
            lost = self._damaged(table)
            if not lost:
                raise
        else:
            digests.finish()
            if not lost:
                private.say(context)
                return manifest
        more = f" and of {len(lost) - 1:,} more items" if len(lost) > 1 else ""
        context.notice(f"the result of {table.paths[lost[0]]!r}{more} is damaged or gone, and is made again")
        for number in lost:
            table.lose(number)
        _remove_pack(staging)
        return None

    def _damaged(self, table: ItemTable) -> array[int]:
        """Return the items whose results are not there, or not what they were when they were found."""
        damaged = array("L")
        for number in table.by_output:
            if table.source(number) is None:
                continue
            try:
                found = hash_result(table.outputs[number], table.location(number), self._sealing)
            except CtxPackError:
                found = NOTHING
            if found != table.result(number):
                damaged.append(number)
        return damaged

    def _provenance(self, hashed: _Hashed, seconds: float) -> dict[str, Any]:
        identified, file = hashed.identified, self._contract_file.file
        sources = [(source, count) for source, count in hashed.table.counts() if isinstance(source, PackResults)]
        record = record_provenance(
            version=VERSION,
            base=self._contract_file.base,
            labels=file.labels,
            upstream={resolved.name: resolved.uri for resolved in identified.inputs if resolved.uri},
            weak=identified.weak,
            execution=Execution(tuple(identified.contract["command"]), seconds),
        )
        items = [source.as_provenance(count) for source, count in sources]
        items += [earlier for source, _ in sources for earlier in source.earlier()]
        known = {(item["uri"], item.get("image")): item for item in reversed(items)}
        return record | ({"items": [*known.values()][::-1][:_MOST_SOURCES]} if items else {})

    def _mapped(self, table: ItemTable, *, failed: tuple[FailedItem, ...] = (), received: int = 0) -> Mapped:
        finished = cached = fetched = made = 0
        for source, count in table.counts():
            if isinstance(source, PackResults):
                cached += count if source.registry is None else 0
                fetched += count if source.registry is not None else 0
            elif isinstance(source, FinishedResults):
                made += count if source.is_ours else 0
                finished += count if not source.is_ours else 0
        return Mapped(
            self._identified.uri,
            hit=False,
            status=1 if failed else 0,
            items=len(table),
            finished=finished,
            cached=cached,
            fetched=fetched,
            made=made,
            missing=len(table) - finished - cached - fetched - made,
            failed=failed,
            received=received,
        )


class _Work:
    """The making of missing items: what is made counts once the look after it is that before it."""

    def __init__(
        self, context: Context, hashed: _Hashed, contracts: ItemContracts, journal: Journal, workplace: Workplace
    ) -> None:
        self._context, self._hashed, self._contracts = context, hashed, contracts
        self._table, self._journal, self._workplace = hashed.table, journal, workplace
        self._look = hashed.look
        self._since = array("L")  # items that were made since that look
        self._looked = time.monotonic()
        self._begun = False

    def make(self, maker: ItemMaker, require_same: Callable[[], None]) -> tuple[FailedItem, ...]:
        """Make the items that are missing; return those that failed. require_same: called when a look differs.

        Raises: InvalidInput when what the items share changes again and again; as require_same and maker do.
        """
        for _ in range(_ATTEMPTS):
            numbers = array("L", self._table.missing())
            if not numbers:
                return ()
            if not self._begun:
                self._journal.begin(self._look)
                self._begun, self._looked = True, time.monotonic()
            failed = self._make_all(maker, numbers, require_same)
            self._look_again(require_same)
            if failed:
                return failed
        if next(self._table.missing(), None) is not None:
            raise _unstable("what the map reads")
        return ()

    def _make_all(
        self, maker: ItemMaker, numbers: Sequence[int], require_same: Callable[[], None]
    ) -> tuple[FailedItem, ...]:
        failed: list[FailedItem] = []
        self._context.progress("map", 0, len(numbers))
        with closing(maker.make(self._workplace, numbers)) as making:
            for made in making:
                if made is not None:
                    self._context.progress("map", 1, len(numbers))
                    if made.result is None:
                        failed.append(FailedItem(self._table.paths[made.number], made.status, made.reason[:_REASON]))
                    else:
                        self._note(made.number, made.result)
                if time.monotonic() - self._looked >= _LOOK:
                    self._look_again(require_same)
        return tuple(sorted(failed))

    def _note(self, number: int, result: bytes) -> None:
        uri = self._contracts.uri(self._table.digest(number))
        self._journal.add(bytes.fromhex(hex_of(uri_digest(uri))), number, result)
        self._table.found(number, self._workplace.results, number, result)
        self._since.append(number)

    def _look_again(self, require_same: Callable[[], None]) -> None:
        """Look at what the items share. If it is not as before, what was made since the last look does not count."""
        now = Surroundings.now(self._hashed.shared, Hashing(known=self._context.known))
        self._journal.look(now)
        if now != self._look:
            require_same()
            self._context.notice("what the items share was touched meanwhile, so some are made again")
            for number in self._since:
                self._table.lose(number)
        self._look, self._since, self._looked = now, array("L"), time.monotonic()


class _Reason:
    """Why there is no such pack yet: said once, by the cache's nearest pack, else by one of the registry."""

    def __init__(self, context: Context, identified: Identified, listings: Listings) -> None:
        self._context, self._identified, self._listings = context, identified, listings
        self._is_said = say_miss(context, identified, listings)

    def say(self, pack: PackView) -> None:
        """Say how a pack of the registry, whose listing of what the map goes over was fetched, differs."""
        if not self._is_said:
            from ctxpack_pantry.nearest import miss_line_of

            self._is_said = True
            self._context.notice(miss_line_of(self._context, self._identified, pack, self._listings))


def _listed(staging: str, hashed: _Hashed, root: str) -> Iterator[TreeEntry] | None:
    """Yield the listing of a root, which staging has if it is listed."""
    path = f"{root}.jsonl"
    return read_entries(staging, path) if any(listing.path == path for listing in hashed.listings) else None


def _unstable(what: str) -> InvalidInput:
    return InvalidInput(
        f"{what} changed during the map, so there is no pack",
        where="map",
        fix="map again when nothing writes to it; items that are finished are not made again",
        code="E_INPUT_CHANGED",
    )


def _remove_pack(staging: str) -> None:
    """Remove what assemble made in staging, but not the listings that were there."""
    shutil.rmtree(os.path.join(staging, ARTIFACTS), ignore_errors=True)
    for name in (FILES, MANIFEST):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(staging, name))
