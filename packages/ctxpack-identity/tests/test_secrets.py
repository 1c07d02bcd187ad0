"""No process that we start gets CtxPack's secrets, and none of this user can read them from ours."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity.hashing.children import Child, start_children
from ctxpack_identity.hashing.filehash import Batch
from ctxpack_identity.secrets import child_environment, keep_from_children, without_secrets

NOBODY = 65534
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4

linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")

SECRET = (
    "CTXPACK_KEY",
    "CTXPACK_KEY_PASSWORD",
    "CTXPACK_KEYS",
    "CTXPACK_KEY_FILE",
    "CTXPACK_KEY_passphrase",
    "CTXPACK_SIGNING_KEY",
    "CTXPACK_PASSWORD",
    "CTXPACK_PASSWORD_FILE",
    "CTXPACK_REGISTRY_PASSWORD",
    "CTXPACK_TOKEN",
    "CTXPACK_CLIENT_SECRET",
    "CTXPACK_USERNAME",  # alone it is an error
)
KEPT = (
    "CTXPACK_REGISTRY",
    "CTXPACK_CACHE",
    "CTXPACK_SETTLE",
    "CTXPACK_DEBUG",
    "CTXPACK_CONTRACT",
    "CTXPACK_URI",
    "CTXPACK_DONE",
    "CTXPACK_TRUST",
    "PATH",
    "HF_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "MY_CTXPACK_KEY",
)


@pytest.fixture
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that holds none, whoever runs the tests."""
    for name in set(os.environ) - set(without_secrets(os.environ)):
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_of_ctxpack_is_left_out(name: str) -> None:
    assert without_secrets({name: "s3cret", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_no_secret_of_ctxpack_stays(name: str) -> None:
    assert without_secrets({name: "x"}) == {name: "x"}


@given(st.dictionaries(st.sampled_from(SECRET + KEPT), st.text(max_size=5)))
def test_the_rest_is_unchanged_in_order(environ: dict[str, str]) -> None:
    left = without_secrets(environ)
    assert list(left.items()) == [(name, value) for name, value in environ.items() if name in KEPT]
    assert without_secrets(left) == left


def in_child(work: Callable[[], object]) -> str:
    """Return what work returned, as text, in a forked process that can be dumped at first."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            prctl(PR_SET_DUMPABLE, 1)
            os.write(writer, str(work()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def prctl(option: int, value: int = 0) -> int:
    none = ctypes.c_ulong(0)
    answer: int = ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), none, none, none)
    return answer


def is_dumpable() -> bool:
    return prctl(PR_GET_DUMPABLE) == 1


@linux
def test_a_process_with_a_secret_is_closed_before_it_has_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_PASSWORD", "s3cret")
    assert in_child(is_dumpable) == "True"
    assert in_child(lambda: ("CTXPACK_PASSWORD" in child_environment(), is_dumpable())) == "(False, False)"


@linux
@pytest.mark.usefixtures("no_secrets")
def test_a_process_without_secrets_stays_open() -> None:
    assert in_child(lambda: (child_environment() == dict(os.environ), is_dumpable())) == "(True, True)"


@linux
@pytest.mark.usefixtures("no_secrets")
def test_a_secret_that_was_handed_over_closes_it_too() -> None:
    given = {"CTXPACK_KEY": "k", "PATH": "/bin"}
    assert in_child(lambda: (child_environment(given), is_dumpable())) == "({'PATH': '/bin'}, False)"


@linux
def test_hashing_processes_are_closed_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_KEY", "s3cret")

    def work() -> bool:
        children: list[Child] = []
        start_children(children, 1, lambda task: Batch(*task).digests())
        return is_dumpable()

    assert in_child(work) == "False"


@linux
def test_what_a_closed_process_forks_is_closed() -> None:
    def work() -> bool:
        keep_from_children()
        return in_fork(is_dumpable)

    assert in_child(work) == "False"


def in_fork(work: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("part", ["environ", "mem", "maps", "fd", "cwd"])
def test_another_process_of_the_same_user_cannot_read_it(part: str, closed: bool) -> None:
    assert in_child(lambda: look(part, closed)) == str(not closed)


def look(part: str, closed: bool) -> bool:
    """Return whether a program that is executed by the user nobody can read a part of its parent in /proc."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    prctl(PR_SET_DUMPABLE, 1)  # a change of user closes it too
    if closed:
        keep_from_children()
    path = f"/proc/{os.getpid()}/{part}"
    script = {"fd": "ls $0", "cwd": "readlink $0", "mem": ": < $0"}.get(part, "cat $0")
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(null, fd)
        os.execv("/bin/sh", ["/bin/sh", "-c", script, path])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_closed_process_of_a_user_can_still_hash() -> None:
    def work() -> object:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        keep_from_children()
        children: list[Child] = []
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "file").write_bytes(b"abc")
            stat = os.stat(f"{folder}/file")
            start_children(children, 1, lambda task: Batch(*task).digests())
            digests = children[0].submit((f"{folder}/", [("file", stat.st_size, stat.st_mtime_ns)])).result()
        with open("/proc/self/mountinfo") as mounts:
            known = bool(mounts.read())
        return digests, known, len(os.listdir("/proc/self/task"))

    assert in_child(work) == str(([hashlib.sha256(b"abc").hexdigest()], True, 1))


def test_without_ctypes_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    keep_from_children()


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "ctypes", None)
    keep_from_children()
