"""Admit: the one place where a policy decides whether a pack may be used, before any chunk of it is fetched or placed.

A lookup has three steps: locate (`lookup.locate`), admit (here), open (`lookup.open_pack`). A cached pack is admitted
like any other, under the name of the repository that is asked for. `deciding` decides; here is what a hit needs, which
mostly is that there is no policy, or that the same was asked before.
"""

from __future__ import annotations

from collections.abc import Callable

from ctxpack_identity.errors import PolicyRefused
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.made import Made
from ctxpack_pantry.origins import Origins, pack_digest
from ctxpack_pantry.policy import ACCEPTED, Admission, Candidate
from ctxpack_pantry.remembered import Remembered, question

if TYPE_CHECKING:
    from ctxpack_identity import Digest
    from ctxpack_pantry.context import Context

__all__ = ["admit_cached", "ask", "find_cached", "is_admitted", "note_pushed"]


def ask(context: Context, uri: CtxUri, image: Callable[[], Digest | None]) -> Admission:
    """Ask a policy that the caller of `Pantry` gave about the pack of uri; without one, the pack is accepted.

    image: see Candidate; called only when there is such a policy. Raises: PolicyRefused.
    """
    if context.policy is None:
        return ACCEPTED
    return context.policy(Candidate(uri, context.target.name, image())) or ACCEPTED


def find_cached(context: Context, uri: CtxUri) -> str | None:
    """Return the folder of the pack in the cache, admitted, or None when the cache does not have it.

    Raises: PolicyRefused; LocalFailure when the cache cannot be read; as admit_cached does.
    """
    folder = context.cache.find(uri_digest(uri))
    if folder is not None:
        admit_cached(context, uri, folder)
    return folder


def admit_cached(context: Context, uri: CtxUri, folder: str) -> Admission:
    """Return how the cached pack in folder is admitted. No registry is asked.

    Raises: PolicyRefused (NOT_ADMITTED, DENIED, DENIED_URI, or what a caller's policy says); InvalidInput,
    LocalFailure for a policy that cannot be read.
    """
    asked = ask(context, uri, lambda: Origins(context.cache).image(uri, context.target.name, folder))
    trust = context.trust
    policy = trust.read()
    if not policy and not trust.at_least and not trust.foreign:
        return asked
    pack = pack_digest(folder)
    registry = context.registry or context.target.name
    name = question(policy, trust, registry)
    known = Remembered(context.state).admission(uri, name, pack) if pack else None
    if known is not None:
        return known
    from ctxpack_pantry.deciding import decide_cached  # it loads what reads a policy and checks claims

    return decide_cached(context, uri, folder, policy)


def is_admitted(context: Context, uri: CtxUri, folder: str) -> bool:
    """Return whether the cached pack in folder is admitted. Raises: as admit_cached does, but not PolicyRefused."""
    try:
        admit_cached(context, uri, folder)
    except PolicyRefused:
        return False
    return True


def note_pushed(context: Context, uri: CtxUri, image: Digest, folder: str) -> None:
    """Remember that this process pushed the cached pack in folder, if it is one's own, as this image manifest."""
    pack = pack_digest(folder)
    if pack is not None and Made(context.state).kind_of(uri, pack) is not None:
        Remembered(context.state).record_own(uri, context.registry or context.target.name, pack, image)
