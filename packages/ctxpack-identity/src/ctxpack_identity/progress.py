"""How long work tells a caller that it moves, without knowing who listens."""

from __future__ import annotations

from ctxpack_identity.lighttyping import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called from any thread, often: ``advanced`` more bytes of ``total`` are done in this stage.

    stage: "hash", "seed", "push", "pull" or "place". total: bytes, or None while unknown.
    """

    def __call__(self, stage: str, advanced: int, total: int | None) -> None: ...


def silent(stage: str, advanced: int, total: int | None) -> None:
    """A Progress that listens to nothing."""
