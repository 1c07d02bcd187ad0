"""The pantry that a command's options ask for."""

from __future__ import annotations

import argparse
import os

from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import Pantry, load_settings

__all__ = ["open_pantry"]


def open_pantry(arguments: argparse.Namespace, terminal: Terminal) -> Pantry:
    """Return the pantry, to be closed by the caller. ctxpack.toml is looked for beside the contract file."""
    folder = os.path.dirname(getattr(arguments, "contract", "")) or "."
    settings = load_settings(registry=getattr(arguments, "registry", None), cache=arguments.cache, beside=folder)
    rehash = getattr(arguments, "rehash", False)
    return Pantry(settings, progress=terminal.progress, notice=terminal.hint, rehash=rehash)
