"""References: the pack that a user means by a URI, the first digits of a cached one, a contract file, or a name."""

from __future__ import annotations

import os

from ctxpack_identity.digest import digest_from_hex, hex_of
from ctxpack_identity.errors import InvalidInput, NotFound
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_identity.uri import CtxUri, parse_uri, uri_for
from ctxpack_pantry.referencekind import NAME, PREFIX, SHORTEST_PREFIX, URI, Reference, parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxpack_identity import Digest
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.contractfile import AnyContractFile
    from ctxpack_pantry.lockfile import Pin

    # How a caller of `Pantry` means a pack: by a reference, which a text is, or by a contract file of any form.
    AnyPack = Reference | AnyContractFile

__all__ = ["Found", "Reference", "find", "find_uri", "parse_reference"]

# Every cached hit loads this module, so what only other kinds than a URI need is imported where it is used.

_SHOWN = 4  # candidates in a message


class Found(NamedTuple):
    """The URI that a reference stands for. name: if it is one; pin: what the lock file says of it."""

    uri: CtxUri
    name: str = ""
    pin: Pin | None = None


def find_uri(context: Context, pack: AnyPack) -> CtxUri:
    """Return the URI of a pack. Raises: as find does."""
    return find(context, pack).uri


def find(context: Context, pack: AnyPack, *, lock: bool = False, locked: bool = False) -> Found:
    """Return the URI of a pack, and say it of a contract file and of a name.

    A prefix is looked for among the packs of the cache only. A contract file is identified. A name is what the lock
    file pins, or what its tag in the registry points at. lock: ask the registry for a name also if it is pinned.
    locked: refuse names that are not pinned.
    Raises: InvalidInput (E_REFERENCE) for what means no pack, for a prefix of several packs, and as identify and
    read_pins do; NotFound for a prefix of none, and as resolve_name does.
    """
    if isinstance(pack, str):
        pack = parse_reference(pack)
    if isinstance(pack, Reference):
        kind, text = pack
        if kind == URI:
            return Found(parse_uri(text))
        if kind == PREFIX:
            return Found(_with_prefix(context, text))
        if kind == NAME:
            return _named(context, text, lock=lock, locked=locked)
        pack = text
    from ctxpack_pantry.contractfile import any_contract_file
    from ctxpack_pantry.identify import identify

    contract_file = any_contract_file(pack)
    uri = identify(context, contract_file).uri
    context.notice(f"{contract_file.path} is {uri}")
    return Found(uri)


def _with_prefix(context: Context, digits: str) -> CtxUri:
    """Return the URI of the only pack of the cache, also among those set aside, whose digest begins with digits."""
    cache = context.cache
    if len(digits) == 64 and cache.find(digest_from_hex(digits)) is not None:
        return uri_for(digest_from_hex(digits))
    keys = cache.keys()
    found = [key for key in keys if hex_of(key).startswith(digits)]
    if len(found) == 1:
        return uri_for(found[0])
    if found:
        raise InvalidInput(
            f"{len(found)} cached packs begin with these digits",
            where=digits,
            got=_listed(found),
            fix="write more digits",
            code="E_AMBIGUOUS",
        )
    whole = f"ctx://sha256:{digits} asks the registry" if len(digits) == 64 else "only a whole URI asks the registry"
    raise NotFound(
        f"no cached pack begins with {digits}" if len(digits) < 64 else f"no cached pack has the digest {digits}",
        where=f"cache {cache.root}",
        fix=f"`ctxpack ls` lists the cache; {whole}",
    )


def _listed(keys: Sequence[Digest]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(map(uri_for, keys[:_SHOWN])) + more


def _named(context: Context, name: str, *, lock: bool, locked: bool) -> Found:
    from ctxpack_pantry.lockfile import find_lock_file, read_pins

    path = find_lock_file()
    pin = read_pins(path).get(name)
    if pin is not None and not lock:
        context.notice(f"{name} is {pin.uri}, as {path} says")
        return Found(pin.uri, name, pin)
    if locked:
        raise InvalidInput(
            f"the name {name} is not pinned",
            where=path,
            fix=f"`ctxpack pull {name} --lock` pins what it points at now",
            code="E_NOT_PINNED",
        )
    from ctxpack_pantry.names import resolve_name

    try:
        return Found(resolve_name(context, name), name, pin)
    except NotFound as error:
        raise _no_name(error, name) from error


def _no_name(error: NotFound, name: str) -> NotFound:
    """Return the error for a name that the registry lacks, with what its user may have meant."""
    meant = ""
    if os.path.isfile(name):
        meant = f"./{name} is the contract file; "
    elif set(name) <= set("0123456789abcdef"):
        meant = f"the first digits of a URI are at least {SHORTEST_PREFIX}; "
    return NotFound(error.what, where=error.where, fix=meant + error.fix)
