"""A signer's key, as a user makes it; and its secrets, which no process that CtxPack starts gets or can read."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import NOWHERE, seed_pack
from jsonschema import Draft202012Validator
from machine import PROGRAM, Machine
from mapproject import MapProject
from plain_target import Repository
from project import Project
from typist import PATIENCE, Typist

from ctxpack_pantry import schema
from ctxpack_trust import parse_private_key, parse_public_key
from registry2 import RegistryServer

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "correct horse 7Qz"
TEXT = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nOnlyInTheVariable8Xw\n-----END ENCRYPTED PRIVATE KEY-----\n"
SECRETS = {
    "CTXPACK_KEY": TEXT,
    "CTXPACK_KEY_PASSWORD": PASSWORD,
    "CTXPACK_USERNAME": "ann9Rk",
    "CTXPACK_PASSWORD": "registry-pass-5Tp",
}
MARKS = ("OnlyInTheVariable8Xw", PASSWORD, "ann9Rk", "registry-pass-5Tp")

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without a key."""
    return Machine(tmp_path / "machine")


def with_password(machine: Machine) -> Machine:
    """Return the machine with the password of the key in its environment."""
    machine.environment["CTXPACK_KEY_PASSWORD"] = PASSWORD
    return machine


def require_no_mark(*texts: str | bytes) -> None:
    """Raise AssertionError if a secret is in one of these texts."""
    for text in texts:
        data = text if isinstance(text, bytes) else os.fsencode(text)
        assert not [mark for mark in MARKS if mark.encode() in data]


# ---- keygen


@pytest.mark.parametrize("option", ["", "--ed25519"])
def test_a_key_is_made_with_the_password_of_the_environment(machine: Machine, option: str) -> None:
    done = with_password(machine).run("keygen", "ci", *filter(None, [option]))
    assert done.status == 0, done.stderr
    private, public = machine.work / "ci.key", machine.work / "ci.pub"
    key = parse_private_key(private.read_bytes(), PASSWORD.encode(), where="ci.key")
    assert key.public == parse_public_key(public.read_bytes(), where="ci.pub")
    assert key.public.algorithm == ("ed25519" if option else "ecdsa-p256")
    assert done.stdout == f"Private key: ci.key\nPublic key:  ci.pub\nKey id:      {key.public.key_id}\n"
    assert "ctxpack trust add ci.pub --owner NAME" in done.stderr
    assert private.stat().st_mode & 0o777 == 0o600
    require_no_mark(done.stdout, done.stderr)


def test_its_document_has_a_schema(machine: Machine) -> None:
    document = json.loads(with_password(machine).succeed("keygen", "keys/ci.key", "--json"))
    Draft202012Validator(schema("keygen")).validate(document)
    assert (document["private"], document["public"]) == ("keys/ci.key", "keys/ci.pub")
    assert (
        machine.succeed("keygen", "other", "-q")
        == parse_public_key((machine.work / "other.pub").read_bytes(), where="other.pub").key_id
    )


@pytest.mark.parametrize(
    ("name", "left"), [("ci", "both"), ("ci.key", "both"), ("ci.pub", "ci.key"), ("ci", "ci.key"), ("ci", "ci.pub")]
)
def test_no_key_is_overwritten(machine: Machine, name: str, left: str) -> None:
    with_password(machine).succeed("keygen", "ci")
    if left != "both":
        (machine.work / ({"ci.key", "ci.pub"} - {left}).pop()).unlink()
    before = {path.name: path.read_bytes() for path in machine.work.iterdir()}
    done = machine.run("keygen", name)
    assert (done.status, done.stdout) == (2, "")
    assert "is there already" in done.stderr
    assert {path.name: path.read_bytes() for path in machine.work.iterdir()} == before


@openssl
def test_openssl_makes_the_public_key_that_was_lost_as_the_error_says(machine: Machine) -> None:
    with_password(machine).succeed("keygen", "my key")
    public = machine.work / "my key.pub"
    before = public.read_bytes()
    public.unlink()
    said = machine.run("keygen", "my key").stderr
    [command] = re.findall("`(openssl pkey .*)` makes its public key anew", said)
    password = ["-passin", "env:CTXPACK_KEY_PASSWORD"]
    subprocess.run(
        [*shlex.split(command), *password], cwd=machine.work, env=machine.environment, check=True, capture_output=True
    )
    assert public.read_bytes() == before


