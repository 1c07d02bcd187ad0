"""Packs of a cache whose manifest says what no seed writes, all digests right."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, canonical_json, digest_of, uri_digest, uri_for


def forge(cache: Cache, folder: str, **changes: Any) -> CtxUri:
    """Publish a copy of the pack in folder whose manifest has these members; return its URI.

    uri: that of the contract, unless it is among the changes.
    """
    manifest = json.loads(Path(folder, "manifest.json").read_bytes()) | changes
    uri = uri_for(digest_of(canonical_json(manifest["contract"])))
    with cache.staging() as staging:
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        place = Path(staging, "manifest.json")
        place.unlink()
        place.write_bytes(canonical_json({**manifest, "uri": changes.get("uri", uri)}))
        os.chmod(staging, 0o755)
        cache.publish(uri_digest(uri), staging)
    return uri
