"""Run: make the outputs of a contract, unless somebody did already."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from ctxpack_identity import CtxUri, InvalidInput
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.seed import Run

__all__ = ["Ran", "execute", "require_made", "require_outputs"]

_GRACE = 10.0  # seconds that a command gets to tidy up, after Ctrl-C and again after SIGTERM


class Ran(NamedTuple):
    """hit: the pack was there and the command did not run. status: of the command, 0 on a hit."""

    uri: CtxUri
    hit: bool
    status: int


def require_outputs(contract: LoadedContractFile) -> list[str]:
    """Return the declared outputs as paths on disk. Raises: InvalidInput when the contract declares none."""
    if not contract.outputs:
        raise InvalidInput(
            "contract declares no outputs",
            where=f"{contract.path}, /outputs",
            fix='say what the command makes: "outputs": [{"path": "./processed_data"}]',
            code="E_NO_OUTPUTS",
        )
    return contract.outputs


def execute(command: Sequence[str], uri: CtxUri, *, grace: float = _GRACE) -> tuple[int, Run]:
    """Run command to its end; return its exit status (128 + n when signal n ended it) and how long it took.

    Its standard output goes to standard error: on a hit there is none, so nothing may depend on it. It finds the URI
    in CTXPACK_URI. Whatever interrupts this process ends the command too; grace: seconds it gets to obey.
    Raises: InvalidInput when command cannot be started.
    """
    if not command:
        raise InvalidInput("no command", fix="say what makes the outputs", code="E_COMMAND")
    started = time.monotonic()
    try:
        child = subprocess.Popen(command, stdout=2, env={**os.environ, "CTXPACK_URI": uri})
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"command cannot be started: {reason}", where=command[0], code="E_COMMAND") from error
    try:
        status = child.wait()
    except KeyboardInterrupt:
        # Ctrl-C reached it too, if it came from a terminal; a second one ends its time to tidy up.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
        raise
    finally:
        _end(child, grace)
    return (128 - status if status < 0 else status), Run(tuple(command), time.monotonic() - started)


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    """Return when child has ended, by itself or because it must."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def require_made(outputs: Sequence[str]) -> None:
    """Raise InvalidInput when the command ended well but did not make what the contract declares."""
    missing = [output for output in outputs if not os.path.exists(output)]
    if missing:
        raise InvalidInput(
            "the command did not make this output, so nothing was seeded",
            where=missing[0],
            fix="make the command write it, or correct /outputs in the contract",
            code="E_OUTPUT_MISSING",
        )
