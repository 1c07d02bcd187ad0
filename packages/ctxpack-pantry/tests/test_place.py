"""A pack's outputs become ordinary files; content that no cached pack holds is replaced only with force."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_project import contents, state

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import CtxUri, InvalidInput, LocalFailure, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.place import Placing, all_into, each_to, place

if TYPE_CHECKING:
    from pantry_project import Project


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache that holds the content of project.out."""
    return pantry.seed([], str(project.contract)).uri


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The destination of the outputs."""
    return tmp_path / "there"


def temporary_names(there: Path) -> list[str]:
    """Hidden names in the folder of the destination, which an unfinished replacement would leave."""
    return [path.name for path in there.parent.glob(".*")]


def nothing(there: Path, project: Project) -> None:
    """Leave the destination as it is."""


def empty_folder(there: Path, project: Project) -> None:
    there.mkdir()


def other_pack(there: Path, project: Project) -> None:
    """Put outputs there that a pack in the cache holds."""
    there.mkdir()
    (there / "older").write_text("outputs")
    project.write_contract(params={"older": True})
    pantry = Pantry(project.settings)
    pantry.seed({"out": str(there)}, str(project.contract))


@pytest.mark.parametrize("prepare", [nothing, empty_folder, other_pack])
def test_an_empty_folder_and_outputs_of_a_cached_pack_are_replaced(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path, prepare: Callable[[Path, Project], None]
) -> None:
    prepare(there, project)
    assert pantry.pull(uri, str(there)).folder == str(there)
    assert contents(there) == contents(project.out)
    assert temporary_names(there) == []


def test_outputs_that_are_the_same_already_are_not_written(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path
) -> None:
    pantry.pull(uri, str(there))
    before = state(there / "joined")
    pantry.pull(uri, str(there))
    assert state(there / "joined") == before


def changed_file(there: Path, project: Project) -> None:
    there.mkdir()
    (there / "joined").write_text("my own notes")


def one_more_file(there: Path, project: Project) -> None:
    project.out.rename(there)
    (there / "more").write_text("my own notes")


def a_file(there: Path, project: Project) -> None:
    there.write_text("my own notes")


def a_link_to_the_same(there: Path, project: Project) -> None:
    there.symlink_to(project.out)


def a_dangling_link(there: Path, project: Project) -> None:
    there.symlink_to("nowhere")


def a_folder_with_a_link(there: Path, project: Project) -> None:
    there.mkdir()
    (there / "link").symlink_to(project.out)


def a_folder_with_a_pipe(there: Path, project: Project) -> None:
    there.mkdir()
    os.mkfifo(there / "pipe")


def a_folder_with_an_odd_name(there: Path, project: Project) -> None:
    there.mkdir()
    (there / "a\\b").write_text("my own notes")


def outputs_of_a_damaged_pack(there: Path, project: Project) -> None:
    other_pack(there, project)
    for pack in Pantry(project.settings).cache.packs():
        manifest = Path(pack.path, "manifest.json")
        if '{"older":true}' in manifest.read_text():
            manifest.chmod(0o644)
            manifest.write_text("no manifest")


NOT_IN_THE_CACHE = [
    changed_file,
    one_more_file,
    a_file,
    a_link_to_the_same,
    a_dangling_link,
    a_folder_with_a_link,
    a_folder_with_a_pipe,
    a_folder_with_an_odd_name,
    outputs_of_a_damaged_pack,
]


@pytest.mark.parametrize("prepare", NOT_IN_THE_CACHE)
def test_other_content_at_the_destination_is_kept(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path, prepare: Callable[[Path, Project], None]
) -> None:
    prepare(there, project)
    before = state(there)
    with pytest.raises(InvalidInput) as caught:
        pantry.pull(uri, str(there))
    assert str(caught.value) == (
        f"{there}: something else is there already: expected nothing, an empty folder, or outputs that a pack in the "
        "cache holds; move it away, choose another place, or replace it with --force"
    )
    assert caught.value.code == "E_OCCUPIED"
    assert state(there) == before
    assert temporary_names(there) == []


@pytest.mark.parametrize("suffix", ["/", "//", "/.", "/../there"])
@pytest.mark.parametrize("prepare", [a_file, a_dangling_link, changed_file, a_link_to_the_same])
def test_every_spelling_of_a_path_is_the_same_destination(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path, prepare: Callable[[Path, Project], None], suffix: str
) -> None:
    """os.path.lexists("file/") is False, although writing there would replace the file."""
    prepare(there, project)
    with pytest.raises(InvalidInput, match="something else is there already"):
        pantry.pull(uri, f"{there}{suffix}")
    assert os.path.lexists(there)
    assert temporary_names(there) == []


@pytest.mark.parametrize("name", [".", "./", "../there", "below/.."])
def test_the_current_folder_is_a_destination_like_any_other(
    pantry: Pantry, uri: CtxUri, there: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (there / "below").mkdir(parents=True)
    (there / "notes").write_text("my own notes")
    monkeypatch.chdir(there)
    with pytest.raises(InvalidInput, match="something else is there already"):
        pantry.pull(uri, name)
    assert contents(there) == {"below": "/", "notes": "my own notes"}


def test_an_empty_destination_is_refused(
    pantry: Pantry, uri: CtxUri, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `--output "$UNSET"`, where it would be the current folder."""
    there.mkdir()
    (there / "notes").write_text("my own notes")
    monkeypatch.chdir(there)
    for force in (False, True):
        with pytest.raises(InvalidInput, match="output: the name of the folder is empty; name one, or leave it out"):
            pantry.pull(uri, "", force=force)
    assert contents(there) == {"notes": "my own notes"}


