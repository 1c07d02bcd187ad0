"""What CtxPack says: to a person, to `$(…)`, to a program, and to a terminal that would obey control characters."""

from __future__ import annotations

import json
import os
import resource
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from examples import LARGE, seed_pack
from forks import ForkedMachine, Forks
from machine import PROGRAM, Finished, Machine
from plain_target import Repository
from project import Project
from relay import Answer, Forward, Relay, Request

from registry2 import RegistryServer

ABSENT = f"ctx://sha256:{'0' * 64}"


@pytest.fixture
def machine(tmp_path: Path, forks: Forks) -> Machine:
    return ForkedMachine(forks, tmp_path / "machine", f"oci:{tmp_path}/registry", {"CTXPACK_SETTLE": "0"})


@pytest.fixture
def project(machine: Machine) -> Project:
    return Project(machine)


RECORD = 'mkdir -p out; for word in "$@"; do echo "$word"; done > out/words\n'


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("run", "--force --quiet"),
        ("run", "-q --json --help --version"),
        ("run --push", "-q"),
        ("--quiet run", "--force --push --no-such-option"),
        ("run --contract contract.json", "--contract other.json"),
        ("run --contract=contract.json --", "-- x"),
        ("--push run --quiet", "-- --offline -- --"),
        ("--json run --rehash", "--json=x --cache c -oo - -1"),
        ("run --registry oci:run --offline", "run run"),
    ],
)
def test_run_parses_nothing_after_the_first_word_of_the_command(project: Project, options: str, words: str) -> None:
    project.write({"record.sh": RECORD})
    project.declare(command=None, code={"path": "record.sh"})
    done = project.call(*options.split(), "sh", "record.sh", *words.split())
    assert done.status == 0, done.stderr
    assert (project.folder / "out" / "words").read_text().split() == words.split()
    # The words are a part of the name, as they were given.
    assert project.uri("sh", "record.sh", *words.split()) in done.stdout


@pytest.mark.parametrize("before", [True, False])
def test_quiet_leaves_the_bare_uri_for_a_shell(project: Project, before: bool) -> None:
    quiet = ("-q",) if before else ()
    after = () if before else ("--quiet",)
    uri = project.uri()
    for words in (("run",), ("run",), ("run", "--push"), ("seed",), ("push", uri), ("id",)):
        done = project.call(*quiet, *words, *after)
        assert (done.status, done.stdout, done.stderr) == (0, f"{uri}\n", ""), words
    shell = 'set -e; URI=$(ctxpack seed -q); ctxpack push -q "$URI" >pushed; ctxpack pull "$URI" -q -o there'
    subprocess.run(["sh", "-c", shell], cwd=project.folder, env=project.machine.environment, check=True)
    assert (project.folder / "there" / "r").read_text() == "one\n"


@pytest.mark.parametrize(
    "line",
    [
        "--json",
        "--json frobnicate",
        "frobnicate --json",
        "id --json --frobnicate",
        "--frobnicate --json id",
        "--json push",
        "pull --json -o",
        "rm --json",
        "verify --json",
        "schema a b --json",
        "run --json --",
        "run --json --frobnicate sh x",
        "--json run --contract",
        "init --json a b",
        f"ls --json {'x' * 5000}",
    ],
    ids=lambda line: line[:40],
)
def test_with_json_bad_usage_is_a_document(machine: Machine, line: str) -> None:
    done = machine.run(*line.split())
    assert (done.status, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    document = json.loads(done.stderr)
    assert {"schema": "ctxpack/error/v1", "code": "E_USAGE", "exit": 2}.items() <= document.items()
    assert document["what"]


@pytest.mark.parametrize("line", ["run sh --json --", "run -- sh --json", "id -- x --json"])
def test_json_among_the_words_of_the_command_is_not_ours(machine: Machine, line: str) -> None:
    done = machine.run("--frobnicate", *line.split())
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")
    assert done.stderr.endswith("ctxpack: error: ctxpack has no option --frobnicate\n")


# C0, DEL, C1, bidi marks, embeddings and isolates, separators of lines and paragraphs.
CONTROLS = "\x01\x1b[2J\n\r\x7f\x80\x9b31m\x9f\u061c\u200e\u200f\u202a\u202d\u202e\u2066\u2067\u2069\u2028\u2029"


def documents_of(done: Finished) -> list[Any]:
    """Return the documents on stdout and stderr, and check that no character of them controls a terminal."""
    for stream in (done.stdout, done.stderr):
        assert all(c.isprintable() or c == "\n" for c in stream)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("ctxpack: ")]
    return [json.loads(text) for text in (done.stdout, *lines) if text]


