"""The exit code of each class of error."""

from __future__ import annotations

from ctxpack_pantry import (
    AccessDenied,
    Conflict,
    CtxPackError,
    IntegrityError,
    InvalidInput,
    NotFound,
    PolicyRefused,
    Unavailable,
)

__all__ = ["exit_code"]

_CODES: dict[type[CtxPackError], int] = {
    InvalidInput: 2,
    NotFound: 3,
    AccessDenied: 4,
    IntegrityError: 5,
    Unavailable: 6,
    PolicyRefused: 7,
    Conflict: 8,
}


def exit_code(error: CtxPackError) -> int:
    """Return the exit code of an error's class: 1 for a class that is not in the table."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), 1)
