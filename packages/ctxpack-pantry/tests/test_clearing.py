"""Before a command runs, its outputs are moved aside; whatever happens then, nothing of the user's is lost."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_project import contents

from ctxpack_bundle import OutputTree
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, InvalidInput, LocalFailure
from ctxpack_pantry import Context, Pantry
from ctxpack_pantry.clearing import Clearing, finish_killed
from ctxpack_pantry.replacing import Site
from ctxpack_pantry.runnotes import RunNote, RunNotes

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

URI = CtxUri("ctx://sha256:" + "0" * 64)
OTHER = CtxUri("ctx://sha256:" + "1" * 64)


@pytest.fixture
def context(cache: Cache, registry: FaultyTarget, notices: list[str]) -> Context:
    return context_of(cache, registry, notice=notices.append)


@pytest.fixture
def clear(context: Context, project: Project) -> Callable[..., Clearing]:
    """Return a clearing of out, or of outputs that are given."""

    def make(*paths: Path, uri: CtxUri = URI, force: bool = False, keep: bool = False) -> Clearing:
        outputs = {path.name: OutputTree(str(path)) for path in paths or (project.out,)}
        return Clearing(context, uri, outputs, force=force, keep=keep)

    return make


@pytest.fixture
def held(pantry: Pantry, project: Project) -> None:
    """What is at out can be made again: a cached pack holds it."""
    pantry.seed([], str(project.contract))


def write(path: Path, text: str = "made") -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "file").write_text(text)


def note_of(cache: Cache, path: Path) -> RunNote | None:
    return RunNotes(cache).read(os.path.realpath(path))


def beside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(".*"))


MADE = {"file": "made"}


# --- absent at the start, and what becomes of it


def test_outputs_are_absent_and_their_parents_exist(clear: Callable[..., Clearing], project: Project) -> None:
    places = [project.root / "new" / "deep" / name for name in ("one", "two")]
    with clear(*places) as clearing:
        assert places[0].parent.is_dir()
        assert not any(place.exists() for place in places)
        assert clearing.missing() == [str(place) for place in places]
        write(places[0])
        assert clearing.missing() == [str(places[1])]


def test_what_can_be_made_again_is_gone_once_the_command_made_something(
    clear: Callable[..., Clearing], project: Project, held: None
) -> None:
    for made in (False, True):
        with clear() as clearing:
            assert not project.out.exists()
            write(project.out)
            clearing.made = made
        assert contents(project.out) == MADE
        assert beside(project.out) == []


@pytest.mark.parametrize("leave", [lambda out: None, Path.mkdir], ids=["nothing", "an empty folder"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, InvalidInput("no")])
def test_it_comes_back_when_the_command_failed_and_left_nothing(
    clear: Callable[..., Clearing],
    cache: Cache,
    project: Project,
    held: None,
    leave: Callable[[Path], object],
    error: BaseException | None,
) -> None:
    before = contents(project.out)

    def run() -> None:
        with clear():
            leave(project.out)
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises((KeyboardInterrupt, InvalidInput)):
            run()
    assert contents(project.out) == before
    assert beside(project.out) == []
    assert note_of(cache, project.out) is None


def test_what_only_force_moved_comes_back_as_the_users_own(
    clear: Callable[..., Clearing], cache: Cache, project: Project
) -> None:
    before = contents(project.out)
    with clear(force=True):
        assert not project.out.exists()
    assert (contents(project.out), note_of(cache, project.out)) == (before, None)
    with pytest.raises(InvalidInput) as caught, clear():
        raise AssertionError
    assert caught.value.code == "E_OCCUPIED"


def test_what_only_force_moved_is_kept_beside_what_a_failed_command_left_and_said(
    clear: Callable[..., Clearing], project: Project, notices: list[str]
) -> None:
    before = contents(project.out)
    with clear(force=True):
        write(project.out)
    assert contents(project.out) == MADE
    [kept] = beside(project.out)
    assert contents(kept) == before
    assert notices == [f"what was at {project.out} is in {kept}"]
    for _ in range(2):  # no later run touches it
        with clear() as clearing:
            write(project.out)
            clearing.made = True
    assert (contents(kept), beside(project.out)) == (before, [kept])


def test_what_only_force_moved_is_gone_once_there_is_a_pack(clear: Callable[..., Clearing], project: Project) -> None:
    with clear(force=True) as clearing:
        write(project.out)
        clearing.made = True
    assert (contents(project.out), beside(project.out)) == (MADE, [])


def test_when_one_output_is_the_users_own_none_is_moved(
    clear: Callable[..., Clearing], cache: Cache, project: Project, held: None
) -> None:
    mine = project.root / "mine"
    write(mine, "my own")
    before = contents(project.root)
    with pytest.raises(InvalidInput) as caught, clear(project.out, mine):
        raise AssertionError
    assert caught.value.where == str(mine)
    assert contents(project.root) == before
    assert note_of(cache, project.out) is note_of(cache, mine) is None


def test_when_one_output_cannot_be_moved_the_others_come_back(
    clear: Callable[..., Clearing], project: Project, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = project.root / "other"
    shutil.copytree(project.out, other)
    before = contents(project.root)
    real = os.rename

    def rename(source: str, destination: str) -> None:
        if source == str(other):
            raise PermissionError(13, "Permission denied")
        real(source, destination)

    monkeypatch.setattr("ctxpack_pantry.replacing.os.rename", rename)
    with pytest.raises(LocalFailure, match="cannot be written: Permission denied"), clear(project.out, other):
        raise AssertionError
    assert contents(project.root) == before


# --- links and mount points


def test_a_link_stays_and_the_contents_of_what_it_leads_to_are_deleted(
    clear: Callable[..., Clearing], project: Project, held: None, tmp_path: Path
) -> None:
    """As the folder of another disk."""
    target = tmp_path / "disk" / "target"
    target.parent.mkdir()
    project.out.rename(target)
    project.out.symlink_to(target)
    inode = target.stat().st_ino
    with clear() as clearing:
        assert (contents(target), target.stat().st_ino) == ({}, inode)
        assert clearing.missing() == [str(project.out)]
        write(project.out)
        assert clearing.missing() == []
        clearing.made = True
    assert project.out.is_symlink()
    assert contents(target) == MADE
    assert beside(target) == beside(project.out) == []


def test_what_a_link_leads_to_is_refused_under_the_same_conditions(
    clear: Callable[..., Clearing], project: Project, tmp_path: Path
) -> None:
    write(tmp_path / "mine", "my own")
    shutil.rmtree(project.out)
    project.out.symlink_to(tmp_path / "mine")
    with pytest.raises(InvalidInput) as caught, clear():
        raise AssertionError
    assert caught.value.code == "E_OCCUPIED"
    assert contents(tmp_path / "mine") == {"file": "my own"}
    with clear(force=True):
        assert contents(tmp_path / "mine") == {}


def test_what_comes_to_where_a_run_was_killed_while_it_deleted_is_not_deleted(
    clear: Callable[..., Clearing], project: Project, held: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    project.out.rename(target)
    project.out.symlink_to(target)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr("ctxpack_pantry.replacing._remove", lambda path: os._exit(7))
        clear().__enter__()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    shutil.rmtree(target)
    write(target, "my own")
    with pytest.raises(InvalidInput) as caught, clear():
        raise AssertionError
    assert caught.value.code == "E_OCCUPIED"
    assert contents(target) == {"file": "my own"}


def test_the_contents_of_a_mount_point_are_deleted(
    clear: Callable[..., Clearing], project: Project, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxpack_pantry.replacing.is_mount", lambda path: path == str(project.out))
    inode = project.out.stat().st_ino
    with clear() as clearing:
        assert (contents(project.out), project.out.stat().st_ino) == ({}, inode)
        assert clearing.missing() == [str(project.out)]
        write(project.out)
        clearing.made = True
    assert contents(project.out) == MADE


def test_a_folder_that_cannot_be_moved_loses_its_contents(
    clear: Callable[..., Clearing], project: Project, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of a lower layer of overlayfs."""
    real = os.rename

    def rename(source: str, destination: str) -> None:
        if source == str(project.out):
            raise OSError(18, "Invalid cross-device link")
        real(source, destination)

    monkeypatch.setattr("ctxpack_pantry.replacing.os.rename", rename)
    with clear() as clearing:
        assert contents(project.out) == {}
        assert clearing.missing() == [str(project.out)]
        write(project.out)
        clearing.made = True
    assert contents(project.out) == MADE