@pytest.mark.parametrize("prepare", NOT_IN_THE_CACHE)
def test_force_replaces_the_destination_and_nothing_else(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path, prepare: Callable[[Path, Project], None]
) -> None:
    held = contents(project.out)
    prepare(there, project)
    pantry.pull(uri, str(there), force=True)
    assert contents(there) == held
    assert not there.is_symlink()
    assert prepare is one_more_file or contents(project.out) == held  # the target of a link is kept
    assert temporary_names(there) == []


def test_executable_bits_are_placed_and_the_umask_decides_the_rest(
    pantry: Pantry, uri: CtxUri, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = os.umask(0o027)
    try:
        pantry.pull(uri, str(there))
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(there / "tool").st_mode) == 0o750
    assert stat.S_IMODE(os.stat(there / "joined").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(there / "deep").st_mode) == 0o750


def test_folders_above_the_destination_are_made(pantry: Pantry, project: Project, uri: CtxUri, there: Path) -> None:
    pantry.pull(uri, str(there / "a" / "b"))
    assert contents(there / "a" / "b") == contents(project.out)


def test_a_file_in_place_of_a_folder_above_is_a_local_failure(pantry: Pantry, uri: CtxUri, there: Path) -> None:
    there.write_text("my own notes")
    with pytest.raises(LocalFailure, match=r"cannot be written: .*; nothing was changed there"):
        pantry.pull(uri, str(there / "below"))
    assert there.read_text() == "my own notes"


def test_a_pack_of_one_file_is_placed_as_that_file(pantry: Pantry, project: Project, there: Path) -> None:
    project.write_contract(outputs=[{"path": "./out/joined"}])
    folder = pantry.seed([], str(project.contract)).folder
    placings = each_to(read_pack_manifest(folder), {"joined": str(there)})
    assert placings == [Placing("joined", "joined", str(there))]
    assert place(context_of(pantry.cache, pantry.target), folder, placings, force=False)
    assert there.read_text() == "alphabeta"
    assert not place(context_of(pantry.cache, pantry.target), folder, placings, force=False)


