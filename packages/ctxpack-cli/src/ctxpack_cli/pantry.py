"""The pantry that a command's options ask for."""

from __future__ import annotations

import argparse
import os

from ctxpack_cli.consent import asking
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import Pantry, Reference, load_settings
from ctxpack_pantry.referencekind import CONTRACT
from ctxpack_pantry.settings import unknown_variables

__all__ = ["open_pantry"]


def open_pantry(arguments: argparse.Namespace, terminal: Terminal, *references: Reference) -> Pantry:
    """Return the pantry, to be closed by the caller. ctxpack.toml is looked for beside the contract file.

    references: what the arguments name, of which the first contract file counts, if arguments have no other. Variables
    that look like ours and are not read are said.
    """
    named = next((reference.text for reference in references if reference.kind == CONTRACT), "")
    folder = os.path.dirname(getattr(arguments, "contract", named)) or "."
    settings = load_settings(registry=getattr(arguments, "registry", None), cache=arguments.cache, beside=folder)
    for line in unknown_variables(os.environ):
        terminal.hint(line)
    rehash = getattr(arguments, "rehash", False)
    return Pantry(settings, progress=terminal.progress, notice=terminal.hint, rehash=rehash, consent=asking(terminal))
