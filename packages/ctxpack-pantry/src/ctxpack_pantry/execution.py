"""Execution: the command of a contract is run, and always ends before this process goes on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, InvalidInput
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_identity.secrets import child_environment
from ctxpack_pantry import supervisor as program
from ctxpack_pantry.provenance import Execution

__all__ = ["Ended", "Survivor", "execute", "offered_contract", "open_below"]

_GRACE = 10.0  # seconds that a command has to tidy up, after Ctrl-C and again after SIGTERM
_LINGER = 5.0  # seconds that descendants of a command have to end, once it has ended
_LOST = 128 + signal.SIGKILL

_guards: list[subprocess.Popen[bytes]] = []  # of interrupted commands; kept to collect them once they have ended


class Survivor(NamedTuple):
    """A process that a command left behind. name: the program's, 15 bytes; no arguments, which may hold secrets.

    pid: 0 for one that the system does not show.
    """

    pid: int
    name: str


class Ended(NamedTuple):
    """How a command ended. status: its exit status, 128 + n when signal n ended it. survivors: by pid, at most 1000.

    ended: when it did, in ns since the epoch; its descendants may have ended later.
    """

    status: int
    execution: Execution
    survivors: tuple[Survivor, ...]
    ended: int


def execute(
    command: Sequence[str],
    folder: str,
    variables: Mapping[str, str],
    *,
    keep_open: Sequence[int] = (),
    grace: float = _GRACE,
    linger: float = _LINGER,
    notice: Callable[[str], None] | None = None,
) -> Ended:
    """Run command in folder to its end, then wait for what it started; return its exit status and what still lives.

    The command's standard output goes to standard error: a hit has none, so nothing may depend on it. variables: what
    it finds in its environment besides ours, of which CtxPack's secrets are left out. linger: seconds that its
    descendants have to end (Linux; elsewhere nobody waits for them, and no survivors are known). An interruption of
    this process ends the command too; grace: seconds until SIGTERM after Ctrl-C, and until SIGKILL after SIGTERM.

    keep_open: descriptors that hold locks (flock). The command does not inherit them. When this process is killed, the
    locks stay held until the command and all its descendants have ended. When this function raises because it was
    interrupted, and descendants live, it is the same unless the caller unlocks (LOCK_UN); to close the descriptors is
    not enough. After a return nothing holds them any more.

    notice: called with one sentence if the process that supervises the command is killed. The status is that of a
    killed command then (137); Linux kills the command too, and its survivors are not known.
    Raises: InvalidInput when command cannot be started.
    """
    began = time.monotonic()
    try:
        words = [os.fsencode(word) for word in command]
        inherited = {**child_environment(), **variables}
        environment = {os.fsencode(name): os.fsencode(value) for name, value in inherited.items()}
        supervisor = _Supervisor(folder, keep_open)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise _cannot_be_started(command, reason or str(error)) from error
    try:
        supervisor.start(words, environment, linger)
        supervisor.await_end()
        ended = time.time_ns()
        supervisor.await_survivors()
        supervisor.dismiss()
    except KeyboardInterrupt:
        # From a terminal, Ctrl-C reached the command as well; a second Ctrl-C ends its time to tidy up.
        supervisor.await_end(grace)
        raise
    finally:
        supervisor.close(grace)
    if supervisor.refusal is not None:
        raise _cannot_be_started(command, supervisor.refusal)
    if supervisor.code is None:
        if notice is not None:
            notice("the process that supervises the command was killed; the command counts as failed")
        return Ended(_LOST, Execution(tuple(command), time.monotonic() - began), (), ended)
    code = supervisor.code
    execution = Execution(tuple(command), supervisor.seconds)
    return Ended(128 - code if code < 0 else code, execution, supervisor.survivors or (), ended)


@contextlib.contextmanager
def offered_contract(cache: Cache, uri: CtxUri, canonical: bytes) -> Iterator[dict[str, str]]:
    """Offer a contract to commands: yield the variables by which they find it. SPEC.md of identity, section 8."""
    with cache.staging() as staging:
        path = os.path.abspath(os.path.join(staging, "contract.json"))
        with open(path, "xb") as file:
            file.write(canonical)
        yield {"CTXPACK_CONTRACT": path, "CTXPACK_URI": uri}


def open_below(survivors: Sequence[Survivor], paths: Sequence[str]) -> tuple[Survivor, ...]:
    """Return the survivors that have a file at or below one of paths open or mapped, or work in a folder there.

    paths: real ones, without links. A process that has ended meanwhile has nothing open. One that may not be looked
    into, as that of another user, is not returned: whether it has is not known.
    """
    tops = [os.fsencode(path).rstrip(b"/") for path in paths]

    def below(used: bytes) -> bool:
        return any(used == top or used.startswith(top + b"/") for top in tops)

    return tuple(survivor for survivor in survivors if any(map(below, _used(survivor.pid))))


def _cannot_be_started(command: Sequence[str], reason: str) -> InvalidInput:
    return InvalidInput(
        f"command cannot be started: {reason}",
        where=command[0],
        fix="check the name of the program; a shell's syntax needs: sh -c '…'",
        code="E_COMMAND",
    )


class _Supervisor:
    """A process of the program in ``supervisor``, and what it has reported so far.

    folder: where the command will run. keep_open: as for execute. refusal: why the command could not be started. code:
    how it ended, negative for a signal; None before, and when the supervisor was killed. seconds: how long it took.
    survivors: None before they are known. Raises: OSError when the process cannot be started.
    """

    def __init__(self, folder: str, keep_open: Sequence[int]) -> None:
        self.refusal: str | None = None
        self.code: int | None = None
        self.seconds = 0.0
        self.survivors: tuple[Survivor, ...] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = self._ordered = self._dismissed = False
        _guards[:] = [guard for guard in _guards if guard.poll() is None]
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as passed:
            opened.callback(self._collect)
            orders, self._orders = _pipe(passed, opened)
            self._reports, reports = _pipe(opened, passed)
            descriptors = (orders, reports, *(_duplicate(fd, passed) for fd in keep_open))
            # Signals are blocked meanwhile: a handler that raises would leave an orphan, and one that comes before the
            # program is ready would end it.
            self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", program.__file__, *map(str, descriptors)],
                    stdout=2,
                    cwd=folder or None,
                    env=child_environment(),
                    pass_fds=descriptors,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
            self._opened = opened.pop_all()
        self._inbox = program.Inbox(self._reports)
        self._events = select.poll()
        self._events.register(self._reports, select.POLLIN)

    def start(self, command: Sequence[bytes], environment: Mapping[bytes, bytes], linger: float) -> None:
        """Start the command. Until all of the order is sent, an interruption means that nothing is started."""
        self._tell(([*command], {**environment}, [*map(int, self._blocked)], linger))
        self._ordered = True
        self._tell("start")

    def await_end(self, timeout: float | None = None) -> bool:
        """Wait until the command has ended, for timeout seconds at most; return whether it has."""
        return self._listen(lambda: self.code is not None or self._gone, timeout)

    def await_survivors(self) -> None:
        """Wait until nothing is left of a command that has ended, or it is known what is left."""
        self._listen(lambda: self.survivors is not None or self._gone, None)

    def dismiss(self) -> None:
        """Let the supervisor end, though descendants of the command may live: nobody is interested in them."""
        self._tell("done")
        self._dismissed = True

    def close(self, grace: float) -> None:
        """End the command if it still runs: SIGTERM, then SIGKILL after grace seconds. Without dismiss, the supervisor
        keeps the locks while descendants live."""
        with self._opened:
            if not self._ordered:
                return
            try:
                if not self.await_end(0):
                    self._tell("terminate")
                    self.await_end(grace)
            finally:
                if not self.await_end(0):
                    self._tell("kill")
                    self.await_end()
            if self.survivors is None:
                self._tell("list")
                self.await_survivors()

    def _tell(self, order: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended; its reports say why, or that it was killed
            program.send(self._orders, order)

    def _listen(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Note reports until done or timeout; return whether done."""
        until = None if timeout is None else time.monotonic() + timeout
        while not done():
            if not self._events.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000):
                return False
            reports = self._inbox.read()
            if reports is None:
                self._gone = True
                if self.survivors is None:  # it was killed before it knew everything
                    self.code = None
            for report in reports or ():
                self._note(*report)
        return True

    def _note(self, kind: str, *told: Any) -> None:
        if kind == "refused":
            [self.refusal] = told
        elif kind == "ended":
            self.code, self.seconds = told
        else:
            self.survivors = tuple(Survivor(*survivor) for survivor in told[0])

    def _collect(self) -> None:
        """Wait for a supervisor that ends by itself now; remember one that does not."""
        if self._process is None:
            return
        if self._ordered and not (self._gone or self._dismissed or self.survivors == ()):
            _guards.append(self._process)
        else:
            self._process.wait()


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Return both ends of a pipe, which these close."""
    ends = os.pipe()
    try:
        return _duplicate(ends[0], reader), _duplicate(ends[1], writer)
    finally:
        for end in ends:
            os.close(end)


def _duplicate(fd: int, closer: contextlib.ExitStack) -> int:
    """Return a duplicate of fd that closer closes, and that is no standard stream: Popen replaces those."""
    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    closer.callback(os.close, duplicate)
    return duplicate


def _used(pid: int) -> Iterator[bytes]:
    """Yield paths of what a process has open or mapped, and of its current folder, as far as this may be known."""
    with contextlib.suppress(OSError):
        yield os.readlink(b"/proc/%d/cwd" % pid)
    with contextlib.suppress(OSError):
        for fd in os.listdir(b"/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield os.readlink(b"/proc/%d/fd/%b" % (pid, fd))
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:
        for line in maps:
            _, slash, path = line.partition(b"/")
            if slash:
                yield b"/" + path.rstrip(b"\n").replace(b"\\012", b"\n")
