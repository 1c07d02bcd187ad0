"""Supervisor: a program that starts a command and lives as long as the command, or anything that it started, lives.

``execution`` runs one for each command, by the path of this module; so the module imports little, and only of the
standard library. It holds the lock descriptors that it inherits, and the command does not get them: when `ctxpack run`
is killed, the kernel keeps those locks until nothing of its command is left. On Linux, descendants whose parent ended
become its children (a subreaper, prctl(2)). Elsewhere it sees the command alone; what that leaves behind is not known.
Nor is what other processes start on behalf of the command: cron, a container engine, a server that already ran.

Both directions carry marshalled values, each behind its length. Orders: first (command, environment, blocked signals,
linger in seconds) and "start", then "terminate" and "kill" (the command), "list" (do not wait any longer for
descendants), "done" (end now). Reports: ("refused", reason), or ("ended", exit code or -signal, seconds) and then
("left", [(process id, name)]).
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["Inbox", "send"]

# What terminals and batch systems send to a whole process group. It ends the command; the supervisor goes on.
_TO_GROUPS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # the command gets them back, as subprocess does it

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

_LENGTH = 4  # bytes before each message
_MOST_NAMED = 1000  # survivors; a report must fit into a pipe (64 KiB), which perhaps nobody reads any longer
_HIDDEN = (0, "?")  # a survivor that /proc does not show
_LISTINGS = 10  # at most, until two agree: a process whose parent ends meanwhile can be missing in one


def send(fd: int, message: Any) -> None:
    """Write one message. Raises: BrokenPipeError when nobody can read it."""
    data = marshal.dumps(message)
    rest = memoryview(len(data).to_bytes(_LENGTH, "little") + data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class Inbox:
    """The messages that come through a pipe. fd: its reading end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._bytes = b""

    def read(self) -> list[Any] | None:
        """Block until something comes; return the messages that are complete, None at the end of the pipe."""
        data = os.read(self.fd, 1 << 16)
        if not data:
            return None
        self._bytes += data
        messages = []
        while (end := _LENGTH + int.from_bytes(self._bytes[:_LENGTH], "little")) <= len(self._bytes):
            messages.append(marshal.loads(self._bytes[_LENGTH:end]))
            self._bytes = self._bytes[end:]
        return messages


def _main(orders: int, reports: int, *kept: int) -> None:
    """Start what the first order says and watch it. kept: descriptors that hold locks. All signals come blocked."""
    for fd in (orders, reports, *kept):
        os.set_inheritable(fd, False)
    while (null := os.open(os.devnull, os.O_RDWR)) < 3:  # no pipe of ours takes the place of a closed standard stream
        pass
    prctl = _find_prctl()
    if prctl is not None:
        prctl(_SET_CHILD_SUBREAPER, 1)
    woken, dispositions = _outlive_signals()
    inbox = Inbox(orders)
    request = _receive_request(inbox)
    if request is None:
        return
    command, environment, blocked, linger = request
    began = time.monotonic()
    try:
        child = _start(command, environment, blocked, dispositions, prctl)
    except (OSError, ValueError) as error:
        _report(reports, ("refused", getattr(error, "strerror", None) or str(error)))
        return
    for fd in (0, 1, 2):  # whoever reads what the command prints must not wait for us
        os.dup2(null, fd)
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _watch(child, began, linger, inbox, reports, woken)


def _receive_request(inbox: Inbox) -> Any:
    """Return the first order once "start" follows it, None when anything else comes: then nothing may start."""
    orders: list[Any] = []
    while len(orders) < 2:
        more = inbox.read()
        if more is None:
            return None
        orders += more
    return orders[0] if orders[1:] == ["start"] else None


