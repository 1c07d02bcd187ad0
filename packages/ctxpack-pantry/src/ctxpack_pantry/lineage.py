"""Lineage: what a pack was made from, as far as packs say and are found, and what was made from it.

That an input was a pack is said by provenance alone, which is unsigned. Whether that pack has the outputs that were
hashed as the input is compared, where it is found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple, TypeVar

from ctxpack_bundle import PackManifest, read_pack_manifest
from ctxpack_identity import CtxUri, Digest, IntegrityError, InvalidInput, PolicyRefused, parse_uri, uri_for
from ctxpack_identity.contractview import input_digests, transforms
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.inspection import admitted
from ctxpack_pantry.outlet import manifest_of

__all__ = [
    "Derived",
    "ItemSource",
    "Lineage",
    "LineagePack",
    "Source",
    "Step",
    "inputs_of",
    "items_of",
    "trace_lineage",
]

_MOST = 1000  # packs and sources of packs: what people can look at
_DEEPEST = 100  # packs in a chain

_NOT_FOUND, _DAMAGED, _REFUSED = "not found", "damaged", "refused by the policy"

_T = TypeVar("_T")
Document = dict[str, Any]


class Source(NamedTuple):
    """An input of a pack. digest: of its contract; uri: the pack that it was, None for another input.

    same: whether that pack has outputs with this digest; None when the pack was not found, or is none.
    """

    name: str
    digest: str | None
    uri: CtxUri | None
    same: bool | None = None


class ItemSource(NamedTuple):
    """A pack that items of a map were taken from. items: how many; image: the digest of its image manifest."""

    uri: CtxUri
    items: int | None
    image: str | None


class Step(NamedTuple):
    """A transform: its tool, and the digests of code and environment, or the word for that there is none."""

    tool: str
    tool_version: str
    code_hash: str
    environment_hash: str


class LineagePack(NamedTuple):
    """A pack in a lineage. found_in: its folder or the registry, "" when it was not found; missing: then why.

    created: as its maker says; steps: its transforms; outputs: their digest, None when the pack was not found.
    """

    uri: CtxUri
    found_in: str
    missing: str = ""
    created: str = ""
    outputs: Digest | None = None
    steps: tuple[Step, ...] = ()
    inputs: tuple[Source, ...] = ()
    items: tuple[ItemSource, ...] = ()

    @property
    def upstream(self) -> list[CtxUri]:
        """The packs that it was made from, each once."""
        named = [source.uri for source in self.inputs if source.uri is not None]
        return list(dict.fromkeys([*named, *(source.uri for source in self.items)]))

    def as_json(self) -> Document:
        return {
            "uri": self.uri,
            "found_in": self.found_in or None,
            "missing": self.missing or None,
            "created": self.created,
            "outputs": self.outputs,
            "transforms": [step._asdict() for step in self.steps],
            "inputs": [source._asdict() for source in self.inputs],
            "items": [source._asdict() for source in self.items],
        }


class Derived(NamedTuple):
    """A cached pack that was made from another. sources: name of the input, None for items, and URI of the other."""

    pack: LineagePack
    sources: tuple[tuple[str | None, CtxUri], ...]

    def as_json(self) -> Document:
        sources = [{"input": name, "uri": uri} for name, uri in self.sources]
        return {**self.pack.as_json(), "from": sources}


class Lineage(NamedTuple):
    """packs: the pack of uri, then those that it was made from, nearest first, each once. derived: likewise.

    complete: whether nothing was left out, because there was too much of it.
    """

    uri: CtxUri
    packs: tuple[LineagePack, ...]
    derived: tuple[Derived, ...]
    complete: bool

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/lineage/v1",
            "uri": self.uri,
            "packs": [pack.as_json() for pack in self.packs],
            "derived": [derived.as_json() for derived in self.derived],
            "complete": self.complete,
        }


def trace_lineage(context: Context, uri: CtxUri, *, ask_registry: bool = False) -> Lineage:
    """Return the lineage of a pack: at most 1,000 packs and sources of packs, and chains of at most 100 packs.

    The pack itself must be admitted. ask_registry: the registry is asked for those that it was made from and the cache
    does not have; of each only the first layer is fetched. What was made from it is looked for in the cache alone.
    Raises: NotFound, IntegrityError, PolicyRefused for the pack itself; AccessDenied, Unavailable, LocalFailure.
    """
    room = _Room()
    manifest, found_in = admitted(context, uri)
    packs = _ancestors(context, _described(manifest, found_in, room), room, ask_registry)
    return Lineage(uri, packs, _descendants(context, packs, room), not room.is_short)


class _Room:
    """How much more a lineage may hold. is_short: whether something was left out."""

    def __init__(self) -> None:
        self._left = _MOST
        self.is_short = False

    def take(self) -> bool:
        """Return whether there is room for one more, and take it."""
        self.is_short |= not self._left
        self._left -= self._left > 0
        return not self.is_short

    def admit(self, wanted: Iterable[_T]) -> Iterator[_T]:
        """Yield those of wanted that there is room for."""
        for one in wanted:
            if not self.take():
                return
            yield one


def _ancestors(context: Context, first: LineagePack, room: _Room, ask_registry: bool) -> tuple[LineagePack, ...]:
    """Return first, and the packs that it was made from, nearest first."""
    packs = {first.uri: first}
    wanted = first.upstream
    for _ in range(_DEEPEST):
        new = list(room.admit(uri for uri in wanted if uri not in packs))
        for read in _read_all(context, new, ask_registry):
            packs[read.uri] = read.described(room)
        wanted = list(dict.fromkeys(source for uri in new for source in packs[uri].upstream))
    room.is_short |= any(uri not in packs for uri in wanted)
    outputs = {uri: pack.outputs for uri, pack in packs.items()}
    return tuple(_compared(pack, outputs) for pack in packs.values())


class _Read(NamedTuple):
    """What was found of a pack: its manifest and where, or why not."""

    uri: CtxUri
    manifest: PackManifest | None
    found_in: str
    missing: str = ""

    def described(self, room: _Room) -> LineagePack:
        if self.manifest is None:
            return LineagePack(self.uri, "", self.missing)
        return _described(self.manifest, self.found_in, room)


def _read_all(context: Context, uris: Sequence[CtxUri], ask_registry: bool) -> list[_Read]:
    """Return what is found of packs, in order."""
    read = {uri: _read_cached(context, uri) for uri in uris}
    asked = [uri for uri, found in read.items() if found.missing == _NOT_FOUND] if ask_registry else []
    if asked:
        from ctxpack_pantry.transfer import in_order  # HTTP is loaded only when the registry is asked

        target = context.target  # opened before threads ask for it
        ask = partial(_read_registered, context._replace(open_target=lambda: target))
        with closing(in_order(ask, asked)) as answers:
            read |= zip(asked, answers, strict=True)
    return list(read.values())


def _read_cached(context: Context, uri: CtxUri) -> _Read:
    try:
        folder = find_cached(context, uri)
        if folder is not None:
            return _Read(uri, manifest_of(uri, folder), folder)
    except PolicyRefused:
        return _Read(uri, None, "", _REFUSED)
    except IntegrityError:
        return _Read(uri, None, "", _DAMAGED)
    return _Read(uri, None, "", _NOT_FOUND)


def _read_registered(context: Context, uri: CtxUri) -> _Read:
    from ctxpack_pantry.lookup import admit, locate, open_pack

    try:
        located = locate(context.target, uri)
        if located is None:
            return _Read(uri, None, "", _NOT_FOUND)
        return _Read(uri, open_pack(context.target, admit(context, located)).manifest, context.target.name)
    except PolicyRefused:
        return _Read(uri, None, "", _REFUSED)
    except IntegrityError:
        return _Read(uri, None, "", _DAMAGED)


def _described(manifest: PackManifest, found_in: str, room: _Room) -> LineagePack:
    """Return what a pack says of itself, as far as there is room for its sources."""
    contract = manifest.contract
    created = manifest.provenance.get("created")
    return LineagePack(
        manifest.uri,
        found_in,
        created=created if isinstance(created, str) else "",
        outputs=manifest.outputs_digest,
        steps=tuple(
            Step(*(_text(one.get(field)) for field in Step._fields)) for one in room.admit(transforms(contract))
        ),
        inputs=tuple(room.admit(inputs_of(manifest))),
        items=tuple(room.admit(items_of(manifest))),
    )


def inputs_of(manifest: PackManifest) -> Iterator[Source]:
    """Yield the inputs of the contract, with the packs that provenance, which may have any form, says they were."""
    told = manifest.provenance.get("inputs")
    for name, digest in input_digests(manifest.contract).items():
        item = told.get(name) if isinstance(told, dict) else None
        yield Source(name, digest, _uri(item.get("uri")) if isinstance(item, dict) else None)


def items_of(manifest: PackManifest) -> Iterator[ItemSource]:
    """Yield the packs that items were taken from, as provenance, which may have any form, says."""
    told = manifest.provenance.get("items")
    for item in told if isinstance(told, list | tuple) else ():
        uri = _uri(item.get("uri")) if isinstance(item, dict) else None
        if uri is not None:
            count, image = item.get("items"), item.get("image")
            is_count = isinstance(count, int) and not isinstance(count, bool)
            yield ItemSource(uri, count if is_count else None, image if isinstance(image, str) else None)


def _compared(pack: LineagePack, outputs: Mapping[CtxUri, Digest | None]) -> LineagePack:
    """Return pack with it noted of each input whether the pack that it was has these outputs."""

    def same(source: Source) -> bool | None:
        there = outputs.get(source.uri) if source.uri is not None else None
        return None if there is None or source.digest is None else there == source.digest

    return pack._replace(inputs=tuple(source._replace(same=same(source)) for source in pack.inputs))


_Sources = dict[CtxUri, dict[tuple[str | None, CtxUri], None]]


def _descendants(context: Context, packs: Sequence[LineagePack], room: _Room) -> tuple[Derived, ...]:
    """Return the cached packs that were made from the first of packs, and from those.

    packs: those that the first was made from follow it; none of them was made from it, whatever its inputs are. Of
    packs with the same outputs, the nearest counts as the one that plain inputs were.
    """
    uses = _uses_in(context)
    first = packs[0]
    # None for what is not derived, or was not found.
    found: dict[CtxUri, LineagePack | None] = {pack.uri: None for pack in packs}
    sources: _Sources = {}
    wanted: dict[CtxUri, Digest | None] = {first.uri: first.outputs}
    for _ in range(_DEEPEST):
        new: dict[CtxUri, Digest | None] = {}
        for source, digest in wanted.items():
            for user, name in dict.fromkeys([*uses.get(source, ()), *uses.pop(digest or "", ())]):
                if user == source or (user in sources and _is_above(user, source, sources)):
                    continue  # its inputs have these outputs, and are older than these
                if user not in found:
                    if not room.take():
                        break
                    read = _read_cached(context, user)
                    found[user] = pack = None if read.missing else read.described(room)
                    if pack is not None:
                        new[user] = pack.outputs
                if found[user] is not None:
                    sources.setdefault(user, {})[name, source] = None
        wanted = new
    room.is_short |= bool(wanted)
    return tuple(Derived(pack, tuple(sources[user])) for user, pack in found.items() if pack is not None)


def _is_above(pack: CtxUri, other: CtxUri, sources: _Sources) -> bool:
    """Return whether other was made from pack."""
    seen: set[CtxUri] = set()
    wanted = [other]
    while wanted:
        above = {uri for _, uri in sources.get(wanted.pop(), ())} - seen
        seen |= above
        wanted += above
    return pack in seen


def _uses_in(context: Context) -> dict[str, list[tuple[CtxUri, str | None]]]:
    """Return which cached packs name what, a URI or the digest of a plain input; by which input, None for items."""
    uses = defaultdict[str, list[tuple[CtxUri, str | None]]](list)
    for cached in context.cache.packs():
        try:
            manifest = read_pack_manifest(cached.path)
        except IntegrityError:
            continue
        user = uri_for(cached.key)
        for source in inputs_of(manifest):
            named = source.uri or source.digest
            if named is not None:
                uses[named].append((user, source.name))
        for items in items_of(manifest):
            uses[items.uri].append((user, None))
    return uses


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _uri(value: Any) -> CtxUri | None:
    try:
        return parse_uri(value) if isinstance(value, str) else None
    except InvalidInput:
        return None
