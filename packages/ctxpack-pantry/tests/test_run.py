"""Make the outputs of a contract, unless somebody did already."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_project import contents

from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxPackError,
    CtxUri,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unavailable,
    uri_digest,
)
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import tag_of
from ctxpack_pantry.results import Ran

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
    assert ran == Ran(project.uri_of(MAKE), False, 0)
    [pack] = pantry.list_packs().packs
    assert contents(Path(pack.folder, "artifacts")) == {"joined": "alphabeta"}
    assert pack.manifest is not None
    assert pack.manifest.provenance["run"]["command"] == MAKE
    assert 0 <= pack.manifest.provenance["run"]["seconds"] < 30


def test_on_a_hit_in_the_cache_the_outputs_are_placed_and_nothing_runs(pantry: Pantry, project: Project) -> None:
    pantry.run("contract.json", MAKE)
    shutil.rmtree(project.out)
    assert pantry.run("contract.json", MAKE) == Ran(project.uri_of(MAKE), True, 0)
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


def test_offline_the_registry_is_not_asked_for_an_input(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget
) -> None:
    uri = pantry.run("contract.json", MAKE, push=True).uri
    shutil.rmtree(project.out)
    project.write_contract(inputs=[{"name": "docs", "uri": uri}])
    before = len(registry.calls)
    elsewhere = open_pantry("elsewhere")
    with pytest.raises(NotFound) as caught:
        elsewhere.run("contract.json", ["sh", "-c", "mkdir out"], offline=True)
    assert (caught.value.code, caught.value.where) == ("E_NOT_FOUND", f"cache {elsewhere.cache.root}")
    assert caught.value.what == f"the cache does not have {uri}, and offline the registry is not asked"
    assert caught.value.fix == f"`ctxpack pull {uri}` brings it into the cache"
    assert len(registry.calls) == before
    elsewhere.pull(uri)
    before = len(registry.calls)
    assert not elsewhere.run("contract.json", ["sh", "-c", "mkdir out"], offline=True).hit
    assert len(registry.calls) == before


def test_offline_only_the_cache_is_asked(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget
) -> None:
    pantry.run("contract.json", MAKE, push=True)
    shutil.rmtree(project.out)
    before = len(registry.calls)
    assert not open_pantry("elsewhere").run("contract.json", MAKE, offline=True).hit
    assert open_pantry("elsewhere").run("contract.json", MAKE, offline=True).hit
    assert len(registry.calls) == before


def test_other_content_at_an_outputs_place_is_kept_on_a_hit_unless_forced(pantry: Pantry, project: Project) -> None:
    pantry.run("contract.json", MAKE)
    (project.out / "joined").write_text("my own notes")
    with pytest.raises(InvalidInput, match=r"^\./out: something else is there already"):
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
    assert pantry.run("contract.json", fail, push=True) == Ran(project.uri_of(fail), False, 7)
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


@pytest.mark.parametrize("member", ["manifest.json", "files.jsonl", "artifacts/joined"])
@pytest.mark.parametrize("pushed", [False, True])
def test_a_damaged_pack_in_the_cache_is_fetched_anew_or_made_anew(
    pantry: Pantry, project: Project, notices: list[str], member: str, pushed: bool
) -> None:
    pantry.run("contract.json", MAKE, push=pushed)
    folder = pantry.cache.find(uri_digest(project.uri_of(MAKE)))
    assert folder is not None
    damaged = Path(folder, member)
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    shutil.rmtree(project.out)
    assert pantry.run("contract.json", MAKE) == Ran(project.uri_of(MAKE), pushed, 0, "the registry" if pushed else None)
    assert contents(project.out) == {"joined": "alphabeta"}
    assert runs(project) == 2 - pushed
    [notice] = notices
    assert notice.startswith("the cached pack is damaged, and was set aside in ")
    assert str(damaged) in notice
    assert pantry.verify().packs[0].damage == ""


def test_what_a_damaged_pack_holds_is_replaced_by_no_run_unless_forced(pantry: Pantry, project: Project) -> None:
    """What was placed may be its only good copy; but what a run left may be replaced, since that is made again."""
    pantry.run("contract.json", MAKE)
    folder = pantry.cache.find(uri_digest(project.uri_of(MAKE)))
    assert folder is not None
    shutil.rmtree(project.out)
    pantry.run("contract.json", MAKE)
    shutil.rmtree(pantry.cache.side("runs"))
    (Path(folder) / "artifacts/joined").chmod(0o644)
    (Path(folder) / "artifacts/joined").write_text("damaged!!")
    project.write_contract(params={"other": True})
    with pytest.raises(InvalidInput, match="something else is there already"):
        pantry.run("contract.json", MAKE)
    assert contents(project.out) == {"joined": "alphabeta"}
    assert runs(project) == 1


def test_outputs_of_an_earlier_run_are_absent_at_the_start_and_gone_at_the_end(
    pantry: Pantry, project: Project
) -> None:
    """Case 04: an input is deleted, and the new pack has no output of it."""
    each = shell("mkdir out; for f in raw_docs/*.txt; do cp $f out/; done")
    assert not pantry.run("contract.json", each).hit
    (project.inputs / "b.txt").unlink()
    assert not pantry.run("contract.json", each).hit
    assert contents(project.out) == {"a.txt": "alpha"}
    assert contents(pantry.pull(project.uri_of(each)).folder) == {"a.txt": "alpha"}


def test_what_a_failed_run_left_is_in_no_later_pack(
    pantry: Pantry, project: Project, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = shell('eval "$JOB"')
    monkeypatch.setenv("JOB", "mkdir -p out; echo part >out/part; exit 9")
    assert pantry.run("contract.json", job).status == 9
    monkeypatch.setenv("JOB", "mkdir -p out; echo whole >out/whole")
    notices.clear()
    assert pantry.run("contract.json", job).status == 0
    assert contents(project.out) == {"whole": "whole\n"}
    assert notices == [
        "./out: what a failed run of this contract left is deleted; --keep-outputs would keep it",
    ]


def test_what_a_failed_run_left_can_be_kept_which_is_a_weak_point(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = shell('eval "$JOB"')
    monkeypatch.setenv("JOB", "mkdir -p out; echo part >out/part; exit 9")
    assert pantry.run("contract.json", job).status == 9
    monkeypatch.setenv("JOB", "echo rest >out/rest")
    assert pantry.run("contract.json", job, keep_outputs=True).status == 0
    assert contents(project.out) == {"part": "part\n", "rest": "rest\n"}
    [pack] = pantry.list_packs().packs
    assert pack.manifest is not None
    assert [point["code"] for point in pack.manifest.provenance["weak"]] == ["kept"]


def test_what_is_the_users_own_is_refused_before_the_command_runs(pantry: Pantry, project: Project) -> None:
    project.make_outputs("my own")
    before = contents(project.out)
    with pytest.raises(InvalidInput, match="something else is there already") as caught:
        pantry.run("contract.json", MAKE)
    assert caught.value.code == "E_OCCUPIED"
    assert runs(project) == 0
    assert contents(project.out) == before
    assert [path.name for path in project.root.glob(".*")] == []


@pytest.mark.parametrize(
    ("script", "found"),
    [("exit 3", "old"), ("mkdir out; exit 3", "old"), ("true", "old"), ("mkdir out; echo new >out/x; exit 3", "new")],
)
def test_what_was_moved_aside_comes_back_when_the_command_fails_and_leaves_nothing(
    pantry: Pantry, project: Project, notices: list[str], script: str, found: str
) -> None:
    """Also what only --force moved away; where the command left something, that stays beside it, and is said."""
    project.make_outputs("my own")
    own = contents(project.out)
    notices.clear()
    if script == "true":
        with pytest.raises(InvalidInput, match="did not make this output"):
            pantry.run("contract.json", shell(script), force=True)
    else:
        assert pantry.run("contract.json", shell(script), force=True).status == 3
    beside = list(project.root.glob(".*"))
    if found == "old":
        assert (contents(project.out), beside) == (own, [])
        with pytest.raises(InvalidInput, match="something else is there already"):
            pantry.run("contract.json", shell(script))
    else:
        [kept] = beside
        assert (contents(project.out), contents(kept)) == ({"x": "new\n"}, own)
        assert notices == [f"what was at ./out is in {kept}"]


@pytest.mark.parametrize("output", [".", "..", "contract.json", "raw_docs", "raw_docs/..", "ingest.sh"])
def test_an_output_that_holds_what_a_run_needs_is_refused_before_anything_runs(
    pantry: Pantry, project: Project, output: str
) -> None:
    project.write_contract(outputs=[{"path": output, "name": "o"}])
    before = contents(project.root)
    for force in (False, True):
        with pytest.raises(InvalidInput) as caught:
            pantry.run("contract.json", MAKE, force=force)
        assert caught.value.code in ("E_OUTPUT_HOLDS", "E_OUTPUT_INSIDE", "E_INPUT_OUTPUT")
    assert contents(project.root) == before
    assert runs(project) == 0


def test_an_output_that_holds_the_current_folder_is_refused(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.out / "below").mkdir(parents=True)
    monkeypatch.chdir(project.out / "below")
    with pytest.raises(InvalidInput, match="the output holds the current folder"):
        pantry.run(str(project.contract), MAKE)
    assert (project.out / "below").is_dir()


@pytest.mark.parametrize("restore", ["true", "cp ../copy raw_docs/a.txt", "mv ../copy raw_docs/a.txt"])
def test_an_input_that_changed_and_changed_back_is_refused(pantry: Pantry, project: Project, restore: str) -> None:
    """Case S15: the same content again, but nobody knows which the outputs are from."""
    shutil.copy2(project.inputs / "a.txt", project.root.parent / "copy")
    script = f"mkdir out; printf other >raw_docs/a.txt; {restore}"
    with pytest.raises(InvalidInput) as caught:
        pantry.run("contract.json", shell(script))
    assert caught.value.code == "E_INPUT_CHANGED"
    assert pantry.list_packs().packs == ()


def test_an_input_that_got_a_hard_link_is_a_weak_point(pantry: Pantry, project: Project, notices: list[str]) -> None:
    """As a backup makes it: of all that stat(2) says, ctime alone changes."""
    linked = shell("mkdir out; ln raw_docs/a.txt ../backup")
    assert pantry.run("contract.json", linked).status == 0
    [pack] = pantry.list_packs().packs
    assert pack.manifest is not None
    [point] = pack.manifest.provenance["weak"]
    assert point["code"] == "touched"
    assert point["what"].startswith("input raw_docs: a.txt: ctime changed while the command ran")
    assert f"weak point: {point['what']}" in notices


RANDOM = shell("echo ran >>../log && mkdir -p out && wc -l <../log >out/joined")
"""A command that gives other outputs each time."""


@pytest.fixture
def rival(open_pantry: Callable[..., Pantry], project: Project) -> Pantry:
    """Another machine, whose pack of RANDOM is in the registry; its outputs are not here."""
    rival = open_pantry("rival")
    rival.run("contract.json", RANDOM, push=True)
    shutil.rmtree(project.out)
    return rival


def test_a_push_that_finds_other_outputs_adopts_them(
    pantry: Pantry, project: Project, rival: Pantry, notices: list[str]
) -> None:
    ran = pantry.run("contract.json", RANDOM, push=True, offline=True)
    assert runs(project) == 2
    assert (ran.hit, ran.adopted, ran.status) == (False, True, 0)
    assert ran.pushed is not None
    [theirs], [ours] = rival.list_packs().packs, pantry.list_packs().packs
    assert theirs.manifest is not None
    assert ours.manifest == theirs.manifest
    assert ran.pushed.outputs == theirs.manifest.outputs_digest
    assert contents(project.out) == contents(Path(ours.folder, "artifacts")) == {"joined": "1\n"}
    assert "--on-conflict=fail" in notices[-1]
    assert pantry.run("contract.json", RANDOM, push=True).hit


def test_a_cached_hit_that_finds_other_outputs_adopts_them_too(pantry: Pantry, project: Project, rival: Pantry) -> None:
    pantry.run("contract.json", RANDOM, offline=True)
    ran = pantry.run("contract.json", RANDOM, push=True)
    assert (ran.hit, ran.adopted) == (True, True)
    assert contents(project.out) == {"joined": "1\n"}


def test_what_somebody_changed_meanwhile_is_not_replaced_by_adopted_outputs(
    pantry: Pantry, project: Project, rival: Pantry
) -> None:
    pantry.run("contract.json", RANDOM, offline=True)
    key = uri_digest(project.uri_of(RANDOM))
    (project.out / "joined").unlink()
    (project.out / "joined").write_text("mine")
    with pytest.raises(InvalidInput, match="something else is there already"):
        pantry.run("contract.json", RANDOM, push=True)
    assert contents(project.out) == {"joined": "mine"}
    folder = pantry.cache.find(key)
    assert folder is not None
    assert contents(Path(folder, "artifacts")) == {"joined": "2\n"}


@pytest.mark.parametrize("options", [{"on_conflict": "fail"}, {"recompute": True}])
def test_a_conflict_fails_when_that_was_asked_for(
    pantry: Pantry, project: Project, rival: Pantry, options: dict[str, Any]
) -> None:
    with pytest.raises(Conflict, match=r"--replace.*rm --registry URI.*salt"):
        pantry.run("contract.json", RANDOM, push=True, offline=True, **options)
    assert contents(project.out) == {"joined": "2\n"}
    [pack] = pantry.list_packs().packs
    assert contents(Path(pack.folder, "artifacts")) == {"joined": "2\n"}


def test_a_recomputation_runs_though_there_is_a_pack_and_replaces_it(
    pantry: Pantry, project: Project, rival: Pantry, notices: list[str]
) -> None:
    first = pantry.run("contract.json", RANDOM)
    assert first.hit
    again = pantry.run("contract.json", RANDOM, recompute=True)
    assert (again.hit, again.uri) == (False, first.uri)
    assert contents(project.out) == {"joined": "2\n"}
    [pack] = pantry.list_packs().packs
    assert contents(Path(pack.folder, "artifacts")) == {"joined": "2\n"}
    assert "the cached pack had other outputs" in notices[-1]
    replaced = pantry.run("contract.json", RANDOM, recompute=True, push=True, replace=True).pushed
    assert replaced is not None
    assert replaced.replaced is not None
    assert replaced.outputs != replaced.replaced.outputs
    assert contents(open_folder(rival, first.uri)) == {"joined": "3\n"}


def open_folder(pantry: Pantry, uri: CtxUri) -> str:
    """Return the outputs of the registry's pack."""
    pantry.remove(uri)
    return pantry.pull(uri).folder


