"""A signal ends a command at any moment: promptly, without a traceback, and nothing half-written stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import Cli, make_project, write_contract

from ctxpack_pantry import Pantry, load_settings

SIZE = 24 << 20  # bytes; enough that every command still works when the signal comes
MOMENTS = (0.0, 0.01, 0.03, 0.07, 0.15)  # seconds after it began to write


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A project with a large output, whose pack is in the registry oci:packs."""
    folder = tmp_path_factory.mktemp("large")
    make_project(folder)
    write_contract(folder, command=["cp", "-r", "made", "processed_data"])
    (folder / "processed_data" / "a.txt").write_bytes(os.urandom(SIZE))
    shutil.copytree(folder / "processed_data", folder / "made")
    (folder / "home").mkdir()
    environment = {"HOME": str(folder / "home"), "PATH": os.environ["PATH"], "CTXPACK_REGISTRY": "oci:packs"}
    cli = Cli(folder, environment | {"CTXPACK_CACHE": "seeded"})
    cli("seed", "-q")
    cli("push", "-q", cli("id").out.strip())
    return cli


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.002)


def run_and_signal(
    cli: Cli, cache: Path, moment: float, number: int, *arguments: str, began: Callable[[], object] | None = None
) -> tuple[int, str]:
    """Start a command, send its process group a signal a moment after it began to write; return status and stderr.

    Checks that there is no traceback, and that the cache holds nothing but whole packs. A folder that was made when the
    signal came may stay until the next command sweeps it: Python has no context without a gap where it begins.
    """
    child = cli.start(*arguments, env={"CTXPACK_CACHE": str(cache)})
    eventually(lambda: (began or (lambda: [*cache.glob("v1/staging/*")]))() or child.poll() is not None)
    time.sleep(moment)
    signalled = time.monotonic()
    with contextlib.suppress(ProcessLookupError):  # it ended before
        os.killpg(child.pid, number)
    out, err = child.communicate(timeout=60)
    assert time.monotonic() - signalled < 20
    errors = err.decode()
    assert "Traceback" not in errors, errors
    if child.returncode != 0:
        assert out == b""
    assert moment == 0.0 or [*cache.glob("v1/staging/*")] == []
    Pantry(load_settings(cache=str(cache))).cache.sweep()  # which removes what is left of a lock: an empty file
    assert [*cache.glob("v1/staging/*")] == []
    assert [*cache.glob("v1/locks/*")] == []
    packs = [*cache.glob("v1/packs/*")]
    assert all((pack / "artifacts/a.txt").stat().st_size == SIZE for pack in packs)
    assert child.returncode != 0 or packs or "--include" in arguments
    return child.returncode, errors


