"""Bad input ends with its exit code and one line for each fault: where, what, and what to do; nothing on stdout."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from audit import audit_cache, leftovers
from examples import seed_pack, write_contract
from forks import ForkedMachine, Forks
from machine import Finished, Machine
from plain_target import KINDS, open_target

NOWHERE = "ctx://sha256:" + "0" * 64

# Root reads files of every mode, unless it has no capabilities.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

TRANSFORM: dict[str, Any] = {"tool": "t", "tool_version": "1", "code_hash": "opaque", "params": {}}
GOOD: dict[str, Any] = {"inputs": [], "transforms": [TRANSFORM]}


@pytest.fixture
def machine(tmp_path: Path, forks: Forks) -> Machine:
    return ForkedMachine(forks, tmp_path / "machine")


def must_fail(done: Finished, status: int, *messages: str, lines: int = 1) -> None:
    assert (done.status, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith("ctxpack: error: ")
    assert done.stderr.count("\n") == lines
    assert [text for text in messages if text not in done.stderr] == [], done.stderr


def contract(**members: Any) -> bytes:
    return json.dumps(GOOD | members).encode()


def parameter(literal: str) -> bytes:
    """Return a contract file with a parameter written as literal, which need not be JSON."""
    return contract(transforms=[TRANSFORM | {"params": {"x": "LITERAL"}}]).replace(b'"LITERAL"', literal.encode())


def one_input(**members: Any) -> bytes:
    return contract(inputs=[{"name": "docs"} | members])


CONTRACTS: dict[str, tuple[bytes, str, str]] = {
    # fault: the file; the place in the message; its text
    "empty": (b"", "line 1, column 1", "not JSON: Expecting value"),
    "not JSON": (b'{"inputs": [}', "line 1, column 13", "not JSON: Expecting value"),
    "not an object": (b"[1]", "(whole document)", "expected an object, got an array"),
    "not UTF-8": (b'{"inputs": "\xff"}', "contract.json", "not UTF-8: got byte 0xff at offset 12"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "contract.json", "save it as UTF-8 without BOM"),
    "nested too deep": (b"[" * 100_000, "contract.json", "nested too deep: expected at most 64 levels"),
    "a member twice": (b'{"inputs": [], "inputs": []}', "/inputs", "name appears twice in one object"),
    "a parameter twice": (parameter('{"a": 1, "a": 2}'), "/transforms/0/params/x/a", "name appears twice"),
    "an unknown member": (
        contract(input=[]),
        "/input: expected one of inputs, ",
        'got "input"; did you mean "inputs"?',
    ),
    "an unknown member of an input": (
        one_input(path="d", hash="x"),
        "/inputs/0/hash: expected one of name, ",
        'got "hash"; remove it',
    ),
    "NaN": (parameter("NaN"), "/transforms/0/params/x", "expected a finite number, got NaN"),
    "infinity": (parameter("-Infinity"), "/transforms/0/params/x", "expected a finite number, got -Infinity"),
    "too large an integer": (parameter("9007199254740993"), "/transforms/0/params/x", "write it as a text in quotes"),
    "a huge integer": (parameter("1" * 5000), "/transforms/0/params/x", "write it as a text in quotes"),
    "too large a number": (parameter("1e999"), "/transforms/0/params/x", "expected a number that an IEEE 754 double"),
    "minus zero": (parameter("-0"), "/transforms/0/params/x", "expected 0, got -0"),
    "half a surrogate pair": (parameter('"\\ud800"'), "/transforms/0/params/x", "expected Unicode text, got U+D800"),
    "null for a member": (contract(inputs=None), "/inputs", "expected a value, got null; leave the member out"),
    "an object for a list": (contract(inputs={}), "/inputs", "expected an array, got an object"),
    "a number for a name": (
        contract(inputs=[{"name": 1, "path": "d"}]),
        "/inputs/0/name",
        "expected a text, got 1; write it in quotes",
    ),
    "no source": (one_input(), "/inputs/0: expected exactly one of path, digest, uri, ", "got none of them; add one"),
    "two sources": (
        one_input(path="d", digest="sha256:" + "0" * 64),
        "/inputs/0: expected exactly one of path, digest, uri, ",
        "got path, digest; keep one of them",
    ),
    "a name that leaves its folder": (
        contract(inputs=[{"name": "../x", "path": "d"}]),
        "/inputs/0/name",
        'expected 1 to 128 letters, digits, . _ and -, the first a letter, digit or _, got "../x"; rename the input',
    ),
    "two inputs of one name": (
        contract(inputs=[{"name": "docs", "path": "d"}] * 2),
        "/inputs/1/name",
        'expected another name than at /inputs/0/name, got "docs"; give each a name of its own',
    ),
    "a short digest": (one_input(digest="sha256:12"), "/inputs/0/digest", "64 lower-case hexadecimal digits"),
    "a short URI": (one_input(uri="ctx://sha256:12"), "/inputs/0/uri", "64 lower-case hexadecimal digits"),
    "no transforms": (contract(transforms=[]), "/transforms", "expected at least one transform, got an empty array"),
    "transforms left out": (
        b'{"inputs": []}',
        "/transforms",
        'expected "transforms" in every contract, got nothing; add it',
    ),
    "no code": (
        contract(transforms=[{"tool": "t", "tool_version": "1"}]),
        "/transforms/0",
        'or "code_hash": a digest or "opaque", got neither; "opaque" is for code that cannot be hashed',
    ),
    "a member in the wrong place": (
        contract(transforms=[TRANSFORM | {"command": ["make"]}]),
        "/transforms/0/command: ",
        "it belongs into the contract itself, beside inputs",
    ),
    "a command as one text": (
        contract(command="make all"),
        "/command: expected an array of texts",
        '["python", "main.',
    ),
    "a command without a program": (contract(command=[]), "/command: ", "got an empty array; name the program"),
    "a root as text": (
        contract(transforms=[{"tool": "t", "tool_version": "1", "code": "src"}]),
        "/transforms/0/code: expected an object, or an array of objects",
        'write {"path": "src"}',
    ),
    "a root without a name": (
        contract(transforms=[{"tool": "t", "tool_version": "1", "code": [{"path": "."}]}]),
        "/transforms/0/code/0: expected a name of one segment",
        'add "name"',
    ),
    "an output without a name": (contract(outputs=[{"path": ".."}]), "/outputs/0: expected a name", 'add "name"'),
    "two outputs of one name": (
        contract(outputs=[{"path": "a/out"}, {"path": "b/out"}]),
        "/outputs/1: expected another name than at /outputs/0, ",
        'got "out"; give each a name of its own',
    ),
    "a variable that is secret": (contract(variables=["HF_TOKEN"]), "/variables/0: ", '"HF_TOKEN"'),
    "a variable of ours": (contract(variables={"CTXPACK_X": "1"}), "/variables/CTXPACK_X: ", '"CTXPACK_X"'),
    "no name of a variable": (contract(variables=["A B"]), "/variables/0: ", 'got "A B"; correct the name'),
    "a variable that is not set": (
        contract(variables=["NOT_SET"]),
        "/variables",
        "the environment variable NOT_SET is ",
    ),
    "a platform that only a person knows": (contract(platform={"gpu": "auto"}), "/platform/gpu: ", '"auto"'),
    "too long a name": (parameter('{"' + "x" * 4097 + '": 1}'), "contract.json", "4096"),
    "too many elements": (parameter("[" + "0," * (1 << 18) + "0]"), "contract.json", "262144"),
    "too large a file": (b" " * (8 << 20) + contract(), "contract.json", "expected at most 8388608 bytes"),
    "too large a contract": (parameter('"' + "x" * (4 << 20) + '"'), "contract.json", "expected at most 4194304 bytes"),
    "an unknown schema": (contract(schema="ctxpack/contract/v9"), "/schema", "a newer ctxpack may know it"),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_fault_in_a_contract_file_is_named_with_its_place(machine: Machine, name: str) -> None:
    data, where, message = CONTRACTS[name]
    (machine.work / "contract.json").write_bytes(data)
    must_fail(machine.run("id"), 2, "contract.json", where, message)
    assert audit_cache(machine.cache) == []


@pytest.mark.parametrize("command", [["id"], ["seed", "--contract"], ["run", "--contract"]], ids=lambda each: each[0])
def test_a_contract_file_that_cannot_be_read_is_named(machine: Machine, command: Sequence[str]) -> None:
    rest = ["--", "true"] if command[0] == "run" else []
    must_fail(machine.run(*command, "my.json", *rest), 2, "my.json: no such contract file", "`ctxpack init` writes one")
    must_fail(machine.run(*command, ".", *rest), 2, ".: a folder, not a contract file")
    (machine.work / "my.json").write_bytes(contract())
    (machine.work / "my.json").chmod(0)
    done = machine.run(*command, "my.json", *rest, prefix=UNPRIVILEGED)
    must_fail(done, 1, "my.json: cannot be read: Permission denied")


def test_all_faults_of_a_contract_file_are_reported_at_once(machine: Machine) -> None:
    (machine.work / "contract.json").write_bytes(contract(inputs=[{"name": "a b"}], salt=1, more=2))
    faults = ("\n  /more: ", "\n  /salt: ", "\n  /inputs/0/name: ", "\n  /inputs/0: ")
    must_fail(machine.run("id"), 2, "contract.json: 4 faults\n", *faults, lines=5)
    document = json.loads(machine.run("id", "--json").stderr)
    assert {fault["pointer"] for fault in document["faults"]} == {fault[3:-2] for fault in faults}


@pytest.mark.parametrize("kind", ["missing", "below a file", "fifo", "link", "dangling", "loop", "device", "not UTF-8"])
@pytest.mark.parametrize("inside", [False, True])
def test_an_input_that_cannot_be_hashed_is_named(machine: Machine, kind: str, inside: bool) -> None:
    folder = machine.work / "docs"
    folder.mkdir()
    (folder / "file").write_text("text")
    (folder / "sub").mkdir()
    path = folder / ("sub/it" if inside else "it")
    message = "symbolic link: expected regular files and folders"
    match kind:
        case "missing":
            message = "no such file or folder; check the path"
            inside = False
        case "below a file":
            path, message, inside = folder / "file" / "it", "no such file or folder; check the path", False
        case "fifo":
            os.mkfifo(path)
            message = "device, FIFO or socket: expected regular files and folders; remove or exclude it"
        case "device":
            path, message, inside = Path("/dev/null"), "device, FIFO or socket", False
        case "link":
            path.symlink_to(folder / "file")
        case "dangling":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(".")
        case "not UTF-8":
            Path(os.fsdecode(os.fsencode(path) + b"\xff")).touch()
            path, message, inside = folder, "file name is not UTF-8: expected UTF-8; rename it", False
    (machine.work / "contract.json").write_bytes(one_input(path=os.fspath(folder if inside else path)))
    must_fail(machine.run("id"), 2, os.fspath(path), message)


@pytest.mark.parametrize("name", ["docs/file", "docs/sub", "docs"])
def test_an_input_without_read_permission_is_named(machine: Machine, name: str) -> None:
    (machine.work / "docs" / "sub").mkdir(parents=True)
    (machine.work / "docs" / "file").write_text("text")
    (machine.work / "contract.json").write_bytes(one_input(path="docs"))
    machine.succeed("id")
    (machine.work / name).chmod(0)
    try:
        done = machine.run("id", prefix=UNPRIVILEGED)
    finally:
        (machine.work / name).chmod(0o700)
    must_fail(done, 1, f"{name}: cannot be read: Permission denied")


def test_inputs_that_change_during_hashing_give_a_uri_or_an_error(machine: Machine) -> None:
    folder = machine.work / "raw_pdfs"
    write_contract(machine.work)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for number in range(50):
                (folder / str(number)).write_bytes(b"x" * number)
            for number in range(50):
                (folder / str(number)).unlink()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for done in [machine.run("id") for _ in range(8)]:
            if done.status:
                must_fail(done, done.status, "raw_pdfs/")
            assert done.status in (0, 1, 2)
    finally:
        stop.set()
        changing.join()


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("rm -r raw_pdfs; mkdir processed_data", 2, "raw_pdfs: no such file or folder"),
        ("echo more > raw_pdfs/2.pdf; mkdir processed_data", 2, "input raw_docs: changed while the command ran"),
        ("true", 2, "processed_data: the command did not make this output, so nothing was seeded"),
        ("mkdir processed_data; mkfifo processed_data/it", 2, "processed_data/it: device, FIFO or socket"),
    ],
)
def test_a_run_with_changed_inputs_or_wrong_outputs_seeds_nothing(
    machine: Machine, script: str, status: int, message: str
) -> None:
    write_contract(machine.work)
    must_fail(machine.run("run", "--", "sh", "-c", script), status, message)
    assert audit_cache(machine.cache) == []
    assert leftovers(machine.cache) == []


@pytest.mark.parametrize(("script", "status"), [("exit 1", 1), ("exit 42", 42), ("kill -KILL $$", 137)])
def test_run_returns_the_status_of_a_failed_command_and_seeds_nothing(
    machine: Machine, script: str, status: int
) -> None:
    write_contract(machine.work)
    done = machine.run("run", "--", "sh", "-c", script)
    assert (done.status, done.stdout) == (status, "")
    assert done.stderr == f"ctxpack: the command failed with status {status}; nothing was seeded\n"
    assert audit_cache(machine.cache) == []


def test_a_missing_command_is_named(machine: Machine) -> None:
    write_contract(machine.work)
    must_fail(machine.run("run"), 2, "contract.json, /command: no command; say what makes the outputs: ", "run -- sh")
    must_fail(machine.run("run", "--", "no-such-program"), 2, "no-such-program: command cannot be started: ")


URIS = [
    "ctx://",
    "ctx://sha256:",
    "ctx://sha256:../../x",
    "ctx://sha256:" + "../" * 21 + "x",
    NOWHERE[:-1],
    NOWHERE + "0",
    NOWHERE + "\n",
    NOWHERE + "/",
    NOWHERE.upper(),
    "ctx://sha256:" + "A" * 64,
    "ctx://sha512:" + "0" * 128,
    "ctx://sha256:" + "\u0660" * 64,  # digits, but not ASCII
]
OTHERS = [  # what else is no URI: the exit of `pull`, and what it says
    ("", 2, "'': names no pack: expected a URI, the first digits of a cached one, a contract file or a name; "),
    ("sha256:" + "0" * 64, 2, "names no pack: expected a URI, "),
    ("0" * 12, 3, "no cached pack begins with 000000000000; "),
    ("ctx-" + "0" * 64, 3, f"no such name: ctx-{'0' * 64}; "),
    ("\x1b[2K" + NOWHERE, 2, "no such contract file; "),
]


@pytest.mark.parametrize("uri", URIS)
def test_an_invalid_uri_is_refused(machine: Machine, uri: str) -> None:
    for command in ("pull", "rm"):
        done = machine.run(command, uri)
        must_fail(done, 2, "URI: not a ctx URI: expected ctx://sha256: and 64 lower-case hexadecimal digits, got ")
        assert "`ctxpack id CONTRACT` prints it in full" in done.stderr
        assert "\x1b" not in done.stderr
    assert not machine.cache.exists()


@pytest.mark.parametrize(("text", "status", "said"), OTHERS)
def test_what_is_no_uri_is_another_reference_or_refused(machine: Machine, text: str, status: int, said: str) -> None:
    done = machine.run("pull", text)
    must_fail(done, status, said)
    assert "\x1b" not in done.stderr
    assert machine.run("rm", text).status in (2, 3)
    assert not machine.cache.exists()


def test_every_command_refuses_an_invalid_uri(machine: Machine) -> None:
    for command in ("inspect", "pull", "push", "rm"):
        must_fail(machine.run(command, "ctx://sha256:../../x"), 2, "got 'ctx://sha256:../../x'; `ctxpack id CONTRACT`")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_pack_is_exit_3(tmp_path: Path, request: pytest.FixtureRequest, kind: str, forks: Forks) -> None:
    target = open_target(kind, request)
    machine = ForkedMachine(forks, tmp_path / "machine", target.location, target.environment)
    for command in ("pull", "inspect"):
        must_fail(machine.run(command, NOWHERE), 3, f"{target.location}: no such pack: {NOWHERE}; check the URI and")
    must_fail(machine.run("push", NOWHERE), 3, f"cache {machine.cache}: no such pack", "ctxpack seed")
    must_fail(machine.run("rm", NOWHERE), 3, f"{NOWHERE}: not in the cache; `ctxpack ls` lists the cache")
    write_contract(machine.work, inputs=[{"name": "docs", "uri": NOWHERE}])
    must_fail(machine.run("id"), 3, NOWHERE)
    assert audit_cache(machine.cache) == []
    assert leftovers(machine.cache) == []


def test_a_registry_that_is_down_is_not_a_miss(machine: Machine) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
        registry = f"127.0.0.1:{closed.getsockname()[1]}/team/packs"
        write_contract(machine.work)
        started = [
            machine.start("pull", NOWHERE, registry=registry),
            machine.start("run", "--", "touch", "computed", registry=registry),
        ]
        for done in [each.finish() for each in started]:
            must_fail(done, 6, registry, "Connection refused (5 attempts); try again later")
            assert done.seconds < 20
    assert not (machine.work / "computed").exists()


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ("team/packs", "'team' is not a host; put the host first"),
        ("registry.example", "no repository; write it after the host"),
        ("registry.example/Team", "use lower-case letters and digits"),
        ("registry.example/team:latest", "a tag or digest after the repository; leave it out"),
        ("registry.example/../team", "may not be part of a repository's name"),
        ("cook:secret@registry.example/team", "user name or password in the location; use `docker login`"),
        ("ftp://registry.example/team", "unknown scheme 'ftp'; write one of "),
        ("127.0.0.1:99999/team", "'127.0.0.1:99999' is not a host"),
        ("registry.example/" + "a" * 300, "the name is too long; use at most 255 characters"),
        ("oci:", "no folder; write oci:/folder"),
        ("oci://packs", "'oci://' is not a folder; write oci:/folder"),
        ("exämple.org/packs", "is not a host"),
    ],
)
def test_an_invalid_registry_location_is_refused(machine: Machine, registry: str, message: str) -> None:
    done = machine.run("pull", NOWHERE, registry=registry)
    must_fail(done, 2, "registry", message)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registry = 1", "setting 'registry' is empty or not a text; write registry = \"...\""),
        ("registri = 'x'", "unknown setting 'registri': expected registry or settle"),
        ("registry", "not TOML: "),
    ],
)
def test_an_invalid_settings_file_is_named(machine: Machine, text: str, message: str) -> None:
    (machine.work / "ctxpack.toml").write_text(text)
    del machine.environment["CTXPACK_CACHE"]
    must_fail(machine.run("pull", NOWHERE), 2, f"{machine.work / 'ctxpack.toml'}: ", message)


def test_a_stored_login_that_is_malformed_is_named(machine: Machine) -> None:
    config = machine.home / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text('{"auths": {"127.0.0.1:1": {"auth": "bm8gY29sb24="}}}')
    done = machine.run("pull", NOWHERE, registry="127.0.0.1:1/packs")
    must_fail(done, 2, os.fspath(config), "malformed: auths[127.0.0.1:1].auth has no ':'", "log in again")


def test_a_place_that_cannot_be_written_is_named_and_keeps_its_files(machine: Machine) -> None:
    uri = seed_pack(machine, files={"text": b"text\n"})
    (machine.work / "file").write_text("a file, not a folder")
    (machine.work / "taken").mkdir()
    (machine.work / "taken" / "thesis.txt").write_text("the only copy")
    locked = machine.work / "locked"
    locked.mkdir(mode=0o555)
    run = machine.run
    must_fail(
        run("pull", uri, "-o", "taken"), 2, "taken: something else is there already", "or replace it with --force"
    )
    must_fail(run("pull", uri, "-o", "file/below"), 1, "file/below: cannot be written")
    must_fail(run("seed", "--cache", "file"), 1, "file", "cannot make the cache")
    must_fail(run("push", uri, "--registry", "oci:file"), 2, "file/oci-layout: not a folder", "name the folder")
    must_fail(run("push", uri, "--registry", "oci:taken"), 2, "oci:taken: folder holds other files", "empty folder")
    for arguments in (
        ("pull", uri, "-o", "locked/out"),
        ("seed", "--cache", "locked/cache"),
        ("push", uri, "--registry", "oci:locked/layout"),
        ("init", "locked/contract.json"),
    ):
        done = run(*arguments, prefix=UNPRIVILEGED)
        assert (done.status, done.stdout) == (1, "")
        assert "locked/" in done.stderr
        assert "permission denied" in done.stderr.lower()
    assert (machine.work / "taken" / "thesis.txt").read_text() == "the only copy"
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["bogus"], ["pull"], ["pull", NOWHERE, NOWHERE], ["run", "--fast"], ["id", "x", "y"]],
    ids=" ".join,
)
def test_bad_usage_is_explained(machine: Machine, arguments: Sequence[str]) -> None:
    done = machine.run(*arguments)
    assert done.status == 2
    assert "usage: ctxpack" in (done.stderr if arguments else done.stdout)


def test_with_json_an_error_is_a_json_document(machine: Machine) -> None:
    done = machine.run("pull", "--json", "ctx://sha256:12")
    document = json.loads(done.stderr)
    assert (done.status, done.stdout) == (2, "")
    assert (document["schema"], document["exit"], document["code"]) == ("ctxpack/error/v1", 2, "E_BAD_URI")
    assert document["where"] == "URI"
