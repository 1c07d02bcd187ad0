"""Kinship: which packs of the cache are of one kin, that is, share tools, input names and output names.

One empty note for each pack, ``kin/<64 hex of the kin>/<64 hex of the URI>``. The notes are made anew, from all packs,
when their folder is not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from ctxpack_identity.canonical import canonical_json
from ctxpack_identity.contractview import input_names, output_names, tools
from ctxpack_identity.digest import digest_from_hex, digest_of, hex_of
from ctxpack_identity.errors import CtxPackError
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_identity.uri import CtxUri, uri_digest, uri_for
from ctxpack_pantry.notes import Notes

if TYPE_CHECKING:
    from ctxpack_cache import Cache
    from ctxpack_pantry.context import Context

__all__ = ["CachedKin", "cached_kin", "kin_of", "note_kin"]

_KIND = "kin"


class CachedKin(NamedTuple):
    """A cached pack of the kin that was asked for."""

    uri: CtxUri
    folder: str


def cached_kin(context: Context, contract: Mapping[str, Any]) -> Iterator[CachedKin]:
    """Yield the cached packs of the kin of a contract, newest first. They are not admitted yet, and may be damaged."""
    notes = Notes(context.cache, _KIND)
    if not os.path.isdir(notes.folder):
        _note_all(context.cache)
    kin = kin_of(contract)
    found = []
    for name in notes.names(kin):
        try:
            key = digest_from_hex(name)
            folder = context.cache.find(key)
            if folder is None:
                notes.remove(f"{kin}/{name}")
            else:
                found.append((os.lstat(folder).st_mtime_ns, name, CachedKin(uri_for(key), folder)))
        except (CtxPackError, OSError):
            continue  # no name of ours, or removed meanwhile
    for _, _, pack in sorted(found, reverse=True):
        yield pack


def note_kin(cache: Cache, uri: CtxUri, contract: Mapping[str, Any]) -> None:
    """Note the kin of a pack that was just published."""
    notes = Notes(cache, _KIND)
    if os.path.isdir(notes.folder):  # else all are noted when somebody asks first
        notes.write(f"{kin_of(contract)}/{hex_of(uri_digest(uri))}", b"")


def kin_of(contract: Mapping[str, Any]) -> str:
    """Return the 64 hexadecimal digits that name the kin of the pack of a contract. FORMAT.md, "Kin"."""
    names = {
        "inputs": _sorted(input_names(contract)),
        "outputs": _sorted(output_names(contract)),
        "schema": "ctxpack/kin/v1",
        "tools": _sorted(tools(contract)),
    }
    return hex_of(digest_of(canonical_json(names)))


def _note_all(cache: Cache) -> None:
    from ctxpack_bundle import read_pack_manifest

    notes = Notes(cache, _KIND)
    for pack in cache.packs():
        try:
            contract = read_pack_manifest(pack.path).contract
        except CtxPackError:
            continue
        notes.write(f"{kin_of(contract)}/{hex_of(pack.key)}", b"")


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(set(names), key=str.encode)
