"""A command is run, waited for with all that it starts, and watched though whoever started it is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput
from ctxpack_pantry import supervisor
from ctxpack_pantry.execution import Survivor, _Supervisor, execute, open_below

CHECK_NAME = "check the name of the program; a shell's syntax needs: sh -c '…'"
LIMIT = 30.0  # seconds; only a failing test takes as long

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper and /proc")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own; what waits there for a file ends with the test."""
    monkeypatch.chdir(tmp_path)
    Path("testing").touch()
    yield
    (tmp_path / "testing").unlink()


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def until(name: str) -> str:
    """Shell code that waits for a file."""
    return f"while test -e testing && ! test -e {name}; do sleep 0.01; done"


def await_that(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def noted(name: str) -> int:
    """The process id that a command wrote."""
    await_that(lambda: Path(name).exists() and Path(name).read_text().endswith("\n"))
    return int(Path(name).read_text())


# --- what the command is given, and gives back


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)]
    + [(f"kill -{int(n)} $$", 128 + n) for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)],
)
def test_the_status_is_that_of_a_shell(script: str, status: int) -> None:
    ended = execute(shell(script), "", {})
    assert (ended.status, ended.survivors) == (status, ())
    assert ended.execution.command == ("sh", "-c", script)
    assert 0 <= ended.execution.seconds < LIMIT


@given(
    arguments=st.lists(st.binary(max_size=20).map(lambda data: os.fsdecode(data.replace(b"\0", b""))), max_size=4),
    value=st.binary(max_size=20).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arguments_and_variables_arrive_as_they_are(tmp_path: Path, arguments: list[str], value: str) -> None:
    """Bytes that are no UTF-8 among them."""
    execute(["sh", "-c", r'printf "%s\0" "$V" "$@" >seen', "sh", *arguments], str(tmp_path), {"V": value})
    assert (tmp_path / "seen").read_bytes() == b"".join(os.fsencode(word) + b"\0" for word in [value, *arguments])


@on_linux
@pytest.mark.parametrize("ignored", [False, True])
def test_the_command_finds_what_it_would_find_without_a_supervisor(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], ignored: bool
) -> None:
    """Environment, open files, session and group, which signals are blocked and ignored (nohup)."""
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "C")  # Python would set LC_CTYPE
    looks = [
        ["grep", "-E", "^(Sig(Blk|Ign|Cgt)|Umask|NoNewPrivs)", "/proc/self/status"],
        ["cut", "-d", " ", "-f", "5,6", "/proc/self/stat"],
        ["ls", "/proc/self/fd"],
        shell("env; pwd"),
    ]
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGCHLD)}
    lock = os.open("lock", os.O_CREAT | os.O_RDWR)
    try:
        if ignored:
            for number in before:
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        for look in looks:
            subprocess.run(look, stdout=2, env={**os.environ, "MORE": "1"})
        expected = capfd.readouterr()
        for look in looks:
            execute(look, "", {"MORE": "1"}, keep_open=[lock])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(lock)
    assert capfd.readouterr() == expected
    assert expected.out == ""
    assert "MORE=1\n" in expected.err


def test_the_command_reads_our_standard_input() -> None:
    reading, writing = os.pipe()
    before = os.dup(0)
    try:
        os.dup2(reading, 0)
        os.write(writing, b"given")
        os.close(writing)
        execute(shell("cat >got"), "", {})
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reading)
    assert Path("got").read_text() == "given"


def test_the_command_runs_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert execute(shell("touch here"), "there", {}).status == 0
    assert Path("there/here").exists()


def test_a_program_is_looked_for_in_the_path_that_the_command_gets(tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "our-tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    assert execute(["our-tool"], "", {"PATH": f"{tool.parent}:{os.environ['PATH']}"}).status == 9


@pytest.mark.parametrize(
    ("command", "folder", "variables", "reason"),
    [
        (["no-such-program"], "", {}, "No such file or directory"),
        (["./text"], "", {}, "Permission denied"),
        (["./folder"], "", {}, "Permission denied"),
        (["./empty"], "", {}, "Exec format error"),
        (["true"], "missing", {}, "No such file or directory"),
        (["true"], "text", {}, "Not a directory"),
        (["true"], "", {"a=b": "c"}, "illegal environment variable name"),
        (["true", "x" * (1 << 18)], "", {}, "Argument list too long"),  # MAX_ARG_STRLEN of Linux is 128 KiB
    ],
)
def test_a_command_that_cannot_be_started_is_named(
    command: list[str], folder: str, variables: dict[str, str], reason: str
) -> None:
    """The reasons are those of subprocess."""
    Path("text").write_text("text")
    Path("folder").mkdir()
    Path("empty").touch(mode=0o755)
    with pytest.raises((OSError, ValueError), match=reason):
        subprocess.run(command, cwd=folder or None, env={**os.environ, **variables})
    with pytest.raises(InvalidInput) as caught:
        execute(command, folder, variables)
    assert (str(caught.value), caught.value.code) == (
        f"{command[0]}: command cannot be started: {reason}; {CHECK_NAME}",
        "E_COMMAND",
    )


@pytest.mark.parametrize("word", ["nul\0byte", "\ud800"])
def test_words_that_no_command_can_have_are_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match=r"^true: command cannot be started: .*(embedded null|codec can't encode)"):
        execute(["true", word], "", {})