def _find_prctl() -> Callable[[int, int], object] | None:
    """Return prctl(2) with two arguments; None where there is none, or Python cannot call it."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError, MemoryError):  # a Python without ctypes, or not allowed to use it
        return None
    none = ctypes.c_ulong(0)
    return lambda option, value: prctl(option, ctypes.c_ulong(value), none, none, none)


def _outlive_signals() -> tuple[int, dict[int, Any]]:
    """Let signals wake this process but not end it; return what becomes readable then, and what the command gets back.

    Handlers, unless a signal is ignored already: the command would inherit that it is ignored.
    """
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    dispositions: dict[int, Any] = dict.fromkeys(_IGNORED_BY_PYTHON, signal.SIG_DFL)
    for number in _TO_GROUPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
            dispositions[number] = signal.SIG_DFL
    dispositions[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _do_nothing)
    return woken, dispositions


def _do_nothing(number: int, frame: object) -> None: ...


def _start(
    command: Sequence[bytes],
    environment: Mapping[bytes, bytes],
    blocked: Sequence[int],
    dispositions: Mapping[int, Any],
    prctl: Callable[[int, int], object] | None,
) -> int:
    """Start command and return its process id. Raises: OSError, ValueError when it cannot be started."""
    said, say = os.pipe()
    missed = signal.sigpending().intersection(_TO_GROUPS)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            for number, disposition in dispositions.items():
                signal.signal(number, disposition)
            if prctl is not None:  # without its supervisor it must not go on: nobody would know of it
                prctl(_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.execvpe(command[0], [*command], environment)
        except OSError as error:
            send(say, (error.errno, error.strerror))
        except ValueError as error:
            send(say, (0, str(error)))
        finally:
            os._exit(127)
    os.close(say)
    failures = Inbox(said).read()
    os.close(said)
    if failures:
        os.waitpid(child, 0)
        number, reason = failures[0]
        raise OSError(number, reason) if number else ValueError(reason)
    for number in missed:  # it came while this program was starting, and was meant for the command too
        os.kill(child, number)
    return child


def _watch(child: int, began: float, linger: float, inbox: Inbox, reports: int, woken: int) -> None:
    """Report the end of child, and what is left of it; return when nothing is, or when told so."""
    ended: tuple[str, int, float] | None = None
    look: float | None = None  # when to look what is left
    events = select.poll()
    events.register(inbox.fd, select.POLLIN)
    events.register(woken, select.POLLIN)
    while True:
        code, others = _reap(child)
        if code is not None:
            ended = ("ended", code, time.monotonic() - began)
            _report(reports, ended)
            look = time.monotonic() + linger
        if ended and others and look is not None and look <= time.monotonic():
            found = _descendants()
            others = bool(found) or _reap(child)[1]
            if others:
                _report(reports, ("left", found or [_HIDDEN]))
                look = None
        if not others:
            _report(reports, ("left", []))
            return
        timeout = None if look is None else max(0.0, look - time.monotonic()) * 1000
        for fd, _ in events.poll(timeout):
            if fd == woken:
                os.read(woken, 1 << 12)
                continue
            orders = inbox.read()
            if orders is None:  # no more orders: whoever gave them has ended
                events.unregister(fd)
            for order in orders or ():
                if order == "done":
                    return
                if ended:
                    _report(reports, ended)  # again: an interruption of the reader may have lost it
                    look = time.monotonic() if order == "list" else look
                elif order in ("terminate", "kill"):
                    os.kill(child, signal.SIGTERM if order == "terminate" else signal.SIGKILL)


def _reap(child: int) -> tuple[int | None, bool]:
    """Collect what has ended; return the exit code of child if it is among that, and whether anything still lives."""
    code = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code, False
        if ended == 0:
            return code, True
        if ended == child:
            code = os.waitstatus_to_exitcode(status)


def _report(reports: int, report: Any) -> None:
    try:
        send(reports, report)
    except BrokenPipeError:  # whoever wanted to know has ended
        return


def _descendants() -> list[tuple[int, str]]:
    """Return process ids and names of what descends from this process, by id; the first thousand."""
    before = None
    for _ in range(_LISTINGS):
        found = _list_descendants()
        if found == before:
            break
        before = found
    return found[:_MOST_NAMED]


def _list_descendants() -> list[tuple[int, str]]:
    children: dict[int, list[tuple[int, str]]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    head, _, tail = file.read().rpartition(b")")
            except OSError:  # it has ended
                continue
            state, parent, *rest = tail.split()
            # proc(5), fields 3, 4 and 20. A process whose first thread ended looks like a zombie, but has others.
            if state not in (b"Z", b"X") or int(rest[15]) > 1:
                comm = head.partition(b"(")[2].decode(errors="replace")
                children.setdefault(int(parent), []).append((int(name), comm))
    found: list[tuple[int, str]] = []
    unseen = [os.getpid()]
    while unseen:
        more = children.pop(unseen.pop(), [])
        found += more
        unseen += [pid for pid, _ in more]
    return sorted(found)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
    os._exit(0)  # nothing is left to tidy up, which takes Python a few ms
