"""One command, from its arguments to its exit status. Whatever happens becomes a status, without a traceback."""

from __future__ import annotations

import argparse
import os
import sys

from ctxpack_cli.commands import load_command
from ctxpack_cli.exitcode import exit_code
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import CtxPackError, LocalFailure

__all__ = ["run_command"]


def run_command(arguments: argparse.Namespace) -> int:
    """Run the command that arguments name, print its result or its error, and return its exit status.

    With CTXPACK_DEBUG set, an exception that is a bug of ours is raised.
    """
    terminal = Terminal.of(arguments)
    try:
        status = load_command(arguments.command).act(arguments, terminal)
        sys.stdout.flush()
        return status
    except CtxPackError as error:
        terminal.fail(error)
        return exit_code(error)
    except BrokenPipeError:
        return 1  # the reader of our output has left; no message can reach it
    except Exception as error:
        if os.environ.get("CTXPACK_DEBUG"):
            raise
        terminal.fail(_unexpected(error))
        return 1
    finally:
        terminal.close()


def _unexpected(error: Exception) -> CtxPackError:
    if isinstance(error, OSError):
        where = error.filename if isinstance(error.filename, str) else ""
        return LocalFailure(error.strerror or type(error).__name__, where=where)
    return LocalFailure(
        f"unexpected {type(error).__name__}: {error}",
        fix="this is a bug in ctxpack; CTXPACK_DEBUG=1 shows where it happened",
        code="E_BUG",
    )