@pytest.mark.parametrize(("at", "left"), [(0, ["ci.pub"]), (1, ["ci.key", "ci.pub"])])
def test_a_kill_leaves_no_private_key_without_its_public_key(machine: Machine, at: int, left: list[str]) -> None:
    script = (
        "import itertools, os; from ctxpack_pantry.signer import keygen; calls = itertools.count();"
        f"os.fsync = lambda file: os._exit(9) if next(calls) == {at} else None;"
        "keygen('ci', b'password')"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=machine.work, check=False).returncode == 9
    assert sorted(path.name for path in machine.work.iterdir()) == left
    said = with_password(machine).run("keygen", "ci").stderr
    assert "is there already" in said
    if left == ["ci.pub"]:
        assert "ci.pub: is there already, without ci.key" in said
        (machine.work / "ci.pub").unlink()
        machine.succeed("keygen", "ci")


@openssl
def test_a_key_in_an_old_encryption_is_named_and_openssl_converts_it(machine: Machine) -> None:
    with_password(machine)
    for command in (
        "openssl ecparam -name prime256v1 -genkey -noout -out plain.pem",
        "openssl ec -in plain.pem -aes256 -out old.pem -passout env:CTXPACK_KEY_PASSWORD",
    ):
        subprocess.run(command.split(), cwd=machine.work, env=machine.environment, check=True, capture_output=True)
    (machine.work / "old.pem").chmod(0o600)
    uri = seed_pack(machine)
    machine.succeed("push", uri)
    refused = machine.run("sign", uri, "--vouch", "--key", "old.pem")
    assert refused.status == 2
    [command] = re.findall("`(openssl pkcs8 -topk8 .*)`", refused.stderr)
    passwords = ["-passin", "env:CTXPACK_KEY_PASSWORD", "-passout", "env:CTXPACK_KEY_PASSWORD"]
    convert = [*shlex.split(command.replace("OLD", "old.pem").replace("NEW", "new.key")), *passwords]
    subprocess.run(convert, cwd=machine.work, env=machine.environment, check=True, capture_output=True)
    machine.succeed("sign", uri, "--vouch", "--key", "new.key")


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
def test_without_a_terminal_and_a_password_it_ends_at_once_and_reads_no_stdin(machine: Machine, stdin: int) -> None:
    process = subprocess.Popen(
        [PROGRAM, "keygen", "ci", "--json"],
        cwd=machine.work,
        env=machine.environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.wait(PATIENCE) == 2  # the pipe is open, and nothing came through it
    stdout, stderr = process.communicate()
    document = json.loads(stderr)
    assert (stdout, document["code"], document["exit"]) == (b"", "E_PASSWORD", 2)
    assert "CTXPACK_KEY_PASSWORD" in document["fix"]
    assert list(machine.work.iterdir()) == []


def test_an_empty_password_is_none(machine: Machine) -> None:
    machine.environment["CTXPACK_KEY_PASSWORD"] = ""
    assert machine.run("keygen", "ci").status == 2


# ---- a password on the terminal


@pytest.fixture
def typist(machine: Machine) -> Iterator[Typist]:
    """``ctxpack keygen ci``, which asks."""
    typist = Typist(machine, "keygen", "ci")
    try:
        yield typist
    finally:
        typist.close()


def test_a_password_is_typed_twice_and_never_shown(machine: Machine, typist: Typist) -> None:
    typist.expect(b"New password of ci.key: ")
    assert not typist.echoes
    typist.type(PASSWORD + "\n")
    typist.expect(b"The same again: ")
    typist.type(PASSWORD + "\n")
    status, stdout, stderr = typist.finish()
    assert status == 0, stderr
    assert typist.echoes
    require_no_mark(typist.shown, stdout, stderr)
    parse_private_key((machine.work / "ci.key").read_bytes(), PASSWORD.encode(), where="ci.key")


def test_what_differs_is_refused(machine: Machine, typist: Typist) -> None:
    typist.expect(b": ")
    typist.type(PASSWORD + "\n")
    typist.expect(b": ")
    typist.type(PASSWORD + "x\n")
    status, stdout, stderr = typist.finish()
    assert (status, stdout) == (2, b"")
    assert b"the two passwords differ" in stderr
    require_no_mark(typist.shown, stderr)
    assert list(machine.work.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [(b"\n", 2, b"the password is empty"), (b"\x04", 2, b"no password was typed"), (b"\x03", 130, b"interrupted")],
    ids=["empty", "ctrl-d", "ctrl-c"],
)
def test_who_types_none_makes_no_key(machine: Machine, typist: Typist, typed: bytes, status: int, said: bytes) -> None:
    typist.expect(b": ")
    typist.type(typed)
    ended, stdout, stderr = typist.finish()
    assert (ended, stdout) == (status, b"")
    assert said in stderr
    assert typist.echoes
    assert list(machine.work.iterdir()) == []


def test_what_is_there_is_said_before_anybody_types(machine: Machine) -> None:
    (machine.work / "ci.pub").touch()
    typist = Typist(machine, "keygen", "ci")
    try:
        status, _, stderr = typist.finish()
    finally:
        typist.close()
    assert (status, typist.shown) == (2, b"")
    assert b"is there already" in stderr


def test_in_the_background_nobody_is_asked_and_nothing_waits(machine: Machine) -> None:
    typist = Typist(machine, "keygen", "ci", background=True)
    try:
        status, _, stderr = typist.finish()
    finally:
        typist.close()
    assert (status, typist.shown) == (2, b"")
    assert b"in the background" in stderr


# ---- no process gets a secret

# As a user who is not root: without any capability, the user of these tests included.
POWERLESS = """
import ctypes, os, sys
for capability in range(64):
    ctypes.CDLL(None).prctl(24, ctypes.c_ulong(capability), 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

PREFIX = [sys.executable, "-c", POWERLESS] if sys.platform == "linux" else []

DUMP = 'env > "$OUT/$$.env"; cat /proc/$PPID/environ > "$OUT/$$.parent" 2>/dev/null || true\n'


@pytest.fixture
def dumps(machine: Machine, tmp_path: Path) -> Path:
    """The folder where commands write what they see. The machine has all the secrets in its environment."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    machine.environment |= SECRETS | {"OUT": str(folder), "OTHER_TOKEN": "stays"}
    return folder


def require_clean(dumps: Path, *, least: int = 1) -> None:
    """Raise AssertionError unless at least so many processes wrote what they saw, and that had no secret."""
    seen = [path.read_bytes() for path in dumps.glob("*.env")]
    assert len(seen) >= least
    for data in seen:
        assert b"OTHER_TOKEN=stays" in data  # secrets of others are theirs
        assert b"CTXPACK_CACHE=" in data
    require_no_mark(*(path.read_bytes() for path in dumps.iterdir()))
    assert not [name for name in SECRETS if any(f"{name}=".encode() in path.read_bytes() for path in dumps.iterdir())]


def files_below(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield os.fsencode(path.name) + path.read_bytes()


def test_a_command_and_its_supervisor_get_none(machine: Machine, dumps: Path) -> None:
    project = Project(machine)
    project.write({"src/make.sh": DUMP + "cat /proc/*/cmdline > $OUT/argv 2>/dev/null; mkdir out; echo x > out/r\n"})
    done = project.call("run", "--json")
    assert done.status == 0, done.stderr
    require_clean(dumps)
    require_no_mark(done.stdout, done.stderr, *files_below(machine.work), *files_below(machine.cache))
    require_no_mark(*files_below(machine.home))


@pytest.mark.parametrize("words", [["{item}", "{out}"], ["{batch}"]])
def test_items_of_a_map_and_their_runners_get_none(machine: Machine, dumps: Path, words: list[str]) -> None:
    make = 'if [ $# = 2 ]; then cp "$1" "$2"; else while read -r i; do :; done; exit 3; fi\n'
    project = MapProject(machine, {"a.txt": "a", "b.txt": "b"}, item=DUMP + make, command=["sh", "src/item.sh", *words])
    done = project.call("map", "--json")
    assert done.status == (0 if len(words) == 2 else 3) or words == ["{batch}"], done.stderr
    require_clean(dumps)
    require_no_mark(done.stdout, done.stderr, *files_below(machine.home), *files_below(machine.cache))


def test_a_credential_helper_gets_none(machine: Machine, dumps: Path, auth_registry: RegistryServer) -> None:
    for name in ("CTXPACK_USERNAME", "CTXPACK_PASSWORD"):  # else no helper is asked
        del machine.environment[name]
    program(machine, "docker-credential-desktop", f"{DUMP}exit 7\n")
    config = machine.home / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"credHelpers": {auth_registry.address: "desktop"}}))
    done = machine.run("pull", NOWHERE, registry=Repository(auth_registry).location, prefix=PREFIX)
    assert done.status == 4, done.stderr
    require_clean(dumps)
    require_no_mark(done.stdout, done.stderr)


