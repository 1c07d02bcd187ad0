"""Lookup: items whose results are there already, in the journal of an earlier map, in cached packs, in the registry.

A pack has an item if its contract differs from ours only in what the map goes over, and its listing of that has the
item's digest. The listing is compared with the pack's contract before it is believed. It is parsed only if a line of it
could be of an item that is missing: mostly the newest pack has all that there is, and those before it have nothing to
add. What the registry says of packs like this one is a hint: if it lies, that costs time.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ctxpack_bundle import ARTIFACTS, listing_line
from ctxpack_identity import (
    CtxUri,
    Digest,
    IntegrityError,
    NotFound,
    PolicyRefused,
    TreeEntry,
    digest_from_hex,
    hex_of,
    uri_digest,
    uri_for,
)
from ctxpack_identity.contract import MAP_SCHEMA
from ctxpack_identity.items import ItemContracts, items_of
from ctxpack_identity.rules import Each
from ctxpack_pantry.claimed import unsigned_sources
from ctxpack_pantry.context import Context
from ctxpack_pantry.items.journal import Journal
from ctxpack_pantry.items.results import NOTHING, ResultDigests, path_key
from ctxpack_pantry.items.table import ItemTable
from ctxpack_pantry.items.texts import Texts, within
from ctxpack_pantry.items.workplace import FinishedResults
from ctxpack_pantry.kinship import cached_kin, kin_of
from ctxpack_pantry.made import Made
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.packview import OUTPUTS, PackView
from ctxpack_pantry.policy import Admission

__all__ = ["PackResults", "Sought", "find_finished", "find_in_cache", "find_in_registry"]

_MOST = 64  # cached packs whose manifests are read
_IN_VAIN = 3  # packs that could have items and have none, after which no other one is looked into
_LONGEST = 200  # characters of a text that somebody else wrote
_MOST_KEYS = 16  # keys that somebody else says admitted a pack


class PackResults:
    """The results in one pack. A ResultSource; its places are numbers of paths in that pack.

    image: digest of the image manifest, None where it is not known; registry: where it is from, None for the cache.
    admission: how the pack was admitted. items: what the pack's provenance says of packs that it took items from.
    outputs: paths of its results.
    """

    def __init__(
        self,
        uri: CtxUri,
        folder: str,
        image: Digest | None,
        registry: str | None,
        admission: Admission,
        items: object,
        outputs: Texts,
    ) -> None:
        self.uri, self.folder, self.image, self.registry = uri, folder, image, registry
        self._admission, self._items, self._outputs = admission, items, outputs

    def location(self, place: int, output: str) -> str:
        return os.path.join(self.folder, self._outputs[place])

    def as_provenance(self, count: int) -> dict[str, Any]:
        """Return what provenance says of this pack, which has this many of the items."""
        image = {} if self.image is None else {"image": self.image}
        by = {"admitted_by": list(self._admission.by)} if self._admission.is_sure else {}
        return {"uri": self.uri, "items": count, **image, **by}

    def earlier(self) -> Iterator[dict[str, Any]]:
        """Yield what this pack's provenance says of packs that it took items from: anything may be written there."""
        for item in self._items if isinstance(self._items, list | tuple) else ():
            if isinstance(item, dict) and isinstance(item.get("uri"), str):
                kept = {name: item[name] for name in ("uri", "image") if isinstance(item.get(name), str)}
                by = item.get("admitted_by")
                texts = [one for one in by if isinstance(one, str)] if isinstance(by, list | tuple) else []
                admitted = {"admitted_by": [text[:_LONGEST] for text in texts[:_MOST_KEYS]]} if texts else {}
                yield {name: text[:_LONGEST] for name, text in kept.items()} | admitted


class Sought:
    """What is looked for: the missing items of a table. entries: yields the listing of the input that it is made of."""

    def __init__(self, table: ItemTable, entries: Callable[[], Iterable[TreeEntry]]) -> None:
        self.table, self._entries = table, entries
        self._lacking = 0
        self._contents = frozenset[int]()

    def may_be_in(self, lines: Iterable[bytes]) -> bool:
        """Return whether a listing may have one of them. If it does not, it has no file like those of any."""
        if self._lacking != self.table.lacking:
            self._lacking = self.table.lacking
            missing = within(self.table.paths[number] for number in self.table.missing())
            self._contents = frozenset(
                hash(_content(listing_line(entry))) for entry in self._entries() if missing(entry.path)
            )
        contents = self._contents
        return any(hash(_content(line)) in contents for line in lines)


def _content(line: bytes) -> bytes:
    """Return the part of a line of a listing that says what is in the file, which its name does not change."""
    return line[line.rfind(b'"sha256":') :]


def find_finished(table: ItemTable, contracts: ItemContracts, journal: Journal, each: Each, look: str) -> set[str]:
    """Note in table the items that the journal says are finished; return the sessions that made them.

    look: at what the items share, now.
    """
    numbers = {contracts.uri(table.digest(number)): number for number in table.missing()} if journal.exists else {}
    sessions: dict[str, FinishedResults] = {}
    for finished in journal.read(look) if numbers else ():
        number = numbers.get(uri_for(digest_from_hex(finished.item.hex())))
        if number is None:
            continue
        source = sessions.setdefault(finished.session, FinishedResults(journal, finished.session, each))
        if os.path.lexists(source.location(finished.number, table.outputs[number])):
            table.found(number, source, finished.number, finished.result)
    return set(sessions)


def find_in_cache(
    context: Context, sought: Sought, contract: Mapping[str, Any], uri: CtxUri, *, sure: bool = False
) -> None:
    """Note in their table the sought items that cached packs have. contract: of the map, whose URI is uri.

    sure: only of packs that are one's own, or signed by those whom the policy names.
    """
    in_vain = 0
    for kin in islice(cached_kin(context, contract), _MOST):
        if in_vain == _IN_VAIN or not sought.table.lacking:
            return
        if kin.uri != uri:
            in_vain += _look_into(context, sought, contract, kin.uri, _from_cache, sure=sure)