def test_a_recomputation_with_the_same_outputs_changes_nothing(pantry: Pantry, project: Project) -> None:
    pantry.run("contract.json", MAKE)
    [before] = pantry.list_packs().packs
    assert not pantry.run("contract.json", MAKE, recompute=True).hit
    assert runs(project) == 2
    assert pantry.list_packs().packs == (before,)


def test_a_recomputation_that_fails_keeps_the_pack(pantry: Pantry, project: Project) -> None:
    once = shell("mkdir out && echo 1 >out/joined && mkdir ../once")
    pantry.run("contract.json", once)
    [before] = pantry.list_packs().packs
    assert pantry.run("contract.json", once, recompute=True).status == 1
    assert pantry.list_packs().packs == (before,)


def test_a_command_whose_arguments_are_hidden_is_no_part_of_contract_and_pack(pantry: Pantry, project: Project) -> None:
    secret = [*MAKE, "--api-key=X"]
    ran = pantry.run("contract.json", secret, argv=False)
    assert ran.uri == project.uri
    [pack] = pantry.list_packs().packs
    assert pack.manifest is not None
    assert pack.manifest.provenance["run"]["command"] == ["sh"]
    held = [path.read_bytes() for path in Path(pack.folder).rglob("*") if path.is_file()]
    assert not any(b"api-key" in data for data in held)
    assert pantry.run("contract.json", ["another"], argv=False).hit


def test_arguments_that_the_contract_file_names_cannot_be_hidden_which_is_said(
    pantry: Pantry, project: Project, notices: list[str]
) -> None:
    project.command = MAKE
    project.write_contract()
    assert pantry.run("contract.json", argv=False).uri == project.uri
    assert "the contract file names the command, so the pack shows its arguments" in notices


@pytest.mark.parametrize("options", [{"replace": True}, {"on_conflict": "win"}])
def test_options_that_mean_nothing_are_refused(pantry: Pantry, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        pantry.run("contract.json", MAKE, **options)
    assert caught.value.code == "E_USAGE"