COMMANDS = {
    "seed": ["seed", "-q"],
    "pull": ["pull", "-q", "URI"],
    "pull into a folder": ["pull", "-q", "URI", "-o", "there"],
    "pull what is included": ["pull", "-q", "URI", "--include", "*", "-o", "some", "--force"],
    "run, a hit": ["run", "-q", "--force"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_at_any_moment(large: Cli, tmp_path: Path, name: str) -> None:
    uri = large("id").out.strip()
    arguments = [uri if word == "URI" else word for word in COMMANDS[name]]
    outcomes = [
        run_and_signal(large, tmp_path / f"cache{index}", moment, signal.SIGINT, *arguments)
        for index, moment in enumerate(MOMENTS)
    ]
    assert {outcome for outcome in outcomes if outcome[0] != 0} == {(130, "\nctxpack: interrupted\n")}
    assert (large.folder / "processed_data" / "a.txt").stat().st_size == SIZE
    assert list(large.folder.glob(".*")) == []  # nothing unfinished beside an output


def test_ctrl_c_at_any_moment_of_a_miss(large: Cli, tmp_path: Path) -> None:
    """What was there, and only --force may replace, is there or beside it, unless there is a pack already."""
    output = large.folder / "processed_data"
    outcomes = []
    for index, moment in enumerate(MOMENTS):
        shutil.rmtree(output)
        shutil.copytree(large.folder / "made", output)
        (output / "mine").write_text(str(index))
        run = ("run", "-q", "--offline", "--force")
        outcomes.append(run_and_signal(large, tmp_path / f"cache{index}", moment, signal.SIGINT, *run))
        beside = [output, *large.folder.glob(".processed_data.*")]
        made = any((tmp_path / f"cache{index}").glob("v1/packs/*"))
        assert made or any((place / "mine").exists() for place in beside)
        assert all(place.suffix == ".kept" for place in beside[1:])
        for place in beside[1:]:
            shutil.rmtree(place)
    assert {outcome for outcome in outcomes if outcome[0] != 0} == {(130, "\nctxpack: interrupted\n")}


def test_ctrl_c_while_the_command_runs(cli: Cli, project: Path, tmp_path: Path) -> None:
    started = project / "started"
    shutil.rmtree(project / "processed_data")
    write_contract(project, command=["sh", "-c", "touch started; while :; do sleep 0.05; done"])
    status, errors = run_and_signal(cli, tmp_path / "cache", 0.1, signal.SIGINT, "run", began=started.exists)
    assert (status, errors) == (130, "\nctxpack: interrupted\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_sigterm_and_sighup_end_a_command_as_cleanly(large: Cli, tmp_path: Path, number: int, status: int) -> None:
    assert run_and_signal(large, tmp_path / "cache", 0.01, number, "seed", "-q") == (status, "")


def test_a_signal_to_ctxpack_alone_ends_runs_command_too(cli: Cli, project: Path) -> None:
    shutil.rmtree(project / "processed_data")
    write_contract(project, command=["sh", "-c", "echo $$ >pid; touch started; exec sleep 60"])
    child = cli.start("run")
    eventually((project / "started").exists)
    time.sleep(0.1)
    child.terminate()
    assert child.communicate(timeout=30)[1] == b""
    assert child.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int((project / "pid").read_text()), 0)


def test_nohup_is_respected(cli: Cli, project: Path) -> None:
    script = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from ctxpack_cli.main import main;"
        "main(['run', '-q', '--', 'sh', '-c', f'kill -HUP {os.getpid()} $PPID; sh ingest.sh'])"
    )
    shutil.rmtree(project / "processed_data")
    write_contract(project, command=None)
    done = cli.python("-c", script)
    assert (done.status, done.out.split(":")[0], done.err) == (0, "ctx", "")


def test_repeated_ctrl_c_shows_no_traceback(large: Cli, tmp_path: Path) -> None:
    """Each signal comes before the last one was handled. The next command removes what stays in staging."""
    for index in range(3):
        cache = tmp_path / f"cache{index}"
        child = large.start("seed", "-q", env={"CTXPACK_CACHE": str(cache)})
        eventually(lambda cache=cache: [*cache.glob("v1/staging/*")])  # type: ignore[misc]
        while child.poll() is None:
            child.send_signal(signal.SIGINT)
            time.sleep(0.005)
        out, err = child.communicate(timeout=60)
        assert (child.returncode, out, err) == (130, b"", b"\nctxpack: interrupted\n")
        assert [*cache.glob("v1/packs/*")] == []
    assert large("seed", "-q", env={"CTXPACK_CACHE": str(cache)}).status == 0
    assert [path.name for part in ("staging", "locks") for path in (cache / "v1" / part).glob("*")] == []


WRITE_SLOWLY = "Path('begun').touch(); time.sleep(0.2); time.sleep(0.2); Path('whole').touch()\n"


def signal_within(cli: Cli, number: int, act: str, definitions: str = "") -> tuple[int, bytes]:
    """Send ``ctxpack ls`` a signal while its work, the expression act, writes slowly; return status and stderr."""
    imports = "import time, weakref; from pathlib import Path\n"
    (cli.folder / "slow.py").write_text(imports + WRITE_SLOWLY)
    script = (
        f"{imports}{definitions}"
        "from ctxpack_cli.commands import ls\n"
        f"ls.act = lambda *_: [{act}] and time.sleep(60)\n"
        "from ctxpack_cli.main import main; main(['ls'])"
    )
    child = cli.start_python("-c", script)
    eventually((cli.folder / "begun").exists)
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    return child.returncode, said


ENDINGS = [(signal.SIGINT, 130, b"\nctxpack: interrupted\n"), (signal.SIGTERM, 143, b"")]


@pytest.mark.parametrize(("number", "status", "said"), ENDINGS)
def test_a_signal_waits_for_the_end_of_an_import(cli: Cli, number: int, status: int, said: bytes) -> None:
    """Some C extensions crash the process later when their initialisation was interrupted."""
    assert signal_within(cli, number, "__import__('slow')") == (status, said)
    assert (cli.folder / "whole").exists()


@pytest.mark.parametrize(("number", "status", "said"), ENDINGS)
@pytest.mark.parametrize(
    ("act", "definitions"),
    [
        ("Slow()", f"class Slow:\n    def __del__(self): {WRITE_SLOWLY}"),
        ("weakref.ref(Lost(), write)", f"class Lost: pass\ndef write(_): {WRITE_SLOWLY}"),
        ("weakref.finalize(Lost(), write)", f"class Lost: pass\ndef write(): {WRITE_SLOWLY}"),
    ],
    ids=["finalizer", "callback of a weak reference", "weakref.finalize"],
)
def test_a_signal_is_not_lost_where_python_drops_what_is_raised(
    cli: Cli, act: str, definitions: str, number: int, status: int, said: bytes
) -> None:
    assert signal_within(cli, number, act, definitions) == (status, said)


def test_what_else_python_drops_is_shown(cli: Cli) -> None:
    definitions = "class Slow:\n    def __del__(self): raise ValueError('of a finalizer')\n"
    script = f"{definitions}from ctxpack_cli.commands import ls\nls.act = lambda *_: Slow() and 0\n"
    done = cli.python("-c", f"{script}from ctxpack_cli.main import main; main(['ls'])")
    assert "ValueError: of a finalizer" in done.err


@pytest.mark.parametrize("module", ["signals", "arguments", "session"])
def test_ctrl_c_while_our_modules_load_shows_no_traceback(cli: Cli, module: str) -> None:
    script = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == 'ctxpack_cli.{module}': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from ctxpack_cli.main import main; main(['ls'])"
    )
    assert cli.python("-c", script) == (130, "", "\nctxpack: interrupted\n")


def test_an_interrupted_push_leaves_no_tag(large: Cli, tmp_path: Path) -> None:
    uri = large("id").out.strip()
    registry = tmp_path / "registry"
    child = large.start("push", "-q", uri, "--registry", f"oci:{registry}")
    eventually(lambda: [*registry.glob("blobs/sha256/*")])
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60) == (b"", b"\nctxpack: interrupted\n")
    assert child.returncode == 130
    assert not (registry / "index.json").exists()
    assert large("push", "-q", uri, "--registry", f"oci:{registry}").status == 0
