"""A goal and its result, in words."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OURS", "Verdict"]

OURS = "ctxpack"


class Verdict(NamedTuple):
    """met: None if one of the contenders was not measured."""

    table: str
    goal: str
    expected: str
    got: str
    met: bool | None
