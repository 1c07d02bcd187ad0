"""Ls: the packs of the cache, those that are asked for, in the order that is asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from ctxpack_bundle import read_pack_manifest
from ctxpack_cache import CachedPack
from ctxpack_identity import IntegrityError, InvalidInput, uri_for
from ctxpack_pantry.context import Context
from ctxpack_pantry.results import Listed, StoredPack

__all__ = ["ORDERS", "list_packs"]

ORDERS: dict[str, Callable[[StoredPack], Any]] = {
    "used": lambda pack: pack.used,
    "created": lambda pack: pack.created,
    "size": lambda pack: -1 if pack.manifest is None else pack.manifest.outputs.size,
    "tool": lambda pack: (not pack.tools, pack.tools),
    "uri": lambda pack: pack.uri,
}
"""What packs can be sorted by."""

_GREATEST_FIRST = ("used", "created", "size")

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_is_span = re.compile(r"([0-9]{1,6})([mhdw])").fullmatch
_is_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
).fullmatch


def list_packs(
    context: Context,
    *,
    sort: str = "used",
    tool: str | None = None,
    label: Sequence[str] = (),
    input: str | None = None,
    since: str | None = None,
) -> Listed:
    """Return the packs of the cache for which all holds that is asked. The manifest of a damaged pack is None.

    sort: one of ORDERS; the last used, the latest made, the largest first; tools and URIs by their text, and URIs where
    the others are equal. tool: of a transform. label: each "KEY=VALUE", or "KEY", whatever its value is. input: name of
    an input. since: used in this span of time, such as "7d", or since this date or time, in local time unless it says
    another. Nothing is known of a damaged pack but when it was used, so only since leaves it out.
    Raises: InvalidInput; LocalFailure when the cache cannot be read.
    """
    if sort not in ORDERS:
        raise _unknown("sort", ", ".join(ORDERS), sort)
    labels = [label] if isinstance(label, str) else list(label)
    for wanted in labels:
        if not wanted.partition("=")[0]:
            raise _unknown("label", "KEY=VALUE, or KEY", wanted)
    oldest = None if since is None else _since(since)

    def is_wanted(pack: StoredPack) -> bool:
        if oldest is not None and pack.used < oldest:
            return False
        if pack.manifest is None:
            return True
        texts = {text for key, value in pack.labels.items() for text in (key, f"{key}={value}")}
        return (tool is None or tool in pack.tools) and (input is None or input in pack.inputs) and texts >= {*labels}

    found = [stored for pack in context.cache.packs() if (stored := _stored(context, pack)) and is_wanted(stored)]
    # They are sorted by URI already, and stay so where this key is equal.
    found.sort(key=ORDERS[sort], reverse=sort in _GREATEST_FIRST)
    return Listed(tuple(found))


def _stored(context: Context, pack: CachedPack) -> StoredPack | None:
    """Return a pack with its manifest; None when it was removed meanwhile."""
    try:
        manifest = read_pack_manifest(pack.path)
    except IntegrityError:
        if context.cache.find(pack.key) is None:
            return None
        manifest = None
    return StoredPack(uri_for(pack.key), pack.path, manifest, pack.used)


def _since(text: str) -> float:
    """Return the time that text means, in seconds since the epoch. Raises: InvalidInput."""
    span = _is_span(text)
    if span:
        return time.time() - int(span[1]) * _SECONDS[span[2]]
    try:
        if _is_time(text):
            return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        pass  # such as month 13, or a year that this machine does not know
    raise _unknown("since", "a span such as 30m, 12h, 7d or 2w, or a date or time such as 2026-11-01", text)


def _unknown(option: str, expected: str, got: str) -> InvalidInput:
    return InvalidInput("cannot list packs by that", where=option, expected=expected, got=repr(got), code="E_USAGE")