def test_a_pack_of_one_file_is_pulled_into_a_folder(pantry: Pantry, project: Project, there: Path) -> None:
    project.write_contract(outputs=[{"path": "./out/joined"}])
    uri = pantry.seed([], str(project.contract)).uri
    for _ in range(2):
        pantry.pull(uri, str(there))
        assert contents(there) == {"joined": "alphabeta"}


@pytest.fixture
def several(pantry: Pantry, project: Project) -> str:
    """The folder of a pack with three outputs: a folder, a file and an empty folder."""
    (project.root / "none").mkdir()
    (project.root / "notes").write_text("noted")
    project.write_contract(outputs=[{"path": "./out"}, {"path": "notes"}, {"path": "none", "name": "nothing"}])
    return pantry.seed([], str(project.contract)).folder


def test_each_of_several_outputs_goes_to_its_own_destination(
    pantry: Pantry, project: Project, several: str, tmp_path: Path
) -> None:
    places = {name: str(tmp_path / "x" / name) for name in ("notes", "nothing", "out")}
    placings = each_to(read_pack_manifest(several), places)
    assert place(context_of(pantry.cache, pantry.target), several, placings, force=False)
    assert contents(tmp_path / "x" / "out") == contents(project.out)
    assert (tmp_path / "x" / "notes").read_text() == "noted"
    assert contents(tmp_path / "x" / "nothing") == {}
    assert not place(context_of(pantry.cache, pantry.target), several, placings, force=False)


def test_several_outputs_are_refused_when_one_differs(pantry: Pantry, project: Project, several: str) -> None:
    (project.root / "none").rmdir()
    (project.root / "none").write_text("was an empty folder")
    places = {
        name: str(project.root / path) for name, path in [("out", "out"), ("notes", "notes"), ("nothing", "none")]
    }
    placings = each_to(read_pack_manifest(several), places)
    with pytest.raises(InvalidInput, match="something else is there already"):
        place(context_of(pantry.cache, pantry.target), several, placings, force=False)


def test_several_outputs_are_refused_when_only_some_are_there(
    pantry: Pantry, project: Project, several: str, there: Path
) -> None:
    """They may be from another run: with some missing, they are not the outputs of a pack."""
    placings = each_to(read_pack_manifest(several), {name: str(there / name) for name in ("out", "notes", "nothing")})
    there.mkdir()
    (there / "notes").write_text("my own notes")
    with pytest.raises(InvalidInput, match=r"notes: something else is there already"):
        place(context_of(pantry.cache, pantry.target), several, placings, force=False)
    assert [path.name for path in there.iterdir()] == ["notes"]


def test_all_of_several_outputs_can_be_pulled_into_one_folder(
    pantry: Pantry, project: Project, several: str, there: Path
) -> None:
    assert place(context_of(pantry.cache, pantry.target), several, all_into(str(there)), force=False)
    assert sorted(os.listdir(there)) == ["notes", "nothing", "out"]
    assert not place(context_of(pantry.cache, pantry.target), several, all_into(str(there)), force=False)


def test_progress_counts_what_is_copied(pantry: Pantry, project: Project, uri: CtxUri, there: Path) -> None:
    folder = pantry.cache.find(uri_digest(uri))
    assert folder is not None
    seen: list[tuple[str, int, int | None]] = []
    progress = lambda *step: seen.append(step)  # noqa: E731
    place(context_of(pantry.cache, pantry.target, progress=progress), folder, all_into(str(there)), force=False)
    assert {(stage, total) for stage, _, total in seen} == {("place", None)}
    assert sum(advanced for _, advanced, _ in seen) == read_pack_manifest(folder).outputs.size