# --- notes, and what a failed run left


def test_a_note_is_there_before_the_command_starts_and_says_what_is_there_after_it(
    clear: Callable[..., Clearing], cache: Cache, project: Project, held: None
) -> None:
    with clear():
        note = note_of(cache, project.out)
        assert note is not None
        assert (note.uri, note.ours, note.left, note.made, note.held) == (URI, True, "", False, True)
        assert contents(note.aside)["joined"] == "alphabeta"
        write(project.out)
    note = note_of(cache, project.out)
    assert note is not None
    assert note == RunNote(URI, ours=True, left=Site(str(project.out)).look(), began=note.began)


@pytest.mark.parametrize("uri", [URI, OTHER])
@pytest.mark.parametrize("made", [False, True])
def test_what_a_run_left_is_cleared_by_the_next_whatever_its_contract(
    clear: Callable[..., Clearing], project: Project, notices: list[str], uri: CtxUri, made: bool
) -> None:
    shutil.rmtree(project.out)
    with clear() as clearing:
        write(project.out)
        clearing.made = made
    with clear(uri=uri) as clearing:
        assert not project.out.exists()
        assert clearing.weak == ()
        write(project.out, "again")
        clearing.made = True
    assert contents(project.out) == {"file": "again"}
    what = "what a failed run of this contract left is deleted; --keep-outputs would keep it"
    assert notices == ([f"{project.out}: {what}"] if uri == URI and not made else [])