def test_git_gets_none(machine: Machine, dumps: Path) -> None:
    project = Project(machine)
    program(machine, "git", f"{DUMP}exit 1\n")
    assert machine.run("run", prefix=PREFIX).status == 0  # asks for the commit
    (project.folder / "out/r").write_text("changed")
    assert machine.run("run", prefix=PREFIX).status == 2  # asks whether git has it
    assert machine.run("init", "other.json", prefix=PREFIX).status == 0  # asks what is tracked
    require_clean(dumps, least=3)


def program(machine: Machine, name: str, script: str) -> None:
    """Put a shell script at the front of the PATH."""
    path = machine.home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    machine.environment["PATH"] = f"{path.parent}:{machine.environment['PATH']}"


def test_errors_show_none(machine: Machine, dumps: Path) -> None:
    project = Project(machine)
    for arguments in (
        ["run", "--json", "--", "false"],
        ["pull", "--json", NOWHERE],
        ["push", NOWHERE],
        ["keygen", "a\nb"],
        ["id", "missing.json"],
    ):
        done = project.call(*arguments)
        assert done.status != 0
        require_no_mark(done.stdout, done.stderr)


def test_a_command_may_run_ctxpack_which_has_no_half_of_a_login(
    machine: Machine, dumps: Path, auth_registry: RegistryServer
) -> None:
    project = Project(machine)
    machine.environment["CTXPACK_REGISTRY"] = Repository(auth_registry).location
    project.write({"src/make.sh": f"mkdir out; ctxpack pull {NOWHERE} > out/r 2> said; echo $? > status\n"})
    assert project.call("run", "--offline").status == 0
    assert (project.folder / "status").read_text() == "4\n"  # not 2, for a user name without a password
    assert "answered 401" in (project.folder / "said").read_text()