EVERY_STEP = """
import os, sys
from pathlib import Path
from ctxpack_cache import Cache
from ctxpack_identity import CtxPackError, LocalFailure, silent
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_pantry.context import Context, ignore
from ctxpack_pantry.place import all_into, place
import ctypes, ctxpack_cache.tree

root, folder, fault = Path(sys.argv[1]), sys.argv[2], {"OSError": OSError(5, "Input/output error"),
                                                     "KeyboardInterrupt": KeyboardInterrupt()}[sys.argv[3]]
left = -1

def hook(event, arguments):  # called before each system call that our code really makes
    global left
    if left > 0 and event.startswith(("open", "os.", "shutil.")):
        left -= 1
        if left == 0:
            raise fault

def read(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

known = StatCache(str(root / "hashes"))
context = Context(Cache(root / "cache"), None, known, None, silent, ignore, None)
sys.addaudithook(hook)
new = read(Path(folder, "artifacts"))
steps = kept = 0
while True:
    steps += 1
    there = root / f"step{steps}" / "there"
    (there / "deep").mkdir(parents=True)
    (there / "deep" / "old").write_text("old")
    left = steps
    try:
        place(context, folder, all_into(str(there)), force=True)
        unharmed, left = left > 0, -1
        assert read(there) == new
        if unharmed:
            break
        continue  # makedirs ignores a failure to make a folder that exists
    except BaseException as error:
        left = -1
        assert isinstance(error, LocalFailure if isinstance(fault, OSError) else type(fault)), repr(error)
        message = str(error)
    found = read(there)
    others = [path for path in there.parent.iterdir() if path != there]
    assert found in (new, {"deep/old": "old"}), (steps, found)
    kept += found != new
    if isinstance(fault, KeyboardInterrupt):
        assert not others, (steps, others)
    else:
        olds = [path for path in others if path.name.endswith(".old")]
        assert len(others) <= 1, (steps, others)
        unread = "cannot be read: Input/output error; check its permissions"
        expected = f"is in {olds[0]}" if olds else "nothing was changed there" if steps > 1 else unread
        assert expected in message, (steps, message)
        assert found != new or olds, (steps, message)  # it is an error only when something went wrong
assert os.listdir(there.parent) == ["there"]
print(steps, kept)
"""


@pytest.mark.parametrize("fault", ["OSError", "KeyboardInterrupt"])
def test_a_replacement_stopped_at_any_step_leaves_the_old_or_the_new_content_whole(
    pantry: Pantry, uri: CtxUri, tmp_path: Path, fault: str
) -> None:
    folder = pantry.cache.find(uri_digest(uri))
    command = [sys.executable, "-c", EVERY_STEP, str(tmp_path), str(folder), fault]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    steps, kept = map(int, done.stdout.split())
    assert steps > 20
    assert 10 < kept < steps


def test_a_read_only_folder_is_replaced_when_forced() -> None:
    """Such as a copy of a cached pack that `cp -r` made."""
    script = """
import os, sys
from ctxpack_pantry import Pantry, load_settings

def work(folder):
    os.mkdir(folder)
    os.chdir(folder)
    with open("contract.json", "w") as file:
        file.write('{"inputs": [], "transforms": [{"tool": "t", "tool_version": "1", "code_hash": "opaque"}]}')
    os.makedirs("there/deep")
    open("there/deep/file", "w").close()
    pantry = Pantry(load_settings(cache="cache", registry="oci:registry"))
    uri = pantry.seed(["contract.json"], "contract.json").uri
    os.chmod("there/deep", 0o555)
    return pantry.pull(uri, "there", force=True).folder, sorted(os.listdir(".")), os.listdir("there")

os.chdir(sys.argv[1])
work("as we are")  # imports all modules: without root, their files may be unreadable
os.chdir("..")
if os.geteuid() == 0:
    os.setuid(65534)
print(*work("as nobody"))
"""
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: other users cannot enter the folders above
        os.chmod(folder, 0o777)
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    assert done.stderr == ""
    assert done.stdout == "there ['cache', 'contract.json', 'there'] ['contract.json']\n"
