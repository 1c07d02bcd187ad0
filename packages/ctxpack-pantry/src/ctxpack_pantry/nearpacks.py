"""Near packs: those of the same kin whose contracts differ least, in the cache, or in a registry too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import (
    AccessDenied,
    CtxPackError,
    CtxUri,
    LocalFailure,
    Unavailable,
    parse_json,
    uri_digest,
    uri_for,
)
from ctxpack_identity.contractview import tools
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.difference import compare
from ctxpack_pantry.kinship import cached_kin, kin_of

if TYPE_CHECKING:
    from ctxpack_pantry.lookup import Located

__all__ = ["Near", "NearPack", "near_cached", "near_packs"]

_MOST_CACHED: Final = 64  # packs of the kin whose contracts are read, newest first: a millisecond each
_MOST_OTHERS: Final = 256  # packs of no kin that are asked for their tools
_MOST_LISTED: Final = 8  # packs of the registry's list whose contracts are fetched: two requests each


class NearPack(NamedTuple):
    """A pack. members: how many members of its contract differ (Difference.members).

    located: its image manifest, None for a cached pack.
    """

    uri: CtxUri
    members: int
    located: Located | None = None


class Near(NamedTuple):
    """Packs, the nearest first, and of equal ones the newest. looked_at: where they were looked for, for people."""

    packs: tuple[NearPack, ...]
    looked_at: str


def near_cached(context: Context, uri: CtxUri, contract: Mapping[str, Any]) -> list[NearPack]:
    """Return the cached packs of the kin of contract, but not that of uri, as in Near. Asks no registry.

    A pack that is damaged, or that the policy refuses, is none. Where one differs in one member, none can be nearer.
    """
    found = []
    for pack in islice(cached_kin(context, contract), _MOST_CACHED):
        other = _cached_contract(context, pack.uri) if pack.uri != uri else None
        if other is not None:
            found.append(NearPack(pack.uri, compare(other, contract).members))
            if found[-1].members <= 1:
                break
    return sorted(found, key=lambda pack: pack.members)


def near_packs(context: Context, uri: CtxUri, contract: Mapping[str, Any]) -> Near:
    """Return the packs near to contract, but not that of uri: of the cache, and of the registry's list of kin.

    The registry is asked unless a cached pack differs in one member only. Its list is a hint: what it names and does
    not have, or is of another kin, is skipped. Where there is no kin, cached packs that begin with the same tool count.
    """
    found = near_cached(context, uri, contract)
    looked_at = f"{len(found)} cached packs of the same kin (tools, input and output names)"
    if not found or found[0].members > 1:
        listed = _near_listed(context, {uri, *(pack.uri for pack in found)}, contract)
        looked_at += f", {len(listed)} of the registry's list of kin"
        found = sorted(found + listed, key=lambda pack: pack.members)
    if not found:
        found = sorted(_with_tool(context, uri, contract), key=lambda pack: pack.members)
        looked_at += f", {len(found)} other cached packs that begin with the same tool"
    return Near(tuple(found), looked_at)


def _near_listed(context: Context, known: set[CtxUri], contract: Mapping[str, Any]) -> list[NearPack]:
    from ctxpack_pantry.kin import KinList  # HTTP is loaded only when the registry is asked
    from ctxpack_pantry.transfer import in_order

    kin, target = kin_of(contract), context.target

    def look(uri: CtxUri) -> NearPack | None:
        found = _listed_contract(context, uri)
        if found is None or kin_of(found[1]) != kin:
            return None
        located, other = found
        return NearPack(uri, compare(other, contract).members, located)

    try:
        listed = [pack.uri for pack in KinList(target, kin).read() if pack.uri not in known]
    except (AccessDenied, Unavailable, LocalFailure) as error:
        context.notice(f"the registry was not asked for packs that are near: {error}")
        return []
    return [pack for pack in in_order(look, listed[:_MOST_LISTED]) if pack is not None]


def _listed_contract(context: Context, uri: CtxUri) -> tuple[Located, dict[str, Any]] | None:
    """Return a pack of the registry, and its contract, which its URI names; None when it cannot be had."""
    from ctxpack_pantry.lookup import locate

    try:
        located = locate(context.target, uri)
        if located is None:
            return None
        contract = parse_json(context.target.fetch(located.manifest.config))
    except CtxPackError:  # a hint that proves wrong costs no more than this
        return None
    return (located, contract) if isinstance(contract, dict) else None


def _with_tool(context: Context, uri: CtxUri, contract: Mapping[str, Any]) -> Iterator[NearPack]:
    first = tools(contract)[:1]
    for pack in sorted(context.cache.packs(), key=lambda pack: pack.published, reverse=True)[:_MOST_OTHERS]:
        other = _cached_contract(context, uri_for(pack.key)) if uri_digest(uri) != pack.key else None
        if other is not None and first and tools(other)[:1] == first:
            yield NearPack(uri_for(pack.key), compare(other, contract).members)


def _cached_contract(context: Context, uri: CtxUri) -> dict[str, Any] | None:
    """Return the contract of a cached pack; None when there is none that is sound and admitted."""
    try:
        folder = find_cached(context, uri)
        manifest = None if folder is None else read_pack_manifest(folder)
    except CtxPackError:
        return None
    return manifest.contract if manifest is not None and manifest.uri == uri else None