# --- what the command leaves behind


@on_linux
@pytest.mark.parametrize("start", ["{} &", "setsid sh -c '{}' &", "(({} &) &)", "setsid setsid sh -c '({} &)'"])
def test_what_the_command_started_is_waited_for(start: str) -> None:
    work = start.format(f"({until('ended')}; sleep 0.1; touch late)")
    assert execute(shell(f"{work}\ntouch ended"), "", {}, linger=LIMIT)[::2] == (0, ())
    assert Path("late").exists()


@on_linux
@pytest.mark.parametrize("status", [0, 3])
def test_what_still_lives_is_named(status: int) -> None:
    """A daemon in a session of its own, a child whose parent ended, and what these start."""
    daemon = f"setsid sh -c 'echo $$ >daemon; {until('go')}; exit' &"
    child = f"(sh -c 'echo $$ >child; {until('go')}; exit' &);"
    until_both = f"{until('daemon')}; {until('child')}"
    try:
        ended = execute(shell(f"{daemon} {child} {until_both}; exit {status}"), "", {}, linger=0.05)
        assert ended.status == status
        found = {survivor.pid: survivor.name for survivor in ended.survivors}
        assert found[noted("daemon")] == found[noted("child")] == "sh"
        assert runs(noted("daemon"))
        assert [survivor.pid for survivor in ended.survivors] == sorted(found)
    finally:
        Path("go").touch()
    await_that(lambda: not runs(noted("daemon")))


@on_linux
def test_a_zombie_is_no_survivor() -> None:
    """Its parent lives and never waits for it."""
    code = "import os, time\npid = os.fork()\nif pid == 0: os._exit(0)\nopen('zombie', 'w').write(f'{pid}\\n')\n"
    wait = "while os.path.exists('testing') and not os.path.exists('go'): time.sleep(.01)"
    Path("parent.py").write_text(code + wait)
    try:
        ended = execute(shell(f"{sys.executable} parent.py & {until('zombie')}"), "", {}, linger=0.05)
        assert len(ended.survivors) == 1
        assert ended.survivors[0].pid != noted("zombie")
    finally:
        Path("go").touch()


@on_linux
def test_a_process_whose_first_thread_ended_still_lives() -> None:
    code = """
import ctypes, os, threading, time
def work():
    while os.path.exists("testing") and not os.path.exists("go"): time.sleep(.01)
    os._exit(0)
threading.Thread(target=work).start()
open("pid", "w").write(f"{os.getpid()}\\n")
ctypes.CDLL(None).pthread_exit(None)
"""
    Path("threads.py").write_text(code)
    dead_leader = "while ! grep -q 'State:.Z' /proc/$(cat pid)/status; do sleep 0.01; done"
    try:
        ended = execute(shell(f"{sys.executable} threads.py & {until('pid')}; {dead_leader}"), "", {}, linger=0.05)
        assert [survivor.pid for survivor in ended.survivors] == [noted("pid")]
    finally:
        Path("go").touch()


# --- interruptions


class Interrupted(BaseException):
    """What a signal handler may raise."""


