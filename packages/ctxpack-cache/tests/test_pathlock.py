"""Outputs that are one, or lie in each other, are used by one process at a time; no lock file is left."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import pathlock
from ctxpack_cache.pathlock import PathLocks
from ctxpack_identity.errors import LocalFailure

Spawn = Callable[[Callable[[], object]], Any]
Eventually = Callable[[Callable[[], bool]], None]
AtStep = Callable[[int, Callable[[], object]], Callable[[], int]]

NOBODY = 65534


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the locks below tmp_path; return their folder."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(pathlock, "RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.setattr(pathlock, "TEMPORARY", str(tmp_path / "temporary"))
    return tmp_path / "temporary" / f"ctxpack-{os.geteuid()}"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def never(path: str) -> None:
    raise AssertionError(f"it waited for {path}")


def is_free(*paths: object) -> bool:
    """Whether a process would get the locks without waiting for another."""

    class Busy(Exception):
        pass

    def busy(path: str) -> None:
        raise Busy

    try:
        with PathLocks([str(path) for path in paths], busy):
            return True
    except Busy:
        return False


def hold(paths: Sequence[object], held: Path) -> None:
    with PathLocks([str(path) for path in paths]):
        held.touch()
        time.sleep(60)


@pytest.fixture
def held_by_another(tmp_path: Path, spawn: Spawn, eventually: Eventually) -> Callable[..., Any]:
    """Return a function that starts a process which holds locks for a minute."""

    def start(*paths: object) -> Any:
        held = tmp_path / "held"
        child = spawn(lambda: hold(paths, held))
        eventually(held.exists)
        held.unlink()
        return child

    return start


@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [
        ("out", "out", False),
        ("out", "out/", False),
        ("out", "./sub/../out", False),
        ("out", "out/deeper/still", False),
        ("out/deeper/still", "out", False),
        ("out", "link", False),
        ("link/file", "out", False),
        ("out", "other", True),
        ("out/a", "out/b", True),
        ("out", "output", True),
        ("out/a", "out.a", True),
    ],
)
def test_outputs_exclude_each_other_if_one_is_or_lies_in_the_other(
    work: Path, held_by_another: Callable[..., Any], held: str, wanted: str, free: bool
) -> None:
    (work / "sub").mkdir()
    (work / "link").symlink_to("out")  # dangling at first, as outputs are
    holder = held_by_another(f"{work}/{held}")
    assert is_free(f"{work}/{wanted}") is free
    (work / "out").mkdir()
    assert is_free(f"{work}/{wanted}") is free, "the output was made meanwhile"
    holder.kill()
    assert is_free(f"{work}/{wanted}"), "the kernel frees the locks of a killed process"


def test_no_lock_file_is_left_and_the_paths_are_not_touched(work: Path, folder: Path) -> None:
    with PathLocks([str(work / "a" / "b"), str(work / "c")]) as locks:
        assert len(os.listdir(folder)) == len(locks.descriptors) == len((work / "a" / "b").parts) + 1
        assert len(locks.descriptors) == len(set(locks.descriptors))
    assert os.listdir(folder) == []
    assert locks.descriptors == ()
    assert os.listdir(work) == []


def test_a_relative_path_and_one_that_is_named_twice_are_locked_once(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    with PathLocks(["out", str(work / "out"), "out/inner"]):
        assert not is_free(work / "out")
        assert not is_free(work / "out" / "inner" / "file")
    with PathLocks([]), PathLocks([]):
        pass


def test_a_name_that_is_not_utf8_can_be_locked(work: Path) -> None:
    with PathLocks([os.fsdecode(os.fsencode(work) + b"/\xff")]):
        assert is_free(work / "other")


def test_a_path_on_another_device_is_another_path(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same path in another root (a container that shares the folder of the locks) is no reason to wait."""
    path = str(work / "out")
    before = {wanted.name for wanted in pathlock._plan([path])}
    stat = os.stat

    def elsewhere(path: str) -> object:
        values = list(stat(path))
        values[2] += 1  # st_dev
        return os.stat_result(values)

    monkeypatch.setattr(os, "stat", elsewhere)
    assert not before & {wanted.name for wanted in pathlock._plan([path])}


