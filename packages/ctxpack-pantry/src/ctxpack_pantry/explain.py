"""Explain: why two URIs differ, or why one is a miss; and what differs between two packs of one URI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from ctxpack_bundle import RootListings, read_entries
from ctxpack_identity import (
    AccessDenied,
    IntegrityError,
    LocalFailure,
    NotFound,
    PolicyRefused,
    TreeEntry,
    Unavailable,
)
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile, load_contract_file
from ctxpack_pantry.difference import Difference, Explained, RootDifference, Side, compare
from ctxpack_pantry.filechanges import ALL, FEW, merge
from ctxpack_pantry.identified import Identified
from ctxpack_pantry.identify import identify
from ctxpack_pantry.lockedpackages import package_changes
from ctxpack_pantry.nearpacks import near_packs
from ctxpack_pantry.packview import OUTPUTS, PackView
from ctxpack_pantry.reference import find_uri, parse_reference
from ctxpack_pantry.referencekind import CONTRACT

__all__ = ["explain"]

Listings = Callable[[str], Iterator[TreeEntry] | None]
Texts = Callable[[str], bytes | None]

_ATTEMPTS = 4  # near packs that are opened, if one after the other proves damaged
_NO_ANSWER = (AccessDenied, Unavailable, LocalFailure, IntegrityError, PolicyRefused)


class _Sided(NamedTuple):
    """A side that is open. outputs: their digest; None for a contract file. listing, text: as those of a PackView.

    cached: whether it is a pack of the cache.
    """

    side: Side
    contract: dict[str, Any]
    outputs: str | None
    cached: bool
    listing: Listings
    text: Texts


def explain(
    context: Context,
    one: str | LoadedContractFile,
    other: str | LoadedContractFile | None = None,
    *,
    command: Sequence[str] = (),
    limit: int | None = FEW,
) -> Explained:
    """Return what differs between one, the old side, and other, the new one: contract files, or any references.

    one alone is the new side, and the nearest pack the old one: of the cache, or of the registry's list of kin; but if
    one is a contract file whose pack there is, that pack. When cache and registry have other outputs of one URI, these
    are compared. Of a pack that only the registry has, only the listings that differ are fetched.
    command: of contract files that have none. limit: files of a kind that are shown; None means ALL.
    Raises: NotFound when there is no such pack, and none is near; InvalidInput, as identify does; IntegrityError,
    AccessDenied, Unavailable, PolicyRefused, LocalFailure.
    """
    most = ALL if limit is None else limit
    with ExitStack() as stack:
        now = _open(context, stack, one if other is None else other, command)
        if other is not None:
            was = _open(context, stack, one, command)
            if was.side.uri == now.side.uri:
                return _explain_outputs(context, stack, was, now, most)
            return _explained(was, now, most)
        there = _there(context, stack, now)
        if there is not None:
            found = _explain_outputs(context, stack, there, now, most)
            if now.side.is_contract_file or found.outputs is not None:
                return found
        return _explain_nearest(context, now, most)


def _explain_nearest(context: Context, now: _Sided, limit: int) -> Explained:
    """Compare the nearest pack. A pack that proves damaged, or gone, gives way to the next one."""
    near = near_packs(context, now.side.uri, now.contract)
    for pack in near.packs[:_ATTEMPTS]:
        try:
            with PackView(context, pack.uri, examine=True, known=pack.located) as view:
                return _explained(_of_view(view), now, limit)._replace(nearest=True)
        except (NotFound, *_NO_ANSWER) as error:
            context.notice(f"not compared with {pack.uri}: {error}")
    raise NotFound(
        f"no pack is near: looked at {near.looked_at}",
        where=now.side.uri,
        fix="name what to compare: ctxpack explain A B",
        code="E_NOTHING_NEAR",
    )


def _explained(was: _Sided, now: _Sided, limit: int) -> Explained:
    """Compare the contracts, and the files of what differs."""
    difference = compare(was.contract, now.contract)

    def fill(root: RootDifference | None) -> RootDifference | None:
        return None if root is None else _filled(was, now, root, limit)

    transforms = tuple(
        one._replace(code=fill(one.code), environment=fill(one.environment)) for one in difference.transforms
    )
    inputs = tuple(one._replace(root=_filled(was, now, one.root, limit)) for one in difference.inputs)
    return Explained(was.side, now.side, difference._replace(transforms=transforms, inputs=inputs))


def _filled(was: _Sided, now: _Sided, root: RootDifference, limit: int) -> RootDifference:
    """Return root with what differs between the listings, where both sides have one, and between lock files."""
    if not (_is_digest(root.old) and _is_digest(root.new)):
        return root
    old, new = was.listing(root.old_root), now.listing(root.new_root)
    if old is not None and new is not None:
        root = root._replace(files=merge(old, new, limit=limit))
    else:
        root = root._replace(unlisted=tuple(name for name, one in (("old", old), ("new", new)) if one is None))
    if root.new_root.startswith("environment/"):
        texts = was.text(root.old_root), now.text(root.new_root)
        if texts[0] is not None and texts[1] is not None:
            root = root._replace(packages=package_changes(texts[0], texts[1]))
    return root


def _is_digest(word: str | None) -> bool:
    return word is not None and word.startswith("sha256:")


def _there(context: Context, stack: ExitStack, now: _Sided) -> _Sided | None:
    """Return the pack of now, if there is one: now itself unless it is a contract file."""
    if not now.side.is_contract_file:
        return now
    try:
        return _of_view(stack.enter_context(PackView(context, now.side.uri, examine=True)))
    except NotFound:
        return None
    except _NO_ANSWER as error:
        context.notice(f"not known whether the pack is there: {error}")
        return None


def _explain_outputs(context: Context, stack: ExitStack, was: _Sided, now: _Sided, limit: int) -> Explained:
    """Compare the outputs of two packs of one URI: the one that cache and registry have, if it is in both."""
    same = Explained(was.side, now.side, Difference())
    here = next((one for one in (was, now) if one.cached), None)
    if here is None:
        return same
    try:
        there = _of_view(stack.enter_context(PackView(context, here.side.uri, skip_cache=True, examine=True)))
    except NotFound:
        return same
    except _NO_ANSWER as error:
        context.notice(f"not known whether the registry has other outputs: {error}")
        return same
    if there.outputs == here.outputs:
        return same
    root = RootDifference(there.outputs, here.outputs, OUTPUTS, OUTPUTS)
    return Explained(there.side, here.side, Difference(), _filled(there, here, root, limit))


def _open(context: Context, stack: ExitStack, given: str | LoadedContractFile, command: Sequence[str]) -> _Sided:
    """Return a contract file, or what a reference stands for, open until stack is left."""
    if not isinstance(given, str):
        return _of_contract_file(context, stack, given, command)
    reference = parse_reference(given)
    if reference.kind == CONTRACT:
        return _of_contract_file(context, stack, load_contract_file(reference.text), command)
    return _of_view(stack.enter_context(PackView(context, find_uri(context, reference), examine=True)))


def _of_view(view: PackView) -> _Sided:
    manifest = view.manifest
    side = Side(manifest.uri, view.found_in)
    return _Sided(side, manifest.contract, manifest.outputs_digest, view.cached, view.listing, view.text)


def _of_contract_file(
    context: Context, stack: ExitStack, contract_file: LoadedContractFile, command: Sequence[str]
) -> _Sided:
    """Hash a contract file's inputs, code and environment; their listings are written into a staging folder."""
    if contract_file.file.command is None:
        contract_file = contract_file.with_command(command)
    staging = stack.enter_context(context.cache.staging())
    listings = RootListings(staging)
    identified = identify(context, contract_file, on_entry=listings.add)
    listings.finish(identified.listings)
    listing = partial(_listing_of, context, stack, identified, staging)
    return _Sided(
        Side(identified.uri, contract_file.path, True), identified.contract, None, False, listing, identified.texts.get
    )


def _listing_of(
    context: Context, stack: ExitStack, identified: Identified, staging: str, root: str
) -> Iterator[TreeEntry] | None:
    if root in identified.listings:
        return read_entries(staging, f"{root}.jsonl")
    packs = {f"inputs/{item.name}": item.uri for item in identified.inputs if item.uri}
    if root not in packs:
        return None
    return stack.enter_context(PackView(context, packs[root], examine=True)).listing(OUTPUTS)