def test_no_character_in_a_document_controls_the_terminal(project: Project, machine: Machine) -> None:
    command = ["sh", "src/make.sh", CONTROLS]
    project.declare(params={CONTROLS: [CONTROLS]}, tool=f"größe {CONTROLS}", salt=CONTROLS, command=command)
    uri = project.uri()
    (identified,) = documents_of(project.call("id", "--json"))
    (transform,) = identified["contract"]["transforms"]
    assert transform["params"] == {CONTROLS: [CONTROLS]}
    assert identified["contract"]["command"] == command
    for words in (("run",), ("seed",), ("push", uri), ("inspect", uri), ("inspect", uri, "--skip-cache"), ("ls",)):
        (document,) = documents_of(project.call("--json", *words))
        assert uri in json.dumps(document)
    assert "größe" in project.succeed("ls", "--json")
    (pulled,) = documents_of(project.call("pull", "--json", uri, "-o", f"o{CONTROLS}"))
    assert pulled["folder"] == f"o{CONTROLS}"
    # A file name need not even be text.
    done = project.call("pull", "--json", uri, "-o", os.fsdecode(b"o\xff\x9b"))
    assert documents_of(done)[0]["folder"] == "o\udcff\udc9b"


@pytest.mark.parametrize(
    "words",
    [
        ("pull", f"ctx://{CONTROLS}"),
        ("pull", ABSENT, "--registry", f"http://{CONTROLS}/x"),
        ("id", f"c{CONTROLS}.json"),
        ("run", "--contract", f"c{CONTROLS}.json"),
        ("seed", f"a{CONTROLS}=b{CONTROLS}"),
        ("schema", CONTROLS),
        ("schema", CONTROLS, CONTROLS),
        (f"--{CONTROLS}", "ls"),
        (CONTROLS,),
        ("run", "--", f"c{CONTROLS}"),
        ("--cache", f"contract.json/{CONTROLS}", "ls"),
    ],
    ids=lambda words: " ".join(words).replace(CONTROLS, "…").replace(ABSENT, "URI"),
)
def test_no_character_in_an_error_controls_the_terminal(project: Project, words: tuple[str, ...]) -> None:
    (document,) = documents_of(project.call("--json", *words))
    assert document["schema"] == "ctxpack/error/v1"
    assert "9b31m" in json.dumps(document)
    text = project.call(*words).stderr
    assert all(c.isprintable() or c == "\n" for c in text)


OPENING = ("id", "seed", "run", "ls --json", "verify --all", "push URI", "pull URI --json", "inspect URI", "rm URI")


def test_an_unknown_variable_is_said_once_by_each_command_that_reads_settings(project: Project) -> None:
    uri = project.uri()
    project.machine.environment["CTXPACK_REGISTY"] = "ghcr.io/team/packs"
    for line in OPENING:
        done = project.call(*(uri if word == "URI" else word for word in line.split()))
        said = [text for text in done.stderr.splitlines() if "CTXPACK_REGISTY" in text]
        assert len(said) == 1, line
        assert "CTXPACK_REGISTRY" in said[0]
        assert "CTXPACK_REGISTY" not in done.stdout
    for words in (("id", "-q"), ("schema",)):
        assert "CTXPACK_REGISTY" not in project.call(*words).stderr


HELP = """
import importlib, inspect, pkgutil, pydoc, sys

canary = sys.argv[1]
seen = 0

def check(name, value):
    global seen
    seen += 1
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return
    for parameter in signature.parameters.values():
        assert canary not in repr(parameter.default), f"{name}: {parameter}"

for front in sys.argv[2:]:
    package = importlib.import_module(front)
    names = [front, *(m.name for m in pkgutil.walk_packages(package.__path__, front + ".")
                      if not m.name.endswith(".__main__"))]
    for name in names:
        module = importlib.import_module(name)
        assert canary not in pydoc.plain(pydoc.render_doc(module)), name
        for member in {*vars(module), *getattr(module, "__all__", ())}:
            value = getattr(module, member)
            if not str(getattr(value, "__module__", "")).startswith("ctxpack_"):
                continue
            if callable(value):
                check(f"{name}.{member}", value)
            for attribute, inner in vars(value).items() if isinstance(value, type) else ():
                check(f"{name}.{member}.{attribute}", getattr(inner, "__func__", inner))
print(seen)
"""

