"""The local cache of unpacked packs: read-only folders, each published whole by one rename.

Importing this loads little: it is on the path of every cache hit.
"""

from ctxpack_cache.cache import Cache
from ctxpack_cache.cachedpack import CachedPack, Size

__all__ = ["Cache", "CachedPack", "Size"]
