"""Make the outputs of a contract, unless somebody did already."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_project import contents

from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxPackError,
    IntegrityError,
    InvalidInput,
    Unavailable,
    uri_digest,
)
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import tag_of
from ctxpack_pantry.execution import execute

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

CHECK_NAME = "check the name of the program; a shell's syntax needs: sh -c '…'"


@pytest.fixture(autouse=True)
def _in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is given beside the contract file, which has none; the outputs are not made yet."""
    monkeypatch.chdir(project.root)
    shutil.rmtree(project.out)
    project.command = None
    project.write_contract()


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


MAKE = shell("echo ran >>../log && mkdir -p out && cat raw_docs/*.txt >out/joined")


def runs(project: Project) -> int:
    """How often MAKE ran."""
    log = project.root.parent / "log"
    return len(log.read_text().split()) if log.exists() else 0


def test_on_a_miss_the_command_runs_and_its_outputs_are_seeded(pantry: Pantry, project: Project) -> None:
    ran = pantry.run("contract.json", MAKE)
    assert ran == (project.uri_of(MAKE), False, 0)
    [pack] = pantry.list_packs().packs
    assert contents(Path(pack.folder, "artifacts")) == {"joined": "alphabeta"}
    assert pack.manifest is not None
    assert pack.manifest.provenance["run"]["command"] == MAKE
    assert 0 <= pack.manifest.provenance["run"]["seconds"] < 30


def test_on_a_hit_in_the_cache_the_outputs_are_placed_and_nothing_runs(pantry: Pantry, project: Project) -> None:
    pantry.run("contract.json", MAKE)
    shutil.rmtree(project.out)
    assert pantry.run("contract.json", MAKE) == (project.uri_of(MAKE), True, 0)
    assert contents(project.out) == {"joined": "alphabeta"}
    assert runs(project) == 1


def test_on_a_hit_in_the_registry_the_pack_is_fetched_and_nothing_runs(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project
) -> None:
    pantry.run("contract.json", MAKE, push=True)
    shutil.rmtree(project.out)
    assert open_pantry("elsewhere").run("contract.json", MAKE).hit
    assert contents(project.out) == {"joined": "alphabeta"}
    assert runs(project) == 1


def test_offline_only_the_cache_is_asked(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget
) -> None:
    pantry.run("contract.json", MAKE, push=True)
    before = len(registry.calls)
    assert not open_pantry("elsewhere").run("contract.json", MAKE, offline=True).hit
    assert open_pantry("elsewhere").run("contract.json", MAKE, offline=True).hit
    assert len(registry.calls) == before


def test_other_content_at_an_outputs_place_is_kept_on_a_hit_unless_forced(pantry: Pantry, project: Project) -> None:
    pantry.run("contract.json", MAKE)
    (project.out / "joined").write_text("my own notes")
    with pytest.raises(InvalidInput, match=r"^out: something else is there already"):
        pantry.run("contract.json", MAKE)
    assert pantry.run("contract.json", MAKE, force=True).hit
    assert (project.out / "joined").read_text() == "alphabeta"


def test_when_a_parameter_changes_back_the_first_outputs_come_back(pantry: Pantry, project: Project) -> None:
    """The outputs that are replaced are those of a cached pack, so nothing is lost."""
    pantry.run("contract.json", MAKE)
    project.write_contract(params={"loud": True})
    loud = shell("mkdir -p out && tr a-z A-Z <raw_docs/a.txt >out/joined")
    assert not pantry.run("contract.json", loud).hit
    project.write_contract()
    assert pantry.run("contract.json", MAKE).hit
    assert (project.out / "joined").read_text() == "alphabeta"


def test_a_failing_commands_status_is_returned_and_nothing_is_seeded(
    pantry: Pantry, project: Project, leftovers: Callable[[], list[str]]
) -> None:
    fail = shell("mkdir -p out; exit 7")
    assert pantry.run("contract.json", fail, push=True) == (project.uri_of(fail), False, 7)
    assert pantry.list_packs().packs == ()
    assert leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_that_a_signal_ends_has_the_status_of_a_shell(pantry: Pantry, number: int) -> None:
    assert pantry.run("contract.json", shell(f"kill -{int(number)} $$")).status == 128 + number
    assert pantry.list_packs().packs == ()


