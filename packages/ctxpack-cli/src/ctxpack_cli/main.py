"""TreeEntry point: parse, run one command, and turn whatever happens into an exit code without a traceback.

Imports stand inside functions here, so that a Ctrl-C while they load is caught as well.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import NoReturn

    from ctxpack_pantry import CtxPackError

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells count
_LATER = 0.005  # seconds after which a signal that came at a bad moment is looked at again
_BAD_MOMENTS = 400  # in a row: two seconds of imports
_PATIENCE = 1.0  # seconds that threads of an interrupted command get to put their files away


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 1 failure of ours, 2 usage or contract, 3 not found, 4 access, 5 integrity,
    6 registry or network, 7 trust policy, 8 conflict, 130 Ctrl-C; `run` exits as its command did.
    """
    try:
        _reopen_closed_streams()
        _leave(_status(sys.argv[1:] if argv is None else argv))
    except (KeyboardInterrupt, Terminated):  # one more, in the few instructions before nobody listens any longer
        _leave(INTERRUPTED)


class Terminated(BaseException):
    """A signal asked for the end: unwind, so that nothing half-written stays."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number


def _status(argv: Sequence[str]) -> int:
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return _interrupted()
    except Terminated as signal:
        return signal.status
    except SystemExit as exit:  # argparse has said what is wrong
        return exit.code if isinstance(exit.code, int) else 2


def _run(argv: Sequence[str]) -> int:
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asked for that
            signal.signal(number, _stop)
    from ctxpack_cli.arguments import parse_arguments
    from ctxpack_cli.terminal import Terminal

    arguments = parse_arguments(argv)
    terminal = Terminal.of(arguments)
    from ctxpack_pantry import CtxPackError

    try:
        from ctxpack_cli.commands import COMMANDS

        status = COMMANDS[arguments.command](arguments, terminal)
        sys.stdout.flush()
        return status
    except CtxPackError as error:
        terminal.fail(error)
        return exit_code(error)
    except BrokenPipeError:
        return 1  # whoever read our output has left; nothing can be said to him
    except Exception as error:
        if _debugging():
            raise
        terminal.fail(_unexpected(error))
        return 1
    finally:
        terminal.close()


def exit_code(error: CtxPackError) -> int:
    """Return the exit code of an error's class."""
    import ctxpack_pantry as pantry

    classes = {
        pantry.InvalidInput: 2,
        pantry.NotFound: 3,
        pantry.AccessDenied: 4,
        pantry.IntegrityError: 5,
        pantry.Unavailable: 6,
        pantry.PolicyRefused: 7,
        pantry.Conflict: 8,
    }
    return next((code for kind, code in classes.items() if isinstance(error, kind)), 1)


def _unexpected(error: Exception) -> CtxPackError:
    from ctxpack_pantry import LocalFailure

    if isinstance(error, OSError):
        where = error.filename if isinstance(error.filename, str) else ""
        return LocalFailure(error.strerror or type(error).__name__, where=where)
    return LocalFailure(
        f"unexpected {type(error).__name__}: {error}",
        fix="this is a bug in ctxpack; CTXPACK_DEBUG=1 shows where it happened",
        code="E_BUG",
    )


def _debugging() -> bool:
    import os

    return bool(os.environ.get("CTXPACK_DEBUG"))


def _stop(number: int, frame: FrameType | None, moments: int = _BAD_MOMENTS) -> None:
    """Raise what ends the command, but not in the middle of an import: not every C extension survives that."""
    import signal

    if _importing(frame) and moments:
        signal.signal(signal.SIGALRM, lambda _, frame: _stop(number, frame, moments - 1))
        signal.setitimer(signal.ITIMER_REAL, _LATER)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise Terminated(number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _reopen_closed_streams() -> None:
    """Started with a stream closed (`2>&-`), the next file opened would get its number, and what is written to it."""
    import os

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")


def _interrupted() -> int:
    _ignore_signals()
    import contextlib

    with contextlib.suppress(OSError):  # whoever read it may have left as well
        print("\nctxpack: interrupted", file=sys.stderr)
    return INTERRUPTED


def _ignore_signals() -> None:
    """What is left to do is short, and must not be torn in two by another Ctrl-C."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _leave(status: int) -> NoReturn:
    """Exit at once: an interrupted transfer's threads may wait for a slow registry, and nobody waits for them."""
    import os

    _ignore_signals()
    if "threading" in sys.modules:
        _join_threads()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 1
    os._exit(status)


def _join_threads() -> None:
    import contextlib
    import threading
    import time

    until = time.monotonic() + _PATIENCE
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # the interruption came before it had begun
                thread.join(max(0.0, until - time.monotonic()))
