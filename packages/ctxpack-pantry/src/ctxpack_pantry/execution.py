"""Execution: the command of a contract is run, and always ends before this process goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence

from ctxpack_identity import InvalidInput
from ctxpack_pantry.provenance import Execution

__all__ = ["execute"]

_GRACE = 10.0  # seconds that a command has to tidy up, after Ctrl-C and again after SIGTERM


def execute(
    command: Sequence[str], folder: str, variables: Mapping[str, str], *, grace: float = _GRACE
) -> tuple[int, Execution]:
    """Run command in folder to its end; return its exit status (128 + n when signal n ended it) and how long it took.

    The command's standard output goes to standard error: a hit has none, so nothing may depend on it. variables: what
    it finds in its environment besides ours. An interruption of this process ends the command too; grace: seconds until
    SIGTERM after Ctrl-C, and until SIGKILL after SIGTERM.
    Raises: InvalidInput when command cannot be started.
    """
    started = time.monotonic()
    try:
        child = subprocess.Popen(command, stdout=2, cwd=folder or None, env={**os.environ, **variables})
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(
            f"command cannot be started: {reason}",
            where=command[0],
            fix="check the name of the program; a shell's syntax needs: sh -c '…'",
            code="E_COMMAND",
        ) from error
    try:
        status = child.wait()
    except KeyboardInterrupt:
        # From a terminal, Ctrl-C reached the command as well; a second Ctrl-C ends its time to tidy up.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
        raise
    finally:
        _end(child, grace)
    return (128 - status if status < 0 else status), Execution(tuple(command), time.monotonic() - started)


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    """End child if it still runs: SIGTERM, then SIGKILL after grace seconds."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
