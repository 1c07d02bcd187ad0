"""A context with the cache and the target that a test chooses."""

from __future__ import annotations

import os

from ctxpack_cache import Cache
from ctxpack_identity import Progress, silent
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_oci import Target
from ctxpack_pantry.context import Context, Notice, ignore
from ctxpack_pantry.policy import Policy


def context_of(
    cache: Cache,
    target: Target,
    *,
    progress: Progress = silent,
    notice: Notice = ignore,
    policy: Policy | None = None,
) -> Context:
    known = StatCache(os.path.join(cache.side("hashes"), "index.db"))
    return Context(cache, lambda: target, known, None, progress, notice, policy)
