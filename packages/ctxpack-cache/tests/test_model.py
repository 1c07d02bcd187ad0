"""After any sequence of calls, the cache holds what a dict would hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ctxpack_cache import Cache
from ctxpack_identity.digest import Digest, digest_of

keys = st.sampled_from([digest_of(b"a"), digest_of(b"b"), digest_of(b"c")])
texts = st.text("ab", max_size=3)


class CacheModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp()
        self.cache = Cache(self.root)
        self.model: dict[Digest, str] = {}

    def teardown(self) -> None:
        for key in self.model:
            self.cache.remove(key)
        shutil.rmtree(self.root)

    @rule(key=keys, text=texts)
    def publish(self, key: Digest, text: str) -> None:
        with self.cache.staging() as folder:
            Path(folder, "manifest.json").write_text(text)
            path = self.cache.publish(key, folder)
        self.model.setdefault(key, text)
        assert path == self.cache.find(key)

    @rule(key=keys, text=texts)
    def abandon(self, key: Digest, text: str) -> None:
        with self.cache.lock(key), self.cache.staging() as folder:
            Path(folder, "manifest.json").write_text(text)

    @rule(key=keys)
    def remove(self, key: Digest) -> None:
        assert self.cache.remove(key) is (self.model.pop(key, None) is not None)

    @rule()
    def sweep(self) -> None:
        assert self.cache.sweep() == 0

    @invariant()
    def the_cache_equals_the_model(self) -> None:
        found = {pack.key: Path(pack.path, "manifest.json").read_text() for pack in self.cache.packs()}
        assert found == self.model
        for pack in self.cache.packs():
            assert self.cache.find(pack.key) == pack.path
            assert self.cache.size_of(pack) == (len(self.model[pack.key]), 1)

    @invariant()
    def no_staging_folder_and_no_lock_is_left(self) -> None:
        for part in ("staging", "locks"):
            folder = os.path.join(self.root, "v1", part)
            assert not os.path.exists(folder) or os.listdir(folder) == []


TestCacheModel = CacheModel.TestCase
TestCacheModel.settings = settings(max_examples=30, stateful_step_count=15)