FRONTS = (
    "ctxpack_identity",
    "ctxpack_bundle",
    "ctxpack_cache",
    "ctxpack_oci",
    "ctxpack_trust",
    "ctxpack_pantry",
    "ctxpack_cli",
)


def test_no_help_and_no_signature_shows_the_environment(machine: Machine) -> None:
    canary = "canary-5d8f"
    environment = machine.environment | {"CTXPACK_PASSWORD": canary, "A_TOKEN": f"x{canary}"}
    for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        environment[name] = str(machine.home / canary)
    command = [sys.executable, "-c", HELP, canary, *FRONTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 500


class Screen:
    """A terminal of a command: what its stderr shows."""

    def __init__(self) -> None:
        self._leader, self.follower = os.openpty()
        self.shown = b""

    def read(self, seconds: float = 60.0) -> bool:
        """Wait for more; return False when there is none."""
        try:
            if not select.select([self._leader], [], [], seconds)[0]:
                return False
            more = os.read(self._leader, 1 << 16)
        except OSError:  # EIO: nobody can write to it any more
            return False
        self.shown += more
        return bool(more)

    def close(self) -> None:
        os.close(self._leader)


def test_nothing_is_drawn_after_an_interruption(machine: Machine, registry: RegistryServer) -> None:
    uri = seed_pack(machine, files={f"{n}.bin": os.urandom(4 << 20) for n in range(18)})
    gate, repository, screen = threading.Semaphore(0), Repository(registry), Screen()

    def rule(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if request.sends_blob:
            gate.acquire(timeout=60)
        return answer

    with Relay(registry.address, rule) as relay:
        environment = machine.environment | {"TERM": "xterm", "CTXPACK_REGISTRY": repository.through(relay.address)}
        command: list[str | Path] = [PROGRAM, "push", uri]
        process = subprocess.Popen(command, env=environment, stderr=screen.follower, start_new_session=True)
        os.close(screen.follower)
        while b"pushing" not in screen.shown and process.poll() is None:
            gate.release()
            screen.read(0.4)
        assert b"pushing" in screen.shown
        os.killpg(process.pid, signal.SIGINT)
        while b"interrupted" not in screen.shown and screen.read():
            pass
        gate.release(1000)  # the threads report what they have sent
        while screen.read():
            pass
        process.wait(timeout=60)
    screen.close()
    assert process.returncode == 130
    before, said, after = screen.shown.rpartition(b"\r\nctxpack: interrupted")
    assert (said != b"", after) == (True, b"\r\n")
    assert before.rpartition(b"\r\x1b[K")[2] == b""


MANY = 3000  # packs; their lines are far more than a pipe holds


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Machine:
    """A machine with many packs in its cache."""
    machine = ForkedMachine(forks, tmp_path_factory.mktemp("many"))
    Project(machine).succeed("run")
    packs = machine.cache / "v1" / "packs"
    for number in range(MANY):
        (packs / f"{number:064x}").mkdir()
    return machine


@pytest.mark.parametrize(
    ("line", "reader"),
    [
        *(("ls", reader) for reader in ("head -1", "head -c 1", "exit 0", "sleep 0.1", "exec <&-")),
        *((line, "exit 0") for line in ("ls --json", "schema contract-file", "id", "id --canonical", "--help")),
    ],
)
def test_a_reader_that_leaves_is_no_failure(many: Machine, line: str, reader: str) -> None:
    shell = f"trap '' PIPE; {shlex.quote(str(PROGRAM))} -q {line} | {{ {reader}; }} >/dev/null; exit $PIPESTATUS"
    if line == "--help":
        shell = shell.replace(" -q ", " ")
    command = ["bash", "-c", shell]
    done = subprocess.run(command, cwd=many.work, env=many.environment, capture_output=True, text=True, check=False)
    weak = [text for text in done.stderr.splitlines() if "weak point" not in text]
    assert (done.returncode, weak) == (0, [])


def test_work_that_is_done_counts_though_nobody_reads_the_result(project: Project) -> None:
    uri = project.uri()
    for line in ("run", "seed", f"push {uri}", f"pull {uri} -o there", f"export {uri} --tar x.tgz", f"rm {uri}"):
        command = ["bash", "-c", f"{shlex.quote(str(PROGRAM))} -q {line} | exit 0; exit $PIPESTATUS"]
        environment = project.machine.environment
        done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line
    assert (project.folder / "there" / "r").exists()
    assert not (project.machine.cache / "v1" / "packs" / uri[-64:]).exists()


def test_a_full_disk_under_stdout_is_a_failure(project: Project) -> None:
    command = ["sh", "-c", f"{shlex.quote(str(PROGRAM))} id >/dev/full"]
    environment = project.machine.environment
    done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "ctxpack: error: No space left on device\n")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is not kept elsewhere")
def test_memory_that_runs_out_is_no_bug(project: Project) -> None:
    project.write({"in/large.bin": LARGE})
    uri = project.succeed("run", "-q")
    project.succeed("push", "-q", uri)
    lines = [
        *(f"{verb} {uri}" for verb in ("push", "pull -o there --force", "inspect --skip-cache", "--cache new pull")),
        f"push {uri} --registry oci:new",
        "id --rehash",
        "run --force",
        "ls --json",
    ]
    refused = 0
    for line in lines:
        for limit in (22, 24, 100):
            shutil.rmtree(project.folder / "new", ignore_errors=True)
            process = subprocess.Popen(
                [PROGRAM, *line.split()],
                cwd=project.folder,
                env=project.machine.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=partial(resource.setrlimit, resource.RLIMIT_AS, (limit << 20, limit << 20)),
            )
            _, said = process.communicate(timeout=60)
            if process.returncode:
                refused += 1
                assert process.returncode == 1, (line, limit, said)
                assert "memory ran out" in said, (line, limit, said)
                assert said.count("\n") == 1
                assert "bug" not in said
                assert ("E_MEMORY" in said) == ("--json" in line)
    assert refused >= len(lines)


@pytest.mark.parametrize("encoding", ["UTF-8", "ASCII"])
def test_names_do_not_depend_on_the_locale(machine: Machine, project: Project, encoding: str) -> None:
    """Names of inputs, outputs and folders, labels, parameters and messages are beyond ASCII."""
    utf8 = project.machine.environment | {"LC_ALL": "C.UTF-8"}
    ascii = utf8 | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    script = 'mkdir -p süß; cp -R in süß/é; cp "$1" süß/"$1"\n'
    project.write({"in/größe.txt": "1\n", "in/読む/a": "2\n", "schön.sh": script})
    project.declare(
        command=["sh", "schön.sh", "schön.sh"],
        code={"path": "schön.sh"},
        outputs=[{"name": "süß", "path": "süß"}],
        params={"ö": "ü"},
        labels={"née": "größe"},
    )
    machine.environment = utf8
    uri = project.uri()
    machine.environment = ascii if encoding == "ASCII" else utf8
    assert project.uri() == uri
    assert project.succeed("run", "-q") == uri
    names = {"é/größe.txt", "é/読む/a", "schön.sh"}
    shutil.rmtree(project.folder / "süß")
    for words in (
        ("run", "-q"),
        ("seed", "-q", "süß=süß"),
        ("push", uri),
        ("--cache", "ä", "pull", uri, "-q"),
        ("pull", uri, "-o", "größe"),
        ("--cache", "ö", "pull", uri, "-o", "teil", "--include", "*größe*"),
        ("export", uri, "--tar", "größe.tgz"),
        ("inspect", uri),
        ("inspect", uri, "--json", "--skip-cache"),
        ("verify", uri),
        ("ls",),
        ("id", "--json"),
    ):
        done = project.call(*words)
        assert done.status == 0, (words, done.stderr)
        assert "\\udc" not in done.stdout + done.stderr
    assert "née" in project.succeed("inspect", uri)
    assert json.loads(project.succeed("id", "--json"))["contract"]["transforms"][0]["params"] == {"ö": "ü"}
    for folder in ("süß", "größe"):
        found = {str(path.relative_to(project.folder / folder)) for path in (project.folder / folder).rglob("*")}
        assert names <= found, found
    assert (project.folder / "teil" / "é" / "größe.txt").read_text() == "1\n"
    refused = project.call("id", "fehlt-ü.json")
    assert (refused.status, refused.stderr.partition(":")[0]) == (2, "ctxpack")
    assert "fehlt-ü.json" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("pull", "URI", "-o", "n" * 5000),
        ("pull", "URI", "-o", "é/" * 2500),
        ("export", "URI", "--tar", "n" * 5000),
        ("id", "n" * 5000),
        ("run", "--contract", "x/" * 2500 + "c.json"),
        ("--cache", "n" * 5000, "ls"),
        ("push", "URI", "--registry", f"oci:{'n' * 5000}"),
        ("seed", f"out={'n' * 5000}"),
        ("seed", "n" * 5000),
        ("schema", "n" * 5000),
        ("pull", "n" * 5000),
        ("run", "--", "n" * 5000),
        ("n" * 5000,),
        ("ls", f"--{'n' * 5000}"),
        ("rm", *(ABSENT.replace("0", str(digit)) for digit in range(10))),
    ],
    ids=lambda words: " ".join(word[:12] for word in words[:4]),
)
def test_a_message_is_no_page(many: Machine, words: tuple[str, ...]) -> None:
    uri = many.succeed("id", "-q")
    done = many.run(*(uri if word == "URI" else word for word in words))
    assert done.status in (1, 2, 3)
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(line) < 1200


