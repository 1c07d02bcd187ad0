"""The end of the process: by itself, or by a signal, which unwinds the command so that nothing half-written stays."""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

__all__ = ["exit_after"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 128 + signal.SIGINT  # as shells count
_LATER = 0.005  # seconds after which a signal that came at a bad moment is looked at again
_POSTPONEMENTS = 400  # in a row: two seconds of imports
_PATIENCE = 1.0  # seconds that threads of an interrupted command get to remove their files


class Terminated(BaseException):
    """SIGTERM or SIGHUP came."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.status = 128 + number


def exit_after(work: Callable[[], int]) -> NoReturn:
    """Call work and exit with the status that it returns: 130 after Ctrl-C, 128 + n after another signal n."""
    try:
        _leave(_status_of(work))
    except (KeyboardInterrupt, Terminated):  # a second signal, before signals are ignored
        _leave(_INTERRUPTED)


def _status_of(work: Callable[[], int]) -> int:
    try:
        sys.unraisablehook = _raise_again
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asked for that
                signal.signal(number, _stop)
        return work()
    except KeyboardInterrupt:
        _ignore_signals()
        _say_interrupted()
        return _INTERRUPTED
    except Terminated as ending:
        return ending.status
    except SystemExit as ending:  # argparse has printed what is wrong
        return ending.code if isinstance(ending.code, int) else 2


def _stop(number: int, frame: FrameType | None, postponements: int = _POSTPONEMENTS) -> None:
    """Raise what ends the command, but not where that does harm."""
    if postponements and _is_no_moment(frame):
        _stop_later(number, postponements - 1)
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise Terminated(number)


def _stop_later(number: int, postponements: int = _POSTPONEMENTS) -> None:
    signal.signal(signal.SIGALRM, lambda _, frame: _stop(number, frame, postponements))
    signal.setitimer(signal.ITIMER_REAL, _LATER)


def _is_no_moment(frame: FrameType | None) -> bool:
    """Return whether frame is in an import, which not every C extension survives, or in _raise_again."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") or frame.f_code is _raise_again.__code__:
            return True
        frame = frame.f_back
    return False


def _raise_again(dropped: sys.UnraisableHookArgs) -> None:
    """Python drops what a finalizer or the callback of a weak reference raises: raise what ends the command later."""
    ending = dropped.exc_value
    if isinstance(ending, KeyboardInterrupt):
        _stop_later(signal.SIGINT)
    elif isinstance(ending, Terminated):
        _stop_later(ending.number)
    else:
        sys.__unraisablehook__(dropped)


def _say_interrupted() -> None:
    try:
        print("\nctxpack: interrupted", file=sys.stderr)
    except OSError:
        return  # the reader of stderr has left as well


def _ignore_signals() -> None:
    """Another Ctrl-C must not cut what is left to do, which is short."""
    for number in (*_ENDING, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _leave(status: int) -> NoReturn:
    """Exit at once: threads of an interrupted transfer may wait for a slow registry, and we do not wait for them."""
    _ignore_signals()
    _join_threads()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (BrokenPipeError, ConnectionResetError):
            continue  # its reader has left, and wants no more of it
        except OSError:
            status = status or 1
    os._exit(status)


def _join_threads() -> None:
    threading = sys.modules.get("threading")  # most commands do not load it
    if threading is None:
        return
    until = time.monotonic() + _PATIENCE
    for thread in threading.enumerate():
        # A thread that the interruption kept from starting cannot be joined.
        if thread is not threading.current_thread() and thread.is_alive():
            thread.join(max(0.0, until - time.monotonic()))
