"""New content takes the place of old content: at any moment one of them is there whole, and nobody else's is lost."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_pantry import replacing
from ctxpack_pantry.replacing import Site, replace_all, replace_whole

Make = Callable[[Path], None]


def nothing(path: Path) -> None: ...


def empty(path: Path) -> None:
    path.mkdir()


def a_file(path: Path) -> None:
    path.write_text(f"a file named {path.name[:3]}")


def a_folder(path: Path) -> None:
    (path / "deep" / "empty").mkdir(parents=True)
    (path / "deep" / "one").write_text("1")
    (path / "two").write_text("2")


def a_sealed_folder(path: Path) -> None:
    """As a copy of a cached pack is that `cp -r` made."""
    a_folder(path)
    (path / "deep").chmod(0o555)
    path.chmod(0o555)


def a_link(path: Path) -> None:
    """To something in another folder, which stays."""
    (path.parent / "elsewhere").mkdir()
    a_folder(path.parent / "elsewhere" / "target")
    path.symlink_to("elsewhere/target")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("elsewhere/target")


OLD = [nothing, empty, a_file, a_folder, a_sealed_folder, a_link, a_dangling_link]


def read(path: Path) -> object:
    """What is at path, with links followed: None, a text, or the content of a folder."""
    if path.is_dir():
        return {str(one.relative_to(path)): one.read_text() if one.is_file() else None for one in path.rglob("*")}
    return path.read_text() if path.exists() else None


def new_file(fresh: str) -> None:
    Path(fresh).write_text("new")


def new_folder(fresh: str) -> None:
    Path(fresh, "sub").mkdir(parents=True)
    Path(fresh, "sub", "new").write_text("new")
    Path(fresh, "also").write_text("new")


NEW: dict[Callable[[str], None], object] = {
    new_file: "new",
    new_folder: {"sub": None, "sub/new": "new", "also": "new"},
}


def beside(path: Path) -> list[str]:
    """Hidden names beside what path leads to."""
    real = Path(os.path.realpath(path))
    return sorted(one.name for one in real.parent.glob(".*")) if real.parent.exists() else []


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "there"


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("make", NEW)
def test_what_is_there_is_replaced_and_a_link_stays(there: Path, old: Make, make: Callable[[str], None]) -> None:
    old(there)
    link = os.readlink(there) if there.is_symlink() else None
    replace_whole(str(there), make)
    assert read(there) == NEW[make]
    assert (os.readlink(there) if there.is_symlink() else None) == link
    assert beside(there) == beside(there.parent / "x") == []


@pytest.mark.parametrize("old", OLD)
def test_a_look_is_another_one_after_a_change_and_the_same_without_one(there: Path, old: Make) -> None:
    old(there)
    site = Site(str(there))
    looks = [site.look()]
    assert site.look() == looks[0]
    assert (looks[0] == "") is (old in (nothing, a_dangling_link))
    assert site.is_empty is (old in (nothing, a_dangling_link, empty))
    real = Path(site.real)
    real.parent.mkdir(exist_ok=True)
    if real.is_file():
        real.write_text("some other content")
    elif real.is_dir():
        real.chmod(0o755)
        (real / "more").write_text("")
    else:
        real.write_text("")
    looks.append(site.look())
    assert looks[0] != looks[1]
    assert not site.is_empty
    if real.is_dir():
        (real / "more").write_text("0")
        looks.append(site.look())
        (real / "more").rename(real / "less")
        looks.append(site.look())
    assert len({*looks}) == len(looks)


@pytest.mark.parametrize("old", [empty, a_file, a_folder, a_sealed_folder])
def test_what_is_moved_aside_and_back_looks_as_before(there: Path, old: Make) -> None:
    """A note of a run is valid for it still."""
    old(there)
    site, content = Site(str(there)), read(there)
    seen = site.look()
    site.move_aside(seen)
    assert (read(there), read(Path(site.old))) == (None, content)
    assert site.is_old(site.old)
    site.put_back()
    assert (site.look(), read(there), beside(there)) == (seen, content, [])


def change(path: Path) -> None:
    """Let somebody else write there."""
    if path.is_dir():
        (path / "theirs").write_text("theirs")
    else:
        path.write_text("theirs, not ours")


@pytest.mark.parametrize("old", [nothing, empty, a_file, a_folder])
@pytest.mark.parametrize("make", NEW)
def test_what_came_while_new_content_was_made_stays(there: Path, old: Make, make: Callable[[str], None]) -> None:
    """Case S7."""
    old(there)
    site = Site(str(there))
    seen = site.look()

    def make_slowly(fresh: str) -> None:
        make(fresh)
        change(there)

    with pytest.raises(InvalidInput) as caught:
        replace_all([(site, seen, make_slowly)])
    assert (caught.value.code, caught.value.where) == ("E_OCCUPIED", str(there))
    found = read(there)
    assert found == "theirs, not ours" or (isinstance(found, dict) and found["theirs"] == "theirs")
    assert beside(there) == []


@pytest.mark.parametrize("old", [a_file, a_folder])
@pytest.mark.parametrize("make", NEW)
@pytest.mark.parametrize("theirs", [a_file, a_folder])
def test_what_comes_after_the_old_content_was_moved_aside_stays_and_so_does_the_old(
    there: Path, old: Make, make: Callable[[str], None], theirs: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    old(there)
    before = read(there)
    real = replacing._rename_to_nothing

    def come(source: str, destination: str) -> None:
        theirs(there)
        real(source, destination)

    monkeypatch.setattr(replacing, "_rename_to_nothing", come)
    with pytest.raises((InvalidInput, LocalFailure)):
        replace_whole(str(there), make)
    came = there.parent / "x"
    theirs(came)
    if theirs is a_file:
        assert read(there) == "a file named the"
    else:
        assert read(there) == read(came)
    [kept] = beside(there)
    assert kept.endswith(".old")
    assert read(there.parent / kept) == before


@pytest.mark.parametrize("old", [nothing, a_file, a_folder, a_link])
@pytest.mark.parametrize("fault", [RuntimeError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space")])
def test_when_the_new_content_cannot_be_made_nothing_changes(there: Path, old: Make, fault: BaseException) -> None:
    old(there)
    before = read(there)

    def fail(fresh: str) -> None:
        new_folder(fresh)
        raise fault

    expected = LocalFailure if isinstance(fault, OSError) else type(fault)
    with pytest.raises(expected) as caught:
        replace_whole(str(there), fail)
    if isinstance(fault, OSError):
        assert str(caught.value) == f"{os.path.realpath(there)}: cannot be written: No space; nothing was changed there"
    assert (read(there), beside(there)) == (before, [])


def test_of_several_none_is_replaced_when_one_cannot_be_made(tmp_path: Path) -> None:
    def fail(fresh: str) -> None:
        raise RuntimeError

    (tmp_path / "x").mkdir()
    for name in ("a", "b"):
        (tmp_path / "x" / name).write_text("old")
    sites = [Site(str(tmp_path / "x" / name)) for name in ("a", "b")]
    with pytest.raises(RuntimeError):
        replace_all([(sites[0], sites[0].look(), new_file), (sites[1], sites[1].look(), fail)])
    assert read(tmp_path / "x") == {"a": "old", "b": "old"}


# --- what a killed process left


KINDS = ("new", "old", "gone", "kept")


def left(there: Path, kind: str, *, number: int = 0, name: str = "") -> Path:
    path = there.parent / f".{name or there.name}.{number:08x}.{kind}"
    a_folder(path)
    return path


def test_what_a_killed_process_left_unfinished_is_deleted_and_nothing_else(there: Path) -> None:
    there.write_text("here")
    for kind in ("new", "gone"):
        left(there, kind)
    others = [left(there, kind) for kind in ("old", "kept")]  # what is whole, and the user's
    others += [left(there, "new", name=name) for name in ("other", "ther", "there.x", "the")]
    for name in [
        "..there.00000000.new",
        ".there.0000000.new",
        ".there.0000000G.new",
        ".there.00000000.newer",
        ".there",
    ]:
        others.append(there.with_name(name))
        others[-1].mkdir()
    Site(str(there)).tidy()
    assert sorted(there.parent.iterdir()) == sorted([there, *others])


def test_the_newest_that_was_moved_aside_comes_back_when_nothing_is_there(there: Path) -> None:
    older, newest = left(there, "old", number=9), left(there, "old", number=8)
    (older / "text").write_text("older")
    (newest / "text").write_text("newest")
    while os.lstat(newest).st_ctime_ns <= os.lstat(older).st_ctime_ns:  # until the clock of the file system ticks
        newest.chmod(0o755)
    Site(str(there)).tidy()
    assert (there / "text").read_text() == "newest"
    assert beside(there) == [".there.00000009.old"]


@pytest.mark.parametrize("here", [a_file, a_folder, empty, a_dangling_link])
def test_what_was_moved_aside_stays_when_something_is_there(there: Path, here: Make) -> None:
    here(there)
    (Path(os.path.realpath(there)).parent).mkdir(exist_ok=True)
    site = Site(str(there))
    before = read(there)
    old = left(Path(site.real), "old")
    site.tidy()
    assert (read(there) == before and old.exists()) or here is a_dangling_link


def test_what_another_user_left_is_not_touched(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = left(there, "new")
    monkeypatch.setattr("ctxpack_pantry.replacing.os.geteuid", lambda: os.lstat(theirs).st_uid + 1)
    Site(str(there)).tidy()
    assert theirs.exists()


def test_nothing_to_tidy_where_no_folder_is(there: Path) -> None:
    there.write_text("a file")
    for path in (there / "below", there.parent / "none" / "x"):
        Site(str(path)).tidy()
        assert Site(str(path)).is_empty
        assert Site(str(path)).look() == ""


# --- names


@pytest.mark.parametrize("letter", ["x", "é", "\udcff"])
@pytest.mark.parametrize("make", NEW)
def test_a_name_may_have_255_bytes(there: Path, letter: str, make: Callable[[str], None]) -> None:
    path = there.with_name(letter * (255 // len(os.fsencode(letter))))
    for _ in range(2):
        replace_whole(str(path), make)
        assert read(path) == NEW[make]
    assert os.listdir(there.parent) == [path.name]


@pytest.mark.parametrize("kind", ["new", "old", "gone"])
def test_names_that_begin_with_the_same_200_bytes_are_apart(there: Path, kind: str) -> None:
    """What one process makes beside one of them is not what a killed process left of the other."""
    one, other = (Site(str(there.with_name("x" * 200 + end))) for end in ("a", "b"))
    mine = Path(one.fresh).with_suffix(f".{kind}")
    a_folder(mine)
    other.tidy()
    assert mine.exists()
    assert not other.is_old(str(mine))


@pytest.mark.parametrize("path", ["there/", "there//", "./there", "x/../there", "there/."])
def test_every_spelling_of_a_path_is_the_same_site(there: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there.parent)
    (there.parent / "x").mkdir()
    there.mkdir()
    site = Site(path)
    assert (site.path, site.real) == (path, str(there))


# --- what stays: mount points, folders of a lower layer of overlayfs


@pytest.fixture
def mount(there: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that rename(2) refuses to move, as it does with a mount point."""
    a_folder(there)
    real = os.rename

    def rename(source: str, destination: str) -> None:
        if os.path.realpath(source) == str(there):
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, destination)

    monkeypatch.setattr("ctxpack_pantry.replacing.os.rename", rename)
    monkeypatch.setattr(replacing, "is_mount", lambda path: path == str(there))
    return there


