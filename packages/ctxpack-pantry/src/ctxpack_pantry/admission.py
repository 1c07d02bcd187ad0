"""Admit: the one place where a policy decides whether a pack may be used, before any chunk of it is fetched or placed.

A lookup has three steps: locate (`lookup.locate`), admit (here), open (`lookup.open_pack`). A cached pack is admitted
like any other: by the image manifest that it came with from the repository that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.policy import Candidate

if TYPE_CHECKING:
    from ctxpack_identity import Digest
    from ctxpack_pantry.context import Context

__all__ = ["ask", "find_cached"]


def ask(context: Context, uri: CtxUri, image: Callable[[], Digest | None]) -> None:
    """Ask the policy about the pack of uri. image: see Candidate; called only when there is a policy.

    Raises: PolicyRefused.
    """
    if context.policy is not None:
        context.policy(Candidate(uri, context.target.name, image()))


def find_cached(context: Context, uri: CtxUri) -> str | None:
    """Return the folder of the pack in the cache, admitted, or None when the cache does not have it.

    Raises: PolicyRefused; LocalFailure when the cache cannot be read.
    """
    folder = context.cache.find(uri_digest(uri))
    if folder is not None:
        ask(context, uri, lambda: Origins(context.cache).image(uri, context.target.name, folder))
    return folder
