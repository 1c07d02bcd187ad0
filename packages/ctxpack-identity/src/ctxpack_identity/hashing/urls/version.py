"""Versions of objects: values of a store that change with the content, such as an ETag, a generation, a time."""

from __future__ import annotations

import re
from datetime import datetime

from ctxpack_identity.lighttyping import Any, TypeAlias

__all__ = ["Version", "is_certain", "is_same", "shown_version", "version_of"]

Version: TypeAlias = "tuple[tuple[str, str], ...]"
"""Values of a store that change with an object's content: (name, value), sorted."""

# Values that differ when contents do; names in lower case, letters and digits only: S3, Azure, OCI and HTTP; versioned
# S3 and Azure; Google; Hugging Face; GitHub; Google Drive.
_CERTAIN = frozenset({"etag", "versionid", "generation", "blobid", "sha", "md5checksum"})
_TIMES = frozenset({"lastmodified", "mtime", "modified", "updated", "created"})
_WEAK = "weaketag"  # RFC 9110, 8.8.1: may stay while bytes change


def version_of(info: dict[str, Any]) -> Version:
    """Return the version in the info that fsspec has of an object.

    >>> version_of({"name": "b/k", "size": 1, "ETag": '"9f2c"', "VersionId": None, "LastModified": "2026-01-01"})
    (('etag', '"9f2c"'), ('lastmodified', '2026-01-01'))
    """
    found = {}
    for name, value in info.items():
        plain, text = re.sub("[^a-z0-9]", "", str(name).lower()), str(value)
        if value is None or text in ("", "null"):  # S3 says "null" in a bucket without versions
            continue
        if plain in _TIMES:
            text = _seconds(value)
        if plain == "etag" and text.startswith("W/"):
            found[_WEAK] = text
        elif plain in _CERTAIN or plain in _TIMES:
            found[plain] = text
    return tuple(sorted(found.items()))


def _seconds(value: Any) -> str:
    """Return a time in whole seconds: one call of a library gives it as a datetime, another as a number."""
    stamp = value.timestamp() if isinstance(value, datetime) else value
    return str(int(stamp)) if isinstance(stamp, int | float) else str(stamp)


def is_certain(version: Version) -> bool:
    """Whether a changed content always has another version."""
    return any(name in _CERTAIN for name, _ in version)


def is_same(before: Version, after: Version) -> bool:
    """Whether two versions are of the same content.

    A listing and a single answer may have different values. Those in both are compared, times only for want of better.
    """
    was, now = dict(before), dict(after)
    in_both = was.keys() & now.keys()
    return all(was[name] == now[name] for name in in_both & _CERTAIN or in_both)


def shown_version(version: Version) -> str:
    return ", ".join(f"{name} {value}" for name, value in version) or "no version"
