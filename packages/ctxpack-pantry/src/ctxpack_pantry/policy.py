"""A policy decides which packs may be used. `admission` is where it is asked."""

from __future__ import annotations

from collections.abc import Callable

from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_identity.uri import CtxUri

if TYPE_CHECKING:
    from ctxpack_identity import Digest

__all__ = ["Candidate", "Policy"]


class Candidate(NamedTuple):
    """A pack that is about to be used. repository: the name of the registry that was asked for.

    image: digest of the image manifest; None for a cached pack that neither came from this repository nor was pushed
    to it.
    """

    uri: CtxUri
    repository: str
    image: Digest | None


Policy = Callable[[Candidate], object]
"""Called before a pack is used. Raises: PolicyRefused when the pack may not be used."""