def test_what_the_user_changed_since_a_run_left_it_is_the_users_own(
    clear: Callable[..., Clearing], project: Project
) -> None:
    shutil.rmtree(project.out)
    with clear():
        write(project.out)
    write(project.out, "my own")
    for keep in (False, True):
        with pytest.raises(InvalidInput), clear(keep=keep):
            raise AssertionError
    assert contents(project.out) == {"file": "my own"}


def test_what_a_failed_run_of_the_same_contract_left_can_be_kept(
    clear: Callable[..., Clearing], project: Project, notices: list[str]
) -> None:
    """Checkpoints, for example. It is a weak point, once for each output."""
    shutil.rmtree(project.out)
    with clear(keep=True) as clearing:
        assert clearing.weak == ()
        write(project.out, "checkpoint")
    for _ in range(2):
        with clear(keep=True) as clearing:
            assert contents(project.out) == {"file": "checkpoint"}
            assert [point.code for point in clearing.weak] == ["kept"]
            assert "output out: " in clearing.weak[0].what
    assert notices == []


@pytest.mark.parametrize("made", [False, True])
def test_nothing_else_is_kept(clear: Callable[..., Clearing], project: Project, held: None, made: bool) -> None:
    """What a pack holds, what a run of another contract left, what a run made that did not fail."""
    with clear(keep=True) as clearing:
        assert not project.out.exists()
        assert clearing.weak == ()
        write(project.out)
        clearing.made = made
    with clear(uri=URI if made else OTHER, keep=True) as clearing:
        assert not project.out.exists()
        assert clearing.weak == ()


def test_a_failed_run_that_left_nothing_leaves_no_note(
    clear: Callable[..., Clearing], cache: Cache, project: Project
) -> None:
    shutil.rmtree(project.out)
    with clear():
        pass
    assert note_of(cache, project.out) is None
    write(project.out, "my own")
    with pytest.raises(InvalidInput), clear():
        raise AssertionError


def test_what_came_back_of_a_failed_run_is_still_that_of_a_failed_run(
    clear: Callable[..., Clearing], project: Project
) -> None:
    shutil.rmtree(project.out)
    with clear():
        write(project.out, "checkpoint")
    with clear(uri=OTHER):
        pass
    with clear(keep=True) as clearing:
        assert contents(project.out) == {"file": "checkpoint"}
        assert [point.code for point in clearing.weak] == ["kept"]


# --- killed


CHANGES = frozenset(f"os.{name}" for name in ("rename", "remove", "rmdir", "mkdir", "link", "symlink", "chmod"))


def kill_at(step: int, run: Callable[[], None]) -> bool:
    """Run in a process that ends without any clean-up before this change of a disk; return whether it got there."""
    child = os.fork()
    if child == 0:
        left = step

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            is_written = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_CREAT | os.O_WRONLY)
            if event in CHANGES or is_written:
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def everywhere(path: Path) -> list[dict[str, str]]:
    """What is at path, and what is beside it: moved aside, or kept for the user."""
    found = [one for one in beside(path) if one.suffix in (".old", ".kept")]
    return [read(one) for one in [path, *found] if one.exists()]


def read(path: Path) -> dict[str, str]:
    return contents(path) if path.is_dir() else {"": path.read_text()}


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


