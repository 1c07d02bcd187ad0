"""Runner: a program that runs one command after the other for a map, and ends all of them when the map is gone.

`workers` runs one for each job, by the path of this module; so the module imports only of the standard library. An
order is a length (4 bytes, little-endian) and a marshalled (command, environment); a report is the same of
("ended", exit code or -signal) or ("refused", reason). While a command runs, the length TERMINATE or KILL is an order
about its process group. The end of the orders kills it.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["KILL", "TERMINATE", "receive", "send"]

TERMINATE, KILL = 0, 0xFFFFFFFF  # lengths that no order has
_LENGTH = 4  # bytes

# What terminals and batch systems send to a whole process group. The map decides what becomes of the command.
_TO_GROUPS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # the command gets them back, as subprocess does it


def send(fd: int, message: Any) -> None:
    """Write one message. Raises: BrokenPipeError when nobody can read it."""
    data = marshal.dumps(message)
    rest = memoryview(len(data).to_bytes(_LENGTH, "little") + data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def receive(fd: int) -> Any:
    """Return the next message; TERMINATE or KILL for these; None at the end of the pipe, also inside of a message."""
    head = _read(fd, _LENGTH)
    if len(head) < _LENGTH:
        return None
    length = int.from_bytes(head, "little")
    if length in (TERMINATE, KILL):
        return length
    data = _read(fd, length)
    return marshal.loads(data) if len(data) == length else None


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def _main(orders: int, reports: int) -> None:
    for fd in (orders, reports):
        os.set_inheritable(fd, False)
    woken, restored = _watch_signals()
    events = select.poll()
    events.register(orders, select.POLLIN)
    events.register(woken, select.POLLIN)
    while (order := _next(orders)) is not None:
        command, environment = order
        try:
            child = _start(command, environment, restored)
        except (OSError, ValueError) as error:
            send(reports, ("refused", getattr(error, "strerror", None) or str(error)))
            continue
        send(reports, ("ended", _await(child, orders, woken, events)))


def _next(orders: int) -> Any:
    """Return the next order to run something. Others came too late: their command has ended."""
    while (order := receive(orders)) in (TERMINATE, KILL):
        pass
    return order


def _watch_signals() -> tuple[int, list[int]]:
    """Let no signal end this process; return what becomes readable when a child ends, and what children get back."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    restored: list[int] = [*_IGNORED_BY_PYTHON, signal.SIGCHLD]
    for number in _TO_GROUPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # the command would inherit that it is ignored
            signal.signal(number, _do_nothing)
            restored.append(number)
    signal.signal(signal.SIGCHLD, _do_nothing)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    return woken, restored


def _do_nothing(number: int, frame: object) -> None: ...


def _start(command: list[bytes], environment: Mapping[bytes, bytes], restored: Sequence[int]) -> int:
    """Start command in a process group of its own; return its id. Raises: OSError, ValueError."""
    options: dict[str, Any] = {"setpgroup": 0, "setsigmask": (), "setsigdef": restored}
    return os.posix_spawn(_find(command[0], environment), command, environment, **options)


def _find(name: bytes, environment: Mapping[bytes, bytes]) -> bytes:
    """Return the path of a program, as execvp finds it. Raises: OSError when it cannot be executed."""
    if b"/" in name:
        return name
    failed: OSError = FileNotFoundError(2, os.strerror(2))
    for folder in environment.get(b"PATH", os.fsencode(os.defpath)).split(b":"):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
        if os.path.lexists(path):  # another folder may have one that can be executed
            failed = PermissionError(13, os.strerror(13))
    raise failed


def _await(child: int, orders: int, woken: int, events: select.poll) -> int:
    """Return how child ended: its exit code, or -signal. Ends this process, and child, when the map is gone."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        for fd, _ in events.poll():
            if fd == woken:
                os.read(woken, 1 << 12)
                continue
            order = receive(orders)
            if order is None:
                _signal(child, signal.SIGKILL)
                os._exit(1)
            _signal(child, signal.SIGTERM if order == TERMINATE else signal.SIGKILL)


def _signal(child: int, number: int) -> None:
    try:
        os.killpg(child, number)
    except ProcessLookupError:  # not collected yet, so its id is not another's
        return


if __name__ == "__main__":
    try:
        _main(*map(int, sys.argv[1:]))
    except BrokenPipeError:
        os._exit(1)  # the map is gone
    os._exit(0)