def test_the_contents_of_a_mount_point_are_replaced(mount: Path) -> None:
    inode = mount.stat().st_ino
    for _ in range(2):
        replace_whole(str(mount), new_folder)
        assert (read(mount), mount.stat().st_ino) == (NEW[new_folder], inode)
    assert os.listdir(mount.parent) == ["there"]


def test_what_came_into_a_mount_point_stays(mount: Path) -> None:
    def make(fresh: str) -> None:
        new_folder(fresh)
        change(mount)

    with pytest.raises(InvalidInput, match="changed meanwhile"):
        replace_whole(str(mount), make)
    found = read(mount)
    assert isinstance(found, dict)
    assert (found["two"], found["deep/one"], found["theirs"]) == ("2", "1", "theirs")
    assert sorted(os.listdir(mount)) == ["deep", "theirs", "two"]


def test_what_a_killed_process_left_in_a_mount_point_is_tidied_and_does_not_count(mount: Path) -> None:
    site = Site(str(mount))
    before = site.look()
    Path(site.fresh).mkdir()
    assert site.look() == before
    Path(site.fresh).rmdir()
    (mount / f".{mount.name}.00000000.new").mkdir()
    assert site.look() != before
    site.tidy()
    assert site.look() == before


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_folder_that_turns_out_to_be_fixed_keeps_its_place(
    there: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A folder of a lower layer of overlayfs does not look like one."""
    a_folder(there)
    real = os.rename

    def rename(source: str, destination: str) -> None:
        if source == str(there):
            raise OSError(number, "refused")
        real(source, destination)

    monkeypatch.setattr("ctxpack_pantry.replacing.os.rename", rename)
    inode = there.stat().st_ino
    replace_whole(str(there), new_folder)
    assert (read(there), there.stat().st_ino, beside(there)) == (NEW[new_folder], inode, [])


@pytest.mark.skipif(sys.platform != "linux", reason="needs user namespaces")
def test_a_real_mount_point_is_refilled(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path[:] = {[str(Path(__file__).parent), *sys.path]!r}
from ctxpack_pantry.replacing import Site, replace_whole
from test_replacing import NEW, new_folder, read
from pathlib import Path
there = Path("there")
(there / "old").write_text("old")
assert Site("there").stays
replace_whole("there", new_folder)
assert read(there) == NEW[new_folder], read(there)
assert os.path.ismount(there)
print("done")
"""
    (tmp_path / "there").mkdir()
    inside = f'mount -t tmpfs none there && exec {sys.executable} -c "$1"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh", script]
    try:
        probe = subprocess.run([*unshare[:4], "mount", "-t", "tmpfs", "none", "there"], cwd=tmp_path, check=False)
    except OSError:
        pytest.skip("no unshare here")
    if probe.returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run(unshare, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "done\n")


# --- stopped at any step


STEPS = ("rename", "link", "unlink", "rmdir", "mkdir", "scandir", "listdir", "chmod", "makedirs")


class Killed(BaseException):
    """In place of SIGKILL: no clean-up runs after it, since every further step fails as well."""


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let the step of this number, counted from 1, raise; and each later one, if for_ever. 0: none."""
    state = {"left": 0, "for_ever": False}
    fault: list[BaseException] = []

    def arrange(step: int, error: BaseException, *, for_ever: bool = False) -> None:
        state.update(left=step, for_ever=for_ever)
        fault[:] = [error]

    def wrap(real: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            if state["left"] > 0:
                state["left"] -= 1
                if state["left"] == 0:
                    state["left"] = 1 if state["for_ever"] else -1
                    raise fault[0]
            return real(*given, **named)

        return call

    for name in STEPS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    yield arrange
    state["left"] = 0


@pytest.mark.parametrize("old", [nothing, empty, a_file, a_folder, a_sealed_folder, a_link])
@pytest.mark.parametrize("make", NEW)
@pytest.mark.parametrize("kind", ["OSError", "KeyboardInterrupt", "killed"])
def test_stopped_at_any_step_old_or_new_content_is_there_or_comes_back_whole(
    tmp_path: Path, stop_at: Callable[..., None], old: Make, make: Callable[[str], None], kind: str
) -> None:
    fault = {"OSError": OSError(errno.EIO, "I/O error"), "KeyboardInterrupt": KeyboardInterrupt(), "killed": Killed()}
    stopped = 0
    for step in itertools.count(1):
        stop_at(0, Killed())
        folder = tmp_path / str(step)
        folder.mkdir()
        there = folder / "there"
        old(there)
        (folder / "mine").write_text("the user's own")
        before = read(there)
        site = Site(str(there))
        seen = site.look()
        stop_at(step, fault[kind], for_ever=kind == "killed")
        try:
            replace_all([(site, seen, make)])
            stop_at(0, Killed())
            assert read(there) == NEW[make]
            if not stopped or step > stopped + 1:
                break
            continue
        except (LocalFailure, KeyboardInterrupt, Killed) as error:
            stop_at(0, Killed())
            stopped = step
            caught = error
        found = read(there)
        aside = [Path(site.real).parent / name for name in beside(there)]
        if kind != "killed":
            assert found in (before, NEW[make]) or (found is None and before == {}), (step, found)
            assert not [path for path in aside if path.name.endswith(".new")], (step, aside)
        if isinstance(caught, LocalFailure) and found != before and site.old in map(str, aside):
            assert site.old in str(caught)
        Site(str(there)).tidy()
        assert read(there) in (before, NEW[make]) or before in (None, {}), step
        assert not [path for path in aside if path.exists() and path.suffix != ".old"]
        assert (folder / "mine").read_text() == "the user's own"
    assert stopped >= 3