def test_a_document_has_the_whole_of_what_a_message_cuts(project: Project) -> None:
    path = "n" * 5000
    document = json.loads(project.call("id", "--json", path).stderr)
    assert document["where"] == path
    assert len(document["message"]) < 1200


SECRET = "--api-key=hunter2"


@pytest.mark.parametrize("options", [("--no-argv",), ("--no-argv", "--push")])
def test_a_secret_among_the_arguments_of_a_command_can_be_kept_out_of_the_pack(
    machine: Machine, options: tuple[str, ...]
) -> None:
    """Case 24: whoever can pull the pack could read it."""
    Project(machine).declare(command=None)
    program = ("sh", "-c", 'mkdir -p out; echo "$1" | wc -c > out/length', "sh", SECRET)
    done = machine.run("run", *options, "--", *program)
    assert done.status == 0, done.stderr
    assert "no command declared" in done.stderr
    assert (machine.work / "out" / "length").read_text().strip() == str(len(SECRET) + 1)
    uri = machine.succeed("id", "-q")
    assert done.stdout == f"Seeded: {uri}\n"
    held = [path.read_bytes() for path in machine.cache.rglob("*") if path.is_file()]
    held += [path.read_bytes() for path in (machine.cache.parent.parent).rglob("registry/**/*") if path.is_file()]
    assert not any(b"hunter2" in data for data in held)
    provenance = json.loads(machine.succeed("inspect", uri, "--json"))["provenance"]
    assert provenance["run"]["command"] == ["sh"]


def test_without_no_argv_the_arguments_are_in_the_contract(machine: Machine) -> None:
    Project(machine).declare(command=None)
    uri = machine.succeed("run", "-q", "--", "sh", "-c", "mkdir -p out", "sh", SECRET)
    assert SECRET in machine.succeed("inspect", uri)


def test_one_command_empties_the_cache(machine: Machine) -> None:
    """Case 19: its packs are read-only, so `rm -rf` cannot."""
    Project(machine).declare(command=None)
    for word in ("one", "two"):
        machine.succeed("run", "-q", "--", "sh", "-c", f"mkdir -p out; echo {word} > out/a")
    assert len(machine.succeed("rm", "--all").splitlines()) == 2
    assert machine.succeed("ls") == ""
    subprocess.run(["rm", "-rf", machine.cache], check=True)
    for words in (("rm",), ("rm", "--all", "--registry"), ("rm", "--all", "ctx://sha256:" + "0" * 64)):
        assert machine.run(*words).status == 2
