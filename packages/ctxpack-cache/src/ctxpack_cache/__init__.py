"""The local cache of unpacked packs: read-only folders, each published whole by one rename.

Every cache hit imports this package, so it loads little.
"""

from ctxpack_cache.cache import Cache
from ctxpack_cache.cachedpack import CachedPack, Size

__all__ = ["Cache", "CachedPack", "Size"]
