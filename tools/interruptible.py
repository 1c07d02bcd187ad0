"""A fixture for the tests of several packages: Ctrl-C reaches the processes that they start."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

__all__ = ["interruptible"]


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Handle SIGINT: a background process of a shell ignores it, and its children inherit that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