def find_in_registry(
    context: Context,
    sought: Sought,
    contract: Mapping[str, Any],
    uri: CtxUri,
    staging: str,
    *,
    sure: bool = False,
    on_pack: Callable[[PackView], object] = lambda pack: None,
) -> int:
    """Note in their table the sought items that packs in the registry's list of kin have; fetch results into staging.

    staging: "" to fetch nothing but listings. sure: as for find_in_cache. on_pack: called with each pack that has some.
    Returns: bytes of layers that were fetched.
    Raises: AccessDenied, Unavailable, LocalFailure.
    """
    if not sought.table.lacking:
        return 0
    from ctxpack_pantry.kin import KinList  # HTTP is loaded only when the registry is asked

    received = in_vain = 0

    def fetched(pack: PackView, outputs: Texts) -> str:
        nonlocal received
        on_pack(pack)
        if not staging:
            return ""
        folder = os.path.join(staging, f"from-{hex_of(uri_digest(pack.manifest.uri))}")
        received += pack.extract(within(outputs), folder)
        return folder

    for kin in KinList(context.target, kin_of(contract)).read():
        if in_vain == _IN_VAIN or not sought.table.lacking:
            break
        if kin.uri != uri and context.cache.find(uri_digest(kin.uri)) is None:
            in_vain += _look_into(context, sought, contract, kin.uri, fetched, sure=sure)
    return received


def _from_cache(pack: PackView, outputs: Texts) -> str:
    return os.path.join(pack.found_in, ARTIFACTS)


def _look_into(
    context: Context,
    sought: Sought,
    contract: Mapping[str, Any],
    uri: CtxUri,
    take: Callable[[PackView, Texts], str],
    *,
    sure: bool,
) -> bool:
    """Note the sought items that a pack has. take: returns the folder that has what is at these paths of its outputs.

    A pack that is gone, damaged or refused has no items for us; the last two are said.
    Returns: whether its listing was read, which takes a request, and had none.
    """
    try:
        with PackView(context, uri) as pack:
            manifest = pack.manifest
            if not _makes_the_same(manifest.contract, contract) or manifest.outputs.nested:
                return False
            admission = _admission(context, pack)
            if sure and not (admission.is_sure and not unsigned_sources(manifest)):
                context.notice(
                    f"no items are taken from {uri}: the new pack is to be signed, and this one, or one that it took "
                    "items from, is neither your own nor signed by whom you trust"
                )
                return False
            found = _found_in(pack, sought, Each(**contract["each"]))
            if not found.numbers:
                return True
            image = Origins(context.cache).image(uri, context.target.name, pack.found_in) if pack.cached else None
            source = PackResults(
                uri,
                take(pack, found.outputs),
                image if pack.located is None else pack.located.image,
                None if pack.cached else pack.found_in,
                admission,
                manifest.provenance.get("items"),
                found.outputs,
            )
            for place, number in enumerate(found.numbers):
                sought.table.found(number, source, place, found.result(place))
    except NotFound:
        return False
    except (IntegrityError, PolicyRefused) as error:
        context.notice(f"no items are taken from {uri}: {error}")
    return False


def _admission(context: Context, pack: PackView) -> Admission:
    """Return how a pack was admitted; that it is one's own is known also where no policy was asked."""
    own = pack.cached and Made(context.state).kind_of(pack.manifest.uri, pack.manifest.digest)
    return Admission("own", ("own",)) if own else pack.admission


class _Found:
    """Missing items that a pack has: numbers of ours, paths of their results there, and the digests of these."""

    def __init__(self) -> None:
        self.numbers, self.outputs, self._results = array("L"), Texts(), bytearray()

    def add(self, number: int, output: str, result: bytes) -> None:
        self.numbers.append(number)
        self.outputs.add(output)
        self._results += result

    def result(self, place: int) -> bytes:
        return bytes(self._results[place * len(NOTHING) : (place + 1) * len(NOTHING)])


def _found_in(pack: PackView, sought: Sought, each: Each) -> _Found:
    """Return what a pack has of the sought items. Raises: IntegrityError when its listings are not what it says."""
    root, found, table = f"inputs/{each.input}", _Found(), sought.table
    if not sought.may_be_in(pack.lines(root) or ()):
        return found
    numbers, outputs = array("L"), Texts()
    for item in items_of(each, pack.listing(root) or ()):
        number = next(table.find(bytes.fromhex(hex_of(item.digest))), None)
        if number is not None and table.source(number) is None:
            numbers.append(number)
            outputs.add(item.output)
    files = pack.listing(OUTPUTS) if numbers else None
    if files is None:
        return found

    def note(place: int, result: bytes) -> None:
        if result != NOTHING:
            found.add(numbers[place], outputs[place], result)

    order = sorted(range(len(outputs)), key=lambda place: path_key(outputs[place]))
    digests = ResultDigests(((outputs[place], place) for place in order), note)
    for entry in files:
        digests.add(entry)
    digests.finish()
    return found


def _makes_the_same(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether the items of two map contracts have the same contracts, but for their digests."""
    if theirs.get("schema") != MAP_SCHEMA or not isinstance(theirs.get("inputs"), dict):
        return False
    over = ours["each"]["input"]
    others = {name: item for name, item in theirs["inputs"].items() if name != over}
    mine = {name: item for name, item in ours["inputs"].items() if name != over}
    return over in theirs["inputs"] and {**theirs, "inputs": others} == {**ours, "inputs": mine}