def test_locks_are_taken_from_the_top_down_and_released_from_the_bottom_up(tmp_path: Path, run: Spawn) -> None:
    def take() -> list[bool]:
        opened: list[str] = []
        removed: list[str] = []

        def hook(event: str, arguments: Any) -> None:
            if event == "open" and "ctxpack-" in str(arguments[0]):
                opened.append(os.path.basename(arguments[0]))
            if event == "os.remove":
                removed.append(os.path.basename(arguments[0]))

        plan = [wanted.name for wanted in pathlock._plan(["/z/y", "/a"])]
        sys.addaudithook(hook)
        with PathLocks(["/z/y", "/a"]):
            pass
        return [opened == plan, removed == plan[::-1], len(plan) == 4]

    assert run(take) == (0, "[True, True, True]")


def test_on_wait_is_called_once_with_the_path_that_is_waited_for(
    work: Path, tmp_path: Path, spawn: Spawn, eventually: Eventually, held_by_another: Callable[..., Any]
) -> None:
    first, second = held_by_another(work / "a" / "b"), held_by_another(work / "c")
    log = tmp_path / "log"

    def note(path: str) -> None:
        with open(log, "a") as file:
            file.write(f"{path}\n")

    def wait() -> None:
        with PathLocks([str(work / "c"), str(work / "a" / "b" / "inner")], note):
            pass

    waiter = spawn(wait)
    eventually(log.exists)
    first.kill()
    second.kill()
    assert waiter.outcome().status == 0
    assert log.read_text() == f"{work}/a/b\n"