def _waits(thread: int) -> bool:
    """Return whether a thread waits for reports of a supervisor, and has ordered it to start the command."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_name == "_listen":
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def interrupt(request: pytest.FixtureRequest) -> Callable[[type[BaseException], Callable[[], bool]], None]:
    """Let a signal handler raise an exception in this thread, once it waits for a command and a condition holds."""

    def arrange(error: type[BaseException], when: Callable[[], bool]) -> None:
        def handler(number: int, frame: object) -> None:
            Path("struck").touch()
            raise error

        def strike() -> None:
            while not (when() and _waits(waiting)):
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGUSR1)

        waiting = threading.get_ident()
        before = signal.signal(signal.SIGUSR1, handler)
        thread = threading.Thread(target=strike)
        thread.start()
        request.addfinalizer(lambda: signal.signal(signal.SIGUSR1, before))
        request.addfinalizer(thread.join)

    return arrange


Interrupt = Callable[[type[BaseException], Callable[[], bool]], None]


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
@pytest.mark.parametrize(
    "trap", ["", "trap 'rm started; exit 9' TERM;", "trap '' TERM;"], ids=["ends", "tidies", "ignores"]
)
def test_an_interruption_ends_the_command(interrupt: Interrupt, error: type[BaseException], trap: str) -> None:
    """Also when Ctrl-C reaches only this process, and when the command ignores SIGTERM."""
    started = Path("started")
    interrupt(error, started.exists)
    with pytest.raises(error):
        execute(
            shell(f"{trap} echo $$ >pid; touch started; while test -e testing; do sleep 0.05; done"), "", {}, grace=0.3
        )
    with pytest.raises(ProcessLookupError):
        os.kill(noted("pid"), 0)
    assert started.exists() is ("rm" not in trap)


def test_a_command_gets_time_to_tidy_up_after_ctrl_c(interrupt: Interrupt) -> None:
    """From a terminal, Ctrl-C reaches both processes; this command ends by itself, a while later."""
    interrupt(KeyboardInterrupt, Path("started").exists)
    with pytest.raises(KeyboardInterrupt):
        execute(shell(f"touch started; {until('struck')}; sleep 0.1; touch tidied"), "", {}, grace=LIMIT)
    assert Path("tidied").exists()


def test_a_second_interruption_ends_the_time_to_tidy_up(monkeypatch: pytest.MonkeyPatch, interrupt: Interrupt) -> None:
    await_end = _Supervisor.await_end

    def interrupted_again(self: _Supervisor, timeout: float | None = None) -> bool:
        if timeout == LIMIT and not again:
            again.append(True)
            raise KeyboardInterrupt
        return await_end(self, timeout)

    again: list[bool] = []
    interrupt(KeyboardInterrupt, Path("started").exists)
    monkeypatch.setattr(_Supervisor, "await_end", interrupted_again)
    with pytest.raises(KeyboardInterrupt):
        execute(shell("echo $$ >pid; touch started; while test -e testing; do sleep 0.05; done"), "", {}, grace=LIMIT)
    with pytest.raises(ProcessLookupError):
        os.kill(noted("pid"), 0)


@on_linux
def test_an_interruption_ends_the_time_that_is_given_to_what_the_command_left(
    interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    tell = _Supervisor._tell

    def note_and_tell(self: _Supervisor, order: object) -> None:
        told.append(order)
        tell(self, order)

    monkeypatch.setattr(_Supervisor, "_tell", note_and_tell)
    interrupt(KeyboardInterrupt, Path("ended").exists)
    leave = f"({until('go')}; touch gone) & (sleep 0.05; touch ended) &"
    try:
        with pytest.raises(KeyboardInterrupt):
            execute(shell(leave), "", {}, linger=LIMIT)
        assert told[1:] == ["start", "list"]
        assert not Path("gone").exists()
    finally:
        Path("go").touch()
    await_that(Path("gone").exists)


# --- locks


@contextlib.contextmanager
def locked(name: str = "lock") -> Iterator[int]:
    """A descriptor that holds a lock; closing it does not unlock while others have it open."""
    fd = os.open(name, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


def is_free(name: str = "lock") -> bool:
    try:
        with locked(name):
            return True
    except BlockingIOError:
        return False


def caller(script: str, **options: Any) -> subprocess.Popen[bytes]:
    """A process that runs Python code with a lock."""
    opening = "fd = os.open('lock', os.O_CREAT | os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    imports = "import fcntl, os, signal; from ctxpack_pantry.execution import execute"
    return subprocess.Popen([sys.executable, "-c", f"{imports}\n{opening}\n{script}"], **options)


@on_linux
def test_locks_stay_held_when_the_caller_is_killed_until_all_it_started_has_ended() -> None:
    leave = f"setsid sh -c 'echo $$ >daemon; {until('go')}; exit' & {until('daemon')}; echo $$ >pid; {until('end')}"
    killed = caller(f"execute(['sh', '-c', {leave!r}], '', {{}}, keep_open=[fd])")
    try:
        command, daemon = noted("pid"), noted("daemon")
        killed.kill()
        killed.wait()
        assert runs(command)
        assert not is_free()
        Path("end").touch()
        await_that(lambda: not runs(command))
        assert runs(daemon)
        assert not is_free()
    finally:
        Path("end").touch()
        Path("go").touch()
    await_that(is_free)
    assert not runs(daemon)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_closed_standard_streams_confuse_nobody(closed: str) -> None:
    """The lock, or a pipe to the supervisor, may then have the number of a standard stream."""
    script = "import fcntl, os; from ctxpack_pantry.execution import execute\n"
    script += "fd = os.open('lock', os.O_CREAT | os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX)\n"
    script += "ended = execute(['sh', '-c', 'echo said'], '', {}, keep_open=[fd]); os._exit(ended.status + 40)"
    Path("caller.py").write_text(script)
    done = subprocess.run(shell(f"exec {sys.executable} caller.py {closed}"), stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (40, b"said\n")


@on_linux
def test_after_a_return_nothing_holds_the_locks() -> None:
    try:
        with locked() as fd:
            assert execute(shell(f"({until('go')}) &"), "", {}, keep_open=[fd], linger=0.02).survivors
        assert is_free()
    finally:
        Path("go").touch()


@on_linux
@pytest.mark.parametrize("unlock", [False, True])
def test_after_an_interruption_locks_are_held_while_something_lives_unless_unlocked(
    interrupt: Interrupt, unlock: bool
) -> None:
    interrupt(KeyboardInterrupt, Path("daemon").exists)
    leave = f"setsid sh -c 'echo $$ >daemon; {until('go')}; exit' & while test -e testing; do sleep 0.01; done"
    try:
        with locked() as fd:
            with pytest.raises(KeyboardInterrupt):
                execute(shell(leave), "", {}, keep_open=[fd], grace=0.05)
            if unlock:
                fcntl.flock(fd, fcntl.LOCK_UN)
        assert is_free() is unlock
    finally:
        Path("go").touch()
    await_that(is_free)
    execute(["true"], "", {})  # collects the supervisor


@on_linux
def test_a_command_whose_supervisor_is_killed_has_failed_and_is_killed_too() -> None:
    notices: list[str] = []
    ended = execute(
        shell("echo $$ >pid; kill -9 $PPID; while test -e testing; do sleep 0.01; done"), "", {}, notice=notices.append
    )
    assert (ended.status, ended.survivors) == (137, ())
    assert notices == ["the process that supervises the command was killed; the command counts as failed"]
    await_that(lambda: not runs(noted("pid")))


@on_linux
def test_survivors_are_not_called_none_when_the_supervisor_is_killed_before_it_knows() -> None:
    leave = f"(while kill -0 $$ 2>&-; do sleep 0.01; done; kill -9 $PPID; {until('go')}) &"
    # $PPID of the subshell is that of the shell: the supervisor.
    try:
        assert execute(shell(leave), "", {}, linger=LIMIT).status == 137
    finally:
        Path("go").touch()


# --- signals to the group, as from a terminal or a batch system


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_group_ends_the_command_and_not_its_supervisor(number: int) -> None:
    script = f"""
