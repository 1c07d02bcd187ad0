"""Tagging: a tag is set, and pushes of different outputs under one tag are decided: at most one of them succeeds.

A layout decides under its lock. Registries have no conditional tag, so time decides there. A push looks, sets the tag
within the *settle time* of sending that look, waits as long after its write, and looks again. Of two pushes that both
found no tag, let P write first, and Q second. Q's look found nothing, so it was before P's write, and Q's write is at
most the settle time after its look. So it is over when P looks again: P sees Q's tag, and only Q succeeds.

A look that took longer is made again. A write that took longer cannot be taken back: it may have replaced what another
push has set and confirmed meanwhile, so the push is *unsettled*.

That holds for a registry that shows a tag to everybody once it has answered. One with replicas that lag behind cannot
promise it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ctxpack_identity import Conflict, Digest, Unavailable
from ctxpack_oci import Descriptor, Target

__all__ = ["LOOKS", "set_tag"]

LOOKS: Final = 3  # that take too long, before the push gives up


def set_tag(
    target: Target,
    image: Descriptor,
    tag: str,
    *,
    before: Digest | None,
    settle: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Digest | None:
    """Let tag name image, unless it names anything but before; return what it names in the end.

    image: of a manifest that was pushed. before: what the tag names now, None for a new tag. settle: seconds; with 0
    nothing is waited for, which is for repositories with one writer.
    Raises: Unavailable (E_UNSETTLED) when the registry is too slow for the settle time; Conflict when it does not let
    the tag name anything else; as Target.tag does.
    """
    if target.conditional_tags:
        return image.digest if target.tag_if(image, tag, before) else target.resolve_tag(tag)
    for _ in range(LOOKS):
        begun = clock()
        named = target.resolve_tag(tag)
        if named not in (before, image.digest):
            return named
        if settle and clock() - begun > settle:
            continue
        # Another push of the same may have set it, and whoever did not see that may still write.
        if named != image.digest:
            try:
                target.tag(image, tag)
            except Conflict:  # the registry has immutable tags
                named = target.resolve_tag(tag)
                if named == before:
                    raise
                return named
            if settle and clock() - begun > settle:
                named = target.resolve_tag(tag)
                if named != image.digest:
                    return named
                break  # whoever set it meanwhile may have succeeded: nothing shows that nobody did
        sleep(settle)
        return target.resolve_tag(tag)
    raise Unavailable(
        "unsettled: the registry is too slow to decide whether another push was faster",
        where=f"{target.name}:{tag}",
        expected=f"look and tag within {settle:g} s, the settle time",
        got=f"{clock() - begun:.2g} s",
        fix="push again, best with a longer settle time, such as CTXPACK_SETTLE=5; if nobody else pushes to this "
        "repository, with CTXPACK_SETTLE=0",
        code="E_UNSETTLED",
    )