def test_a_lock_held_only_for_a_moment_is_no_wait(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release holds the lock of a folder exclusively, to remove its file."""
    release = PathLocks([str(work)])
    release.__enter__()
    pauses = 0

    def pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 2:
            release.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", pause)
    with PathLocks([str(work / "out")], never):
        assert pauses == 2


def test_ctrl_c_ends_the_wait_and_frees_what_was_taken(
    work: Path, tmp_path: Path, spawn: Spawn, eventually: Eventually, held_by_another: Callable[..., Any]
) -> None:
    waiting = tmp_path / "waiting"
    held_by_another(work / "b")

    def wait() -> bool:
        locks = PathLocks([str(work / "a"), str(work / "b")], lambda path: waiting.touch())
        try:
            with locks:
                raise AssertionError("the lock was free")
        except KeyboardInterrupt:
            return locks.descriptors == () and is_free(work / "a")

    waiter = spawn(wait)
    eventually(waiting.exists)
    assert not is_free(work / "a")
    assert waiter.kill(signal.SIGINT) == (0, "True")


def test_an_error_of_on_wait_frees_what_was_taken(work: Path, held_by_another: Callable[..., Any]) -> None:
    held_by_another(work / "b")
    with pytest.raises(AssertionError, match="it waited for"), PathLocks([str(work / "a"), str(work / "b")], never):
        pass
    assert is_free(work / "a")


_SUPERVISOR = "import sys; print('up', flush=True); sys.stdin.read()"


def supervisor(descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start a process that inherits the locks, and lives until its input ends."""
    command = [sys.executable, "-S", "-c", _SUPERVISOR]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    return child


def end(child: subprocess.Popen[bytes]) -> None:
    child.communicate()
    assert child.returncode == 0


def test_a_child_that_inherits_the_locks_keeps_them_when_the_process_that_took_them_is_killed(
    work: Path, folder: Path, spawn: Spawn, eventually: Eventually, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    reading, writing = os.pipe()

    def take() -> None:
        with PathLocks([str(work / "a" / "b")]) as locks:
            command = [sys.executable, "-S", "-c", _SUPERVISOR]
            subprocess.Popen(command, stdin=reading, stdout=subprocess.DEVNULL, pass_fds=locks.descriptors)
            os.close(writing)
            up.touch()
            time.sleep(60)

    holder = spawn(take)
    os.close(reading)
    eventually(up.exists)
    assert holder.kill().status == -signal.SIGKILL
    assert not is_free(work / "a" / "b")
    assert not is_free(work / "a" / "b" / "inner")
    assert not is_free(work / "a"), "the folders above are shared still"
    assert is_free(work / "a" / "c")
    os.close(writing)
    eventually(lambda: is_free(work / "a" / "b"))
    assert is_free(work / "a")
    assert os.listdir(folder) == []


def test_a_normal_release_frees_the_locks_although_a_child_has_them_open(work: Path, folder: Path) -> None:
    with PathLocks([str(work / "out")]) as locks:
        child = supervisor(locks.descriptors)
    assert is_free(work / "out")
    assert is_free(work)
    assert os.listdir(folder) == []
    end(child)


def test_a_child_without_the_descriptors_keeps_nothing(work: Path, spawn: Spawn) -> None:
    with PathLocks([str(work / "out")]):
        forked = spawn(lambda: time.sleep(60))
        executed = supervisor([])
    assert is_free(work / "out")
    forked.kill()
    end(executed)


def test_a_forked_child_cannot_release_the_locks_of_its_parent(work: Path, run: Spawn) -> None:
    with PathLocks([str(work / "out")]) as locks:
        assert run(lambda: locks.__exit__(None, None, None)).status == 0
        assert not is_free(work / "out")
        assert not is_free(work)


def test_a_lock_file_names_holder_and_path(work: Path, folder: Path, spawn: Spawn) -> None:
    path = work / "out"
    name = pathlock._plan([str(path)])[-1].name
    folder.mkdir(mode=0o700)
    (folder / name).write_text("123456789\nleft by a process that was killed, with a longer path\n")
    with PathLocks([str(path)]):
        assert (folder / name).read_text() == f"{os.getpid()}\n{path}\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_no_reason_not_to_lock(work: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    with PathLocks([str(work / "out")]):
        assert not is_free(work / "out")


def test_the_folder_in_run_is_taken_if_it_is_the_users(tmp_path: Path, work: Path, folder: Path) -> None:
    runtime = tmp_path / "runtime" / str(os.geteuid())
    runtime.mkdir(parents=True)
    with PathLocks([str(work / "out")]):
        assert os.listdir(runtime) == ["ctxpack"]
        assert (runtime / "ctxpack").stat().st_mode & 0o7777 == 0o700
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["missing", "a file", "a link", "another's"])
def test_else_the_folder_is_below_the_temporary_one(
    tmp_path: Path, work: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    runtime = tmp_path / "runtime" / str(os.geteuid())
    runtime.parent.mkdir()
    if kind == "a file":
        runtime.touch()
    elif kind == "a link":
        runtime.symlink_to(work)
    elif kind == "another's":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        runtime.mkdir()
        os.chown(runtime, NOBODY, NOBODY)
    with PathLocks([str(work / "out")]):
        assert len(os.listdir(folder)) > 2
        assert folder.stat().st_mode & 0o7777 == 0o700


def test_no_environment_variable_has_a_say(
    tmp_path: Path, work: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "HOME", "CTXPACK_CACHE", "UID", "USER"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    with PathLocks([str(work / "out")]):
        assert len(os.listdir(folder)) > 2
    assert not (tmp_path / "elsewhere").exists()


def test_the_folders_are_those_of_the_system() -> None:
    command = [sys.executable, "-c", "from ctxpack_cache import pathlock as p; print(p.RUNTIME, p.TEMPORARY)"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == ["/run/user", os.path.join(os.sep, "tmp")]


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path, work: Path, folder: Path) -> None:
    folder.symlink_to(work)
    with pytest.raises(LocalFailure) as caught, PathLocks([str(work / "out")]):
        pass
    assert str(caught.value) == (
        f"{folder}: not a folder of your own, for the locks of outputs: expected a folder, got file type 'l'; remove it"
    )
    assert os.listdir(work) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(work: Path, folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(LocalFailure) as caught, PathLocks([str(work / "out")]):
        pass
    assert str(caught.value) == (
        f"{folder}: not a folder of your own, for the locks of outputs: "
        f"expected mode 0700, got {mode:04o}; run `chmod 700` on it"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(work: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(LocalFailure) as caught, PathLocks([str(work / "out")]):
        pass
    assert str(caught.value) == (
        f"{folder}: not a folder of your own, for the locks of outputs: expected owner {os.geteuid()}, "
        f"got owner {NOBODY}; ask its owner, or the administrator of this machine, to remove it"
    )


def test_a_folder_that_cannot_be_made_is_a_local_failure(tmp_path: Path, work: Path, folder: Path) -> None:
    (tmp_path / "temporary").rmdir()
    (tmp_path / "temporary").touch()
    with pytest.raises(LocalFailure) as caught, PathLocks([str(work / "out")]):
        pass
    assert str(caught.value).startswith(f"{folder}: cannot make the folder for the locks of outputs: Not a directory; ")
    assert str(caught.value).endswith("or ask the administrator of this machine")


def test_a_file_system_without_locks_is_a_local_failure(work: Path, folder: Path, run: Spawn) -> None:
    def refuse(event: str, _: object) -> None:
        if event == "fcntl.flock":
            raise OSError(errno.ENOLCK, "no flock here")

    def take() -> None:
        sys.addaudithook(refuse)
        with PathLocks([str(work / "out")]):
            pass

    output = run(take).output
    assert f"LocalFailure: {folder}/" in output
    assert ": this filesystem has no file locks: got no flock here; ask the administrator of this machine" in output


_FAMILY = ["a", "a/b", "a/b/c", "a/d", "e", "e/f"]


def are_nested(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def use(work: Path, users: Path, paths: list[str], unique: str) -> None:
    """Lock paths, and check that nobody else uses one of them or one that is nested with them."""
    with PathLocks([str(work / path) for path in paths]):
        mine = [users / f"{path.replace('/', '-')},{unique}" for path in paths]
        for marker in mine:
            marker.touch()
        for other in os.listdir(users):
            path, _, user = other.partition(",")
            if user != unique:
                assert not any(are_nested(path.replace("-", "/"), own) for own in paths), (other, paths, unique)
        for marker in mine:
            marker.unlink()


def use_in_threads(work: Path, users: Path, seed: int) -> str:
    failures: list[BaseException] = []

    def thread(number: int) -> None:
        choice = random.Random(f"{seed} {number}")
        try:
            for _ in range(40):
                paths = choice.sample(_FAMILY, choice.choice([1, 1, 2, 3]))
                use(work, users, paths, f"{seed}.{number}")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return repr(failures)


def test_many_threads_of_many_processes_never_share_and_never_wait_for_each_other_for_ever(
    tmp_path: Path, work: Path, folder: Path, spawn: Spawn
) -> None:
    users = tmp_path / "users"
    users.mkdir()
    children = [spawn(partial(use_in_threads, work, users, seed)) for seed in range(4)]
    assert [child.outcome() for child in children] == [(0, "[]")] * 4
    assert os.listdir(folder) == []


def test_after_processes_were_killed_at_any_time_the_others_still_exclude_each_other(
    tmp_path: Path, work: Path, folder: Path, spawn: Spawn
) -> None:
    users = tmp_path / "users"
    users.mkdir()
    steady = [spawn(partial(use_in_threads, work, users, seed)) for seed in range(2)]

    def take_for_ever(seed: int) -> None:
        choice = random.Random(seed)
        while True:
            with PathLocks([str(work / path) for path in choice.sample(_FAMILY, 2)]):
                pass

    for seed in range(15):
        child = spawn(partial(take_for_ever, seed))
        time.sleep(0.001 * seed)
        child.kill()
    assert [child.outcome() for child in steady] == [(0, "[]")] * 2
    with PathLocks([str(work / path) for path in _FAMILY]):  # meets the files that were left, and removes them
        pass
    assert os.listdir(folder) == []


def test_at_every_step_a_kill_leaves_nothing_locked(
    tmp_path: Path, work: Path, folder: Path, run: Spawn, at_step: AtStep
) -> None:
    for number in range(1, 1000):

        def take(number: int = number) -> str:
            steps = at_step(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            with PathLocks([str(work / "a"), str(work / "b")]):
                pass
            return "no such step" if steps() < number else "no effect"

        outcome = run(take)
        if outcome.status == 0:
            assert outcome.output == "no such step"
            assert number > 20
            break
        assert is_free(work / "a", work / "b")
        assert os.listdir(folder) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_at_every_step_a_refused_call_is_a_local_failure_and_frees_all(
    tmp_path: Path, work: Path, folder: Path, run: Spawn, at_step: AtStep, number: int
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    for step in range(1, 1000):

        def take(step: int = step) -> str:
            steps = at_step(step, fail)
            try:
                with PathLocks([str(work / "a"), str(work / "b")]):
                    pass
            except LocalFailure:
                return f"refused {is_free(work / 'a', work / 'b')}"
            return f"taken {is_free(work / 'a', work / 'b')}" if steps() >= step else "no such step"

        outcome = run(take)
        assert outcome in [(0, "refused True"), (0, "taken True"), (0, "no such step")]
        if outcome.output == "no such step":
            assert step > 20
            break