signal.signal({int(number)}, lambda *_: None)
open("status", "w").write(f"{{execute(['sh', '-c', 'ulimit -c 0; echo $$ >pid; {until("go")}'], '', {{}}).status}}\\n")
"""
    started = caller(script, start_new_session=True)
    noted("pid")
    os.killpg(started.pid, number)
    assert started.wait(LIMIT) == 0
    assert noted("status") == 128 + number


# --- the program


class Program:
    """The program in supervisor.py, as execution starts it: with all signals blocked."""

    def __init__(self) -> None:
        given, self.orders = os.pipe()
        reports, answers = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            arguments = [sys.executable, "-I", "-S", supervisor.__file__, str(given), str(answers)]
            self.process = subprocess.Popen(arguments, pass_fds=(given, answers))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(given)
        os.close(answers)
        self.reports = reports
        self.inbox = supervisor.Inbox(reports)
        self.received: list[Any] = []

    def tell(self, *orders: object) -> None:
        for order in orders:
            supervisor.send(self.orders, order)

    def request(self, script: str, linger: float = LIMIT) -> None:
        self.tell(([b"sh", b"-c", script.encode()], os.environb.copy(), [], linger))

    def next(self) -> Any:
        while not self.received:
            more = self.inbox.read()
            if more is None:
                return None
            self.received += more
        return self.received.pop(0)

    def close(self) -> None:
        Path("go").touch()
        for fd in (self.orders, self.reports):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.process.wait(LIMIT)


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program()
    yield made
    made.close()


@pytest.mark.parametrize("before", ["nothing", "a request", "another order"])
def test_nothing_is_started_unless_the_order_to_start_comes(program: Program, before: str) -> None:
    """Whoever gave the orders was killed or interrupted before."""
    if before != "nothing":
        program.request("touch started")
    if before == "another order":
        program.tell("terminate")
    else:
        os.close(program.orders)
    assert program.next() is None
    assert program.process.wait(LIMIT) == 0
    assert not Path("started").exists()


def test_a_signal_that_comes_while_the_program_starts_is_for_the_command(program: Program) -> None:
    os.kill(program.process.pid, signal.SIGTERM)
    program.request(until("go"))
    program.tell("start")
    assert program.next()[:2] == ("ended", -signal.SIGTERM)


def test_orders_after_the_end_are_answered_again(program: Program) -> None:
    """An interruption may have lost a report. The command's process id is not used any more: it may be another's."""
    program.request(f"({until('go')}) &", linger=LIMIT)
    program.tell("start")
    ended = program.next()
    assert ended[:2] == ("ended", 0)
    if sys.platform == "linux":
        program.tell("terminate", "kill", "list")
        assert [program.next() for _ in range(3)] == [ended] * 3
        kind, left = program.next()
        assert kind == "left"
        assert any(runs(pid) for pid, _ in left)
        Path("go").touch()
    assert program.next() == ("left", [])
    assert program.next() is None


@on_linux
def test_done_ends_the_program_though_something_lives(program: Program) -> None:
    program.request(f"(echo $$; {until('go')}) & echo $! >pid")
    program.tell("start")
    assert program.next()[:2] == ("ended", 0)
    program.tell("done")
    assert program.process.wait(LIMIT) == 0
    assert runs(noted("pid"))


@on_linux
def test_the_program_keeps_no_stream_of_ours_open() -> None:
    """Whoever reads what the command prints must not wait for a supervisor whose caller was killed."""
    reading, writing = os.pipe()
    leave = f"(exec >&- 2>&-; {until('go')}) & echo $$ >pid"
    killed = caller(f"execute(['sh', '-c', {leave!r}], '', {{}}, keep_open=[fd])", stderr=writing)
    os.close(writing)
    try:
        noted("pid")
        killed.kill()
        killed.wait()
        assert os.read(reading, 1) == b""
        assert not is_free()
    finally:
        os.close(reading)
        Path("go").touch()
    await_that(is_free)


# --- what survivors have open


@on_linux
@pytest.mark.parametrize(
    ("use", "paths", "found"),
    [
        ("exec 3>out/file", ["out"], True),
        ("exec 3>out/file", ["other", "out/file"], True),
        ("exec 3<out/deep/er", ["out"], True),
        ("exec 3>out/file; rm out/file", ["out"], True),
        ("exec 3>'out/new\nline'", ["out"], True),
        ("cd out/deep", ["out"], True),
        ("cd out", ["out"], True),
        ("exec 3>out2", ["out"], False),
        ("exec 3>out/file", ["out/fil"], False),
        ("exec 3>out/file; exec 3>&-", ["out"], False),
        ("cd other", ["out"], False),
        ("exec 3>out/file", [], False),
    ],
)
def test_survivors_that_have_something_open_are_found(tmp_path: Path, use: str, paths: list[str], found: bool) -> None:
    Path("out/deep").mkdir(parents=True)
    Path("out/deep/er").touch()
    Path("other").mkdir()
    process = subprocess.Popen(
        shell(f"{use}; echo ready; read end"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        survivor = Survivor(process.pid, "sh")
        real = [os.path.realpath(path) for path in paths]
        assert open_below([survivor], real) == ((survivor,) if found else ())
    assert open_below([survivor, Survivor(0, "?")], real) == ()


@on_linux
def test_a_survivor_that_has_a_file_mapped_is_found(tmp_path: Path) -> None:
    name = tmp_path / "out" / "new\nline"
    name.parent.mkdir()
    name.write_bytes(b"content")
    code = "import mmap, sys\nwith open(sys.argv[1], 'r+b') as file: mapped = mmap.mmap(file.fileno(), 0)\n"
    code += "print('ready', flush=True)\ninput()"
    process = subprocess.Popen([sys.executable, "-I", "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        survivor = Survivor(process.pid, "python")
        assert open_below([survivor], [str(name)]) == (survivor,)
        assert process.stdin is not None
        process.stdin.write(b"\n")
