"""A cache hit loads only the modules that it uses."""

from __future__ import annotations

import os
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


_VERIFIED_HIT = """
import errno, hashlib, sys
import ctxpack_identity.digest, ctxpack_identity.disk, ctxpack_identity.errors, ctxpack_identity.lighttyping
from ctxpack_cache import Cache, pathlock
from ctxpack_cache.fingerprint import fingerprint
pathlock.RUNTIME = pathlock.TEMPORARY = {root!r}
assert not Cache({root!r}).is_as_published("sha256:" + "0" * 64)
with pathlock.PathLocks([{root!r} + "/out"]):
    fingerprint({root!r}, local=True)
print(*{{"typing", "contextlib", "threading", "subprocess"}} & set(sys.modules))
"""


def test_a_verified_hit_loads_nothing_slow(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", _VERIFIED_HIT.format(root=str(tmp_path))]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert loaded.stdout == "\n"
