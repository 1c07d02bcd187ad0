"""The context of one call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pantry_context import context_of

from ctxpack_cache import Cache
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_oci import Target

if TYPE_CHECKING:
    from pantry_target import FaultyTarget


def test_leaving_a_context_saves_what_was_hashed(tmp_path: Path, cache: Cache, registry: FaultyTarget) -> None:
    class Noting(StatCache):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    known = Noting(str(tmp_path / "index.db"))
    with context_of(cache, registry)._replace(known=known) as context:
        assert (context.known, known.closed) == (known, 0)
    assert known.closed == 1


def test_hashing_uses_its_executor_its_known_digests_and_its_progress(cache: Cache, registry: FaultyTarget) -> None:
    def progress(stage: str, advanced: int, total: int | None) -> None:
        pass

    with ThreadPoolExecutor(1) as executor, context_of(cache, registry, progress=progress) as context:
        assert context._replace(executor=executor).hashing == (executor, context.known, progress)


def test_the_target_is_opened_only_when_it_is_needed(cache: Cache, registry: FaultyTarget) -> None:
    opened: list[Target] = []

    def open_target() -> Target:
        opened.append(registry)
        return registry

    with context_of(cache, registry)._replace(open_target=open_target) as context:
        assert opened == []
        assert context.target is registry
