"""How long work reports its progress to a caller."""

from __future__ import annotations

from collections.abc import Callable

from ctxpack_identity.lighttyping import Protocol

__all__ = ["OnBytes", "Progress", "silent"]

OnBytes = Callable[[int], object]
"""Called with the number of bytes done since the last call."""


class Progress(Protocol):
    """Called from any thread, often: ``advanced`` more bytes of ``total`` are done in this stage.

    stage: "hash", "seed", "push", "pull", "place", "compare", "check", "export", or "map", which counts items in place
    of bytes. total: None while unknown;
    once a stage has told one, it is never less than what is done, and at the end of the stage it is what is done. More
    of the same stage after that is the stage anew: `run` hashes twice, for example.
    """

    def __call__(self, stage: str, advanced: int, total: int | None) -> None: ...


def silent(stage: str, advanced: int, total: int | None) -> None:
    """A Progress that does nothing."""