COMMANDS: dict[str, Callable[[Path], None]] = {
    "makes all": lambda out: write(out),
    "fails and leaves nothing": lambda out: None,
    "fails and leaves some": lambda out: write(out, "part"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("then", ["another run", "the same run, keeping", "tidying alone"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_killed_at_any_step_the_users_own_is_never_lost(
    clear: Callable[..., Clearing], context: Context, project: Project, command: str, then: str, kind: str
) -> None:
    """Forced out of the way, it is deleted only once there is a pack; after a kill it is at its place or beside it."""
    keep = project.root.parent / "copy"
    project.out.rename(keep)
    if kind == "file":
        keep = keep / "joined"
    place = shutil.copytree if keep.is_dir() else shutil.copyfile
    place(keep, project.out)
    own = read(keep)
    marker = project.root / "made"

    def run() -> None:
        with clear(force=True) as clearing:
            COMMANDS[command](project.out)
            if command == "makes all":
                marker.touch()
                clearing.made = True

    for step in itertools.count(1):
        killed = kill_at(step, run)
        assert marker.exists() or own in everywhere(project.out), step
        if then == "tidying alone":
            site = Site(str(project.out))
            finish_killed(context, [site])
            site.tidy()
        else:
            try:
                with clear(keep=then == "the same run, keeping"):
                    assert own in everywhere(project.out) or marker.exists(), step
            except InvalidInput:
                assert read(project.out) == own, step  # it came back, and is the user's own still
        assert marker.exists() or own in everywhere(project.out), step
        assert not [one for one in beside(project.out) if one.suffix in (".new", ".gone")], step
        for path in [project.out, *beside(project.out)]:
            remove(path)
        marker.unlink(missing_ok=True)
        RunNotes(context.cache).replace(os.path.realpath(project.out), None)
        place(keep, project.out)
        if not killed:
            break
    assert step > 8


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_any_step_the_next_run_needs_no_force(
    clear: Callable[..., Clearing], context: Context, project: Project, held: None, command: str
) -> None:
    """What was there can be made again, and what is there is the run's; nothing stays beside it."""
    keep = project.root.parent / "copy"
    shutil.copytree(project.out, keep)

    def run() -> None:
        with clear() as clearing:
            COMMANDS[command](project.out)
            clearing.made = command == "makes all"

    for step in itertools.count(1):
        killed = kill_at(step, run)
        with clear() as clearing:
            assert not project.out.exists(), step
            write(project.out, "next")
            clearing.made = True
        assert (contents(project.out), beside(project.out)) == ({"file": "next"}, []), step
        shutil.rmtree(project.out)
        RunNotes(context.cache).replace(os.path.realpath(project.out), None)
        shutil.copytree(keep, project.out)
        if not killed:
            break
    assert step > 8


def test_what_the_user_put_there_after_a_kill_is_the_users_own(
    clear: Callable[..., Clearing], project: Project, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        with clear():
            write(project.out)
            os._exit(9)

    monkeypatch.setattr("ctxpack_pantry.clearing.TICK_NS", 0)  # the test does not wait for a tick
    write(project.root / "earlier", "my own")
    child = os.fork()
    if child == 0:
        run()
    os.waitpid(child, 0)
    shutil.rmtree(project.out)
    (project.root / "earlier").rename(project.out)
    with pytest.raises(InvalidInput), clear():
        raise AssertionError
    assert contents(project.out) == {"file": "my own"}


def test_checkpoints_of_a_killed_run_can_be_kept(clear: Callable[..., Clearing], project: Project) -> None:
    shutil.rmtree(project.out)
    child = os.fork()
    if child == 0:
        clearing = clear()
        clearing.__enter__()
        write(project.out, "checkpoint")
        os._exit(9)
    os.waitpid(child, 0)
    with clear(keep=True) as clearing:
        assert contents(project.out) == {"file": "checkpoint"}
        assert [point.code for point in clearing.weak] == ["kept"]


@pytest.mark.parametrize("aside", ["/etc", "other", ".out.00000000.new", "sub/.out.00000000.old", ".out.0.old"])
def test_a_damaged_note_leads_to_nothing_else(
    context: Context, project: Project, aside: str, notices: list[str]
) -> None:
    shutil.rmtree(project.out)
    for name in ("other", ".out.00000000.new", "sub/.out.00000000.old", ".out.0.old"):
        write(project.root / name, "my own")
    before = contents(project.root)
    site = Site(str(project.out))
    note = RunNote(URI, ours=True, aside=os.path.join(str(project.root), aside), held=True)
    RunNotes(context.cache).write(site.real, note)
    finish_killed(context, [site])
    assert contents(project.root) == before
    assert notices == []