# ---- and none can read them

SPY = (
    "set -- $(cut -d' ' -f4 /proc/$PPID/stat); mkdir out\n"  # the parent of the supervisor is ctxpack
    "for part in environ mem maps; do (: < /proc/$1/$part) 2>/dev/null && echo $part; done > out/r\n"
    "cp out/r $OUT/seen\n"
    "tr '\\0' '\\n' < /proc/$1/cmdline > $OUT/argv; true\n"
)


@linux
@pytest.mark.parametrize("name", [*SECRETS, ""])
def test_a_command_of_the_same_user_cannot_read_them_from_ctxpack(machine: Machine, dumps: Path, name: str) -> None:
    for other in set(SECRETS) - {name} - ({"CTXPACK_PASSWORD"} if name == "CTXPACK_USERNAME" else set()):
        del machine.environment[other]
    if name == "CTXPACK_PASSWORD":
        machine.environment["CTXPACK_USERNAME"] = "ann9Rk"
    project = Project(machine)
    project.write({"src/make.sh": SPY})
    done = machine.run("run", prefix=PREFIX)
    assert done.status == 0, done.stderr
    assert "run" in (dumps / "argv").read_text()  # it was ctxpack that the command looked at
    # Without a secret all can be read: so the test sees something.
    assert (dumps / "seen").read_text().split() == ([] if name else ["environ", "mem", "maps"])


# ---- all places

STARTS = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
REPLACES = ("exec", "spawn", "posix_spawn", "fork", "forkpty", "system", "popen")

# What starts a process with an environment that it was handed, or forks, or goes on as itself.
KNOWN = {
    ("ctxpack_cli/main.py", "execv"),  # ctxpack itself, in the UTF-8 mode
    ("ctxpack_identity/hashing/children.py", "fork"),
    ("ctxpack_pantry/items/runner.py", "posix_spawn"),
    ("ctxpack_pantry/supervisor.py", "execvpe"),
    ("ctxpack_pantry/supervisor.py", "fork"),
}


def test_every_place_that_starts_a_process_gives_it_an_environment_without_secrets() -> None:
    known, places = set[tuple[str, str]](), 0
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                module = node.module if isinstance(node, ast.ImportFrom) else ""
                assert not {module, *names} & {"multiprocessing", "pty"}, path
                # So that every call names its module.
                assert module not in ("os", "subprocess") or names == {"SubprocessError"}, path
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            module = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if module == "subprocess" and node.func.attr in STARTS:
                places += 1
                assert "env" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"
                assert "child_environment(" in text, path
            elif module == "os" and node.func.attr.startswith(REPLACES):
                known.add((str(path).partition("/src/")[2], node.func.attr))
    assert known == KNOWN
    assert places >= 6


# ---- settings


@pytest.mark.parametrize("text", ['key = "ci.key"', 'sign = ["ghcr.io/team"]'])
def test_a_folder_that_is_cloned_can_name_no_key(machine: Machine, text: str) -> None:
    Project(machine)
    (machine.work / "ctxpack.toml").write_text(text)
    done = machine.run("id")
    assert (done.status, done.stdout) == (2, "")
    assert "a folder's settings may not " in done.stderr
    (machine.work / "ctxpack.toml").unlink()
    users = machine.home / ".config" / "ctxpack" / "config.toml"
    users.parent.mkdir()
    users.write_text(text)
    assert machine.run("id").status == 0
