"""A cache hit loads only the modules that it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HIT = """
import errno, sys
import ctxpack_identity.digest, ctxpack_identity.disk, ctxpack_identity.errors, ctxpack_identity.lighttyping
before = set(sys.modules)
from ctxpack_cache import Cache
assert Cache({root!r}).find("sha256:" + "0" * 64) is None
print(*sorted(set(sys.modules) - before))
"""


def test_a_look_up_loads_four_small_modules(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HIT.format(root=str(tmp_path))]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert loaded == ["ctxpack_cache", "ctxpack_cache.cache", "ctxpack_cache.cachedpack", "ctxpack_cache.failure"]