def test_a_command_that_does_not_make_the_output_is_not_seeded(pantry: Pantry) -> None:
    with pytest.raises(InvalidInput) as caught:
        pantry.run("contract.json", ["true"])
    assert str(caught.value) == (
        "./out: the command did not make this output, so nothing was seeded; "
        "make the command write it, or correct /outputs in the contract"
    )
    assert pantry.list_packs().packs == ()


def test_a_contract_without_outputs_cannot_be_run(pantry: Pantry, project: Project) -> None:
    project.write_contract(outputs=[])
    with pytest.raises(InvalidInput, match=r"contract\.json, /outputs: contract declares no outputs"):
        pantry.run("contract.json", MAKE)
    assert runs(project) == 0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("echo more >>raw_docs/a.txt", "input raw_docs"),
        ("rm raw_docs/a.txt", "input raw_docs"),
        ("mkdir raw_docs/new", "input raw_docs"),
        ("echo more >>ingest.sh", "code of transform 0 (cat)"),
    ],
)
def test_nothing_is_seeded_when_an_input_changes_while_the_command_runs(
    pantry: Pantry, project: Project, change: str, where: str
) -> None:
    command = shell(f"mkdir out; {change}")
    before = project.uri_of(command)
    with pytest.raises(InvalidInput) as caught:
        pantry.run("contract.json", command)
    after = project.uri_of(command)
    assert caught.value.where == where
    assert (caught.value.expected, caught.value.got, caught.value.code) == (before, after, "E_INPUT_CHANGED")
    assert pantry.list_packs().packs == ()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program"], f"no-such-program: command cannot be started: No such file or directory; {CHECK_NAME}"),
        (["./raw_docs/a.txt"], f"./raw_docs/a.txt: command cannot be started: Permission denied; {CHECK_NAME}"),
    ],
)
def test_a_command_that_cannot_be_started_is_named(pantry: Pantry, command: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        pantry.run("contract.json", command)
    assert (str(caught.value), caught.value.code) == (message, "E_COMMAND")


def test_the_command_finds_its_uri_in_the_environment(pantry: Pantry, project: Project) -> None:
    command = shell('mkdir -p out && printf %s "$CTXPACK_URI" >out/uri')
    pantry.run("contract.json", command)
    assert (project.out / "uri").read_text() == project.uri_of(command)


def test_the_standard_output_of_the_command_goes_to_standard_error(
    pantry: Pantry, capfd: pytest.CaptureFixture[str]
) -> None:
    """A hit has no output of the command, so nothing may depend on it."""
    pantry.run("contract.json", shell("echo loud; echo louder >&2; mkdir out"))
    assert capfd.readouterr() == ("", "loud\nlouder\n")


def test_with_push_the_pack_is_pushed_on_a_hit_too(pantry: Pantry, project: Project, registry: FaultyTarget) -> None:
    pantry.run("contract.json", MAKE)
    assert list(registry.layout.tags()) == []
    assert pantry.run("contract.json", MAKE, push=True).hit
    assert list(registry.layout.tags()) == [tag_of(project.uri_of(MAKE))]


@pytest.mark.parametrize("error", [Unavailable, AccessDenied, IntegrityError])
def test_when_the_registrys_answer_is_not_known_the_command_does_not_run(
    pantry: Pantry, project: Project, registry: FaultyTarget, error: type[CtxPackError]
) -> None:
    def fail(_: object) -> None:
        raise error("no answer")

    registry.on("fetch_tag", fail)
    with pytest.raises(error, match="no answer"):
        pantry.run("contract.json", MAKE)
    assert runs(project) == 0
    assert not project.out.exists()


def test_a_pack_that_is_seeded_but_could_not_be_pushed_is_not_made_again(
    pantry: Pantry, project: Project, registry: FaultyTarget
) -> None:
    def fail(_: object) -> None:
        raise Unavailable("no answer")

    registry.on("push", fail)
    with pytest.raises(Unavailable):
        pantry.run("contract.json", MAKE, push=True)
    registry.on("push", lambda _: None)
    assert pantry.run("contract.json", MAKE, push=True).hit
    assert runs(project) == 1


def test_other_outputs_seeded_while_the_command_runs_are_a_conflict(pantry: Pantry, project: Project) -> None:
    def interfere() -> None:
        while not project.out.exists():
            time.sleep(0.001)
        (project.root / "theirs").mkdir()
        with_command = project.load().with_command(slow)
        pantry.seed({"out": str(project.root / "theirs")}, with_command)
        (project.root / "go").touch()

    slow = shell("mkdir out; echo x >out/x; while ! test -e go; do sleep 0.01; done")
    thread = threading.Thread(target=interfere)
    thread.start()
    with pytest.raises(Conflict):
        pantry.run("contract.json", slow)
    thread.join()


def test_of_two_that_run_at_once_one_executes_and_the_other_hits(
    open_pantry: Callable[..., Pantry], project: Project, notices: list[str], leftovers: Callable[[], list[str]]
) -> None:
    slow = shell("echo ran >>../log && sleep 0.3 && mkdir out && echo x >out/joined")
    hits: list[bool] = []

    def work() -> None:
        hits.append(open_pantry().run("contract.json", slow).hit)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hits == [False, True]
    assert runs(project) == 1
    assert notices == ["another process runs this contract; waiting"]
    assert leftovers() == []


def test_a_damaged_pack_in_the_cache_is_neither_a_hit_nor_a_miss(pantry: Pantry, project: Project) -> None:
    pantry.run("contract.json", MAKE)
    folder = pantry.cache.find(uri_digest(project.uri_of(MAKE)))
    assert folder is not None
    Path(folder, "manifest.json").chmod(0o644)
    Path(folder, "manifest.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        pantry.run("contract.json", MAKE)
    assert runs(project) == 1


class Interrupted(BaseException):
    """What a signal handler may raise."""


def _waits(thread: int) -> bool:
    """Return whether a thread is inside Popen.wait."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code is subprocess.Popen.wait.__code__:
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def interrupt(request: pytest.FixtureRequest) -> Callable[[type[BaseException], Callable[[], bool]], None]:
    """Let a signal handler raise an exception in this thread, once it waits for a command and a condition holds."""

    def arrange(error: type[BaseException], when: Callable[[], bool]) -> None:
        def handler(number: int, frame: object) -> None:
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


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
@pytest.mark.parametrize(
    "trap", ["", "trap 'rm started; exit 9' TERM;", "trap '' TERM;"], ids=["ends", "tidies", "ignores"]
)
def test_an_interruption_ends_the_command(
    tmp_path: Path,
    interrupt: Callable[[type[BaseException], Callable[[], bool]], None],
    error: type[BaseException],
    trap: str,
) -> None:
    """Also when Ctrl-C reaches only this process, and when the command ignores SIGTERM."""
    started = Path("started")
    interrupt(error, started.exists)
    begun = time.monotonic()
    with pytest.raises(error):
        execute(shell(f"{trap} echo $$ >pid; touch started; while :; do sleep 0.05; done"), "", {}, grace=0.3)
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)
    assert started.exists() is ("rm" not in trap)


def test_a_command_gets_time_to_tidy_up_after_ctrl_c(
    interrupt: Callable[[type[BaseException], Callable[[], bool]], None],
) -> None:
    """From a terminal, Ctrl-C reaches both processes; this command ends by itself, half a second later."""
    interrupt(KeyboardInterrupt, Path("started").exists)
    with pytest.raises(KeyboardInterrupt):
        execute(shell("touch started; sleep 0.5; touch tidied"), "", {}, grace=30)
    assert Path("tidied").exists()
