"""The circumstances of one call of the Python API: made once, handed down, never changed."""

from __future__ import annotations

from collections.abc import Callable

import ctxpack_identity as identity
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_pantry.policyfile import NO_TRUST, Trust

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ctxpack_cache import Cache
    from ctxpack_identity import Hashing, Progress
    from ctxpack_identity.hashing.statcache import StatCache
    from ctxpack_oci import Target
    from ctxpack_pantry.policy import Policy

__all__ = ["Context", "Notice", "ignore"]

Notice = Callable[[str], None]
"""Called with one line for people, such as "waiting for another process"."""


def ignore(message: str) -> None:
    """A Notice that does nothing."""


class Context(NamedTuple):
    """Where packs are, how files are hashed, and what is called meanwhile. Leaving it saves what was hashed.

    open_target: returns the registry; a cache hit never opens it. known: digests of unchanged files. executor: hashes
    inputs; None means this machine's cores. policy: what the caller of `Pantry` says of packs, besides the policy file
    that trust leads to. settle: seconds, see `tagging`. state: the user's state folder, "" when it is not known.
    registry: its name as it was set, without opening it; "" for a target that was given. consent: asks the user a
    question that is answered with yes or no; None where nobody can be asked. offline: packs come from the cache only,
    as results and as inputs; a push asks the registry all the same.
    """

    cache: Cache
    open_target: Callable[[], Target]
    known: StatCache
    executor: Executor | None
    progress: Progress
    notice: Notice
    policy: Policy | None
    settle: float = 0.0
    state: str = ""
    registry: str = ""
    trust: Trust = NO_TRUST
    consent: Callable[[str], bool] | None = None
    offline: bool = False

    @property
    def target(self) -> Target:
        """The registry. Raises: InvalidInput when its setting is not a registry's name."""
        return self.open_target()

    @property
    def hashing(self) -> Hashing:
        """How inputs and outputs are hashed."""
        return identity.Hashing(self.executor, self.known, self.progress)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *error: object) -> None:
        self.known.close()
