"""One command, from its arguments to its exit status. Whatever happens becomes a status, without a traceback."""

from __future__ import annotations

import argparse
import os

from ctxpack_cli.commands import load_command
from ctxpack_cli.exitcode import exit_code
from ctxpack_cli.memory import lacks_memory
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import CtxPackError, LocalFailure

__all__ = ["run_command"]


def run_command(arguments: argparse.Namespace) -> int:
    """Run the command that arguments name, print its result or its error, and return its exit status.

    With CTXPACK_DEBUG set, an exception that is a bug of ours is raised.
    """
    terminal = Terminal.of(arguments)
    try:
        return load_command(arguments.command).act(arguments, terminal)
    except CtxPackError as error:
        terminal.fail(error)
        return exit_code(error)
    except Exception as error:
        if os.environ.get("CTXPACK_DEBUG"):
            raise
        terminal.fail(_unexpected(error))
        return 1
    finally:
        terminal.close()


def _unexpected(error: Exception) -> CtxPackError:
    if lacks_memory(error):
        reason = str(error)
        return LocalFailure(
            f"memory ran out: {reason}" if reason else "memory ran out",
            fix="give this process more memory and threads (`ulimit -v`, `ulimit -u`, the limits of its container)",
            code="E_MEMORY",
        )
    if isinstance(error, OSError):
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        return LocalFailure(error.strerror or type(error).__name__, where=where)
    return LocalFailure(
        f"unexpected {type(error).__name__}: {error}",
        fix="this is a bug in ctxpack; CTXPACK_DEBUG=1 shows where it happened",
        code="E_BUG",
    )
