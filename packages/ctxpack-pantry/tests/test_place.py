"""A pack's outputs become ordinary files; content that no cached pack holds is replaced only with force."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_project import contents, state

from ctxpack_bundle import OutputTree, read_pack_manifest
from ctxpack_identity import CtxUri, IntegrityError, InvalidInput, LocalFailure, uri_digest
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


def a_link_to_another(there: Path, project: Project) -> None:
    (there.parent / "another").mkdir()
    (there.parent / "another" / "file").write_text("my own notes")
    there.symlink_to("another")


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
    a_link_to_another,
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
        f"{there}: something else is there already: expected nothing, an empty folder, or what can be made again: "
        "outputs that a pack in the cache holds, that a run left, or that are in git's HEAD; "
        "move it away, choose another place, or replace it with --force"
    )
    assert caught.value.code == "E_OCCUPIED"
    assert state(there) == before
    assert temporary_names(there) == []


@pytest.mark.parametrize("suffix", ["/", "//", "/.", "/../there"])
@pytest.mark.parametrize("prepare", [a_file, changed_file, a_link_to_another])
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
    links = there.is_symlink()
    pantry.pull(uri, str(there), force=True)
    assert contents(there) == held
    assert there.is_symlink() is links
    assert prepare is one_more_file or contents(project.out) == held  # the target of a link in it is kept
    assert temporary_names(there) == []


def test_a_link_stays_and_what_it_leads_to_is_judged(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path, tmp_path: Path
) -> None:
    there.symlink_to(project.out)
    before = state(there), state(project.out / "joined")
    assert pantry.pull(uri, str(there), force=False).folder == str(there)
    assert (state(there), state(project.out / "joined")) == before
    (project.out / "joined").write_text("my own notes")
    with pytest.raises(InvalidInput, match="something else is there already"):
        pantry.pull(uri, str(there))
    assert (project.out / "joined").read_text() == "my own notes"
    pantry.pull(uri, str(there), force=True)
    assert (project.out / "joined").read_text() == "alphabeta"
    assert state(there) == before[0]
    assert list(project.root.glob(".*")) == list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("hops", [1, 3])
def test_what_a_dangling_link_leads_to_is_made(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path, tmp_path: Path, hops: int
) -> None:
    names = [*["there", "one", "two"][:hops], "new/folder"]
    for name, target in itertools.pairwise(names):
        (tmp_path / name).symlink_to(target)
    pantry.pull(uri, str(there))
    assert contents(tmp_path / "new" / "folder") == contents(project.out)
    assert all((tmp_path / name).is_symlink() for name in names[:-1])


def test_a_link_that_leads_to_itself_is_content_like_any_other(
    pantry: Pantry, project: Project, uri: CtxUri, there: Path
) -> None:
    there.symlink_to(there.name)
    with pytest.raises(InvalidInput, match="something else is there already"):
        pantry.pull(uri, str(there))
    assert there.is_symlink()
    pantry.pull(uri, str(there), force=True)
    assert contents(there) == contents(project.out)
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


@pytest.mark.parametrize("name", ["tool", "joined"])
@pytest.mark.parametrize("include", [[], ["tool", "joined"]])
def test_executable_bits_are_placed_where_the_contents_are_there(
    pantry: Pantry, uri: CtxUri, there: Path, name: str, include: list[str]
) -> None:
    pantry.pull(uri, str(there), include=include)
    before = stat.S_IMODE(os.stat(there / name).st_mode)
    (there / name).chmod(before ^ 0o111)
    pantry.pull(uri, str(there), include=include)
    assert stat.S_IMODE(os.stat(there / name).st_mode) == before
    assert temporary_names(there) == []


def test_executable_bits_of_a_file_and_of_several_outputs_are_placed(
    pantry: Pantry, several: str, one_file: CtxUri, tmp_path: Path, there: Path
) -> None:
    placings = each_to(read_pack_manifest(several), below(tmp_path / "x"))
    placed(pantry, several, placings)
    (tmp_path / "x" / "notes").chmod(0o755)
    (tmp_path / "x" / "out" / "tool").chmod(0o644)
    assert placed(pantry, several, placings)
    assert not os.access(tmp_path / "x" / "notes", os.X_OK)
    assert os.access(tmp_path / "x" / "out" / "tool", os.X_OK)
    pantry.pull(one_file, str(there))
    there.chmod(0o755)
    pantry.pull(one_file, str(there))
    assert not os.access(there, os.X_OK)


def test_a_umask_that_takes_executable_bits_makes_nothing_be_written_again(
    pantry: Pantry, uri: CtxUri, there: Path
) -> None:
    old = os.umask(0o177)
    try:
        pantry.pull(uri, str(there / "tool"), include=["tool"])
        before = state(there / "tool")
        pantry.pull(uri, str(there / "tool"), include=["tool"])
    finally:
        os.umask(old)
    assert state(there / "tool") == before
    assert temporary_names(there / "tool") == []


def test_folders_above_the_destination_are_made(pantry: Pantry, project: Project, uri: CtxUri, there: Path) -> None:
    pantry.pull(uri, str(there / "a" / "b"))
    assert contents(there / "a" / "b") == contents(project.out)


def test_a_file_in_place_of_a_folder_above_is_a_local_failure(pantry: Pantry, uri: CtxUri, there: Path) -> None:
    there.write_text("my own notes")
    with pytest.raises(LocalFailure, match=r"cannot be written: .*; nothing was changed there"):
        pantry.pull(uri, str(there / "below"))
    assert there.read_text() == "my own notes"


@pytest.fixture
def one_file(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a cached pack whose only output is a file."""
    project.write_contract(outputs=[{"path": "./out/joined"}])
    return pantry.seed([], str(project.contract)).uri


def placed(pantry: Pantry, folder: str, placings: Sequence[Placing], *, force: bool = False) -> bool:
    """Place outputs of a cached pack; return whether anything was written."""
    context = context_of(pantry.cache, pantry.target)
    return place(context, folder, read_pack_manifest(folder), placings, force=force)


def test_a_pack_of_one_file_is_placed_as_that_file(pantry: Pantry, one_file: CtxUri, there: Path) -> None:
    folder = pantry.cache.find(uri_digest(one_file))
    assert folder is not None
    tree = OutputTree(str(there))
    placings = each_to(read_pack_manifest(folder), {"joined": tree})
    assert placings == [Placing("joined", tree, "joined")]
    assert placed(pantry, folder, placings)
    assert there.read_text() == "alphabeta"
    assert not placed(pantry, folder, placings)


def test_a_pack_of_one_file_is_pulled_as_that_file(pantry: Pantry, one_file: CtxUri, there: Path) -> None:
    for _ in range(2):
        assert pantry.pull(one_file, str(there)).folder == str(there)
        assert there.read_text() == "alphabeta"
    there.write_text("my own notes")
    with pytest.raises(InvalidInput, match="something else is there already"):
        pantry.pull(one_file, str(there))
    assert there.read_text() == "my own notes"
    pantry.pull(one_file, str(there), force=True)
    assert there.read_text() == "alphabeta"
    assert temporary_names(there) == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_a_pack_of_one_file_is_pulled_into_a_folder_under_its_own_name(
    pantry: Pantry, one_file: CtxUri, there: Path, exists: bool, slash: str
) -> None:
    """The folder may hold anything else."""
    if exists:
        there.mkdir()
        (there / "notes").write_text("my own")
    elif not slash:
        return
    for _ in range(2):
        assert Path(pantry.pull(one_file, f"{there}{slash}").folder) == there / "joined"
    assert contents(there) == {"joined": "alphabeta", **({"notes": "my own"} if exists else {})}
    assert not list(there.glob(".*"))


def test_a_pack_of_one_file_is_pulled_into_the_folder_that_a_link_leads_to(
    pantry: Pantry, one_file: CtxUri, there: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    there.symlink_to("folder")
    pantry.pull(one_file, str(there))
    assert contents(tmp_path / "folder") == {"joined": "alphabeta"}
    assert there.is_symlink()


@pytest.fixture
def several(pantry: Pantry, project: Project) -> str:
    """The folder of a pack with three outputs: a folder, a file and an empty folder."""
    (project.root / "none").mkdir()
    (project.root / "notes").write_text("noted")
    project.write_contract(outputs=[{"path": "./out"}, {"path": "notes"}, {"path": "none", "name": "nothing"}])
    return pantry.seed([], str(project.contract)).folder


def below(folder: Path, **names: str) -> dict[str, OutputTree]:
    """Destinations of the outputs of several."""
    return {name: OutputTree(str(folder / names.get(name, name))) for name in ("notes", "nothing", "out")}


def test_each_of_several_outputs_goes_to_its_own_destination(
    pantry: Pantry, project: Project, several: str, tmp_path: Path
) -> None:
    placings = each_to(read_pack_manifest(several), below(tmp_path / "x"))
    assert placed(pantry, several, placings)
    assert contents(tmp_path / "x" / "out") == contents(project.out)
    assert (tmp_path / "x" / "notes").read_text() == "noted"
    assert contents(tmp_path / "x" / "nothing") == {}
    assert not placed(pantry, several, placings)


def test_several_outputs_are_refused_when_one_differs(pantry: Pantry, project: Project, several: str) -> None:
    (project.root / "none").rmdir()
    (project.root / "none").write_text("was an empty folder")
    placings = each_to(read_pack_manifest(several), below(project.root, nothing="none"))
    before = contents(project.root)
    with pytest.raises(InvalidInput, match="something else is there already"):
        placed(pantry, several, placings)
    assert contents(project.root) == before


def test_several_outputs_are_refused_when_one_of_them_is_the_users_own(
    pantry: Pantry, project: Project, several: str, there: Path
) -> None:
    placings = each_to(read_pack_manifest(several), below(there))
    there.mkdir()
    (there / "notes").write_text("my own notes")
    with pytest.raises(InvalidInput, match=r"notes: something else is there already"):
        placed(pantry, several, placings)
    assert [path.name for path in there.iterdir()] == ["notes"]


def test_all_of_several_outputs_can_be_pulled_into_one_folder(
    pantry: Pantry, project: Project, several: str, there: Path
) -> None:
    placings = [all_into(read_pack_manifest(several), str(there))]
    assert placed(pantry, several, placings)
    assert sorted(os.listdir(there)) == ["notes", "nothing", "out"]
    assert not placed(pantry, several, placings)


def test_a_damaged_file_changes_no_destination(pantry: Pantry, project: Project, several: str, tmp_path: Path) -> None:
    """Although outputs before it were copied already."""
    damaged = Path(several, "artifacts/out/tool")
    damaged.chmod(0o755)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    placings = each_to(read_pack_manifest(several), below(tmp_path / "x"))
    with pytest.raises(IntegrityError, match="out/tool: content differs from its digest"):
        placed(pantry, several, placings, force=True)
    assert contents(tmp_path / "x") == {}


def test_progress_counts_what_is_copied(pantry: Pantry, project: Project, uri: CtxUri, there: Path) -> None:
    folder = pantry.cache.find(uri_digest(uri))
    assert folder is not None
    manifest = read_pack_manifest(folder)
    seen: list[tuple[str, int, int | None]] = []
    progress = lambda *step: seen.append(step)  # noqa: E731
    context = context_of(pantry.cache, pantry.target, progress=progress)
    place(context, folder, manifest, [all_into(manifest, str(there))], force=False)
    assert {(stage, total) for stage, _, total in seen} == {("place", manifest.outputs.size)}
    assert sum(advanced for _, advanced, _ in seen) == manifest.outputs.size


EVERY_STEP = """
import os, sys
from pathlib import Path
from ctxpack_cache import Cache
from ctxpack_identity import CtxPackError, LocalFailure, silent
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_pantry.context import Context, ignore
from ctxpack_bundle import read_pack_manifest
from ctxpack_pantry.place import all_into, place
import ctypes, ctxpack_cache.tree

root, folder, fault = Path(sys.argv[1]), sys.argv[2], {"OSError": OSError(28, "No space left on device"),
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

manifest = read_pack_manifest(folder)
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
        place(context, folder, manifest, [all_into(manifest, str(there))], force=True)
        unharmed, left = left > 0, -1
        assert read(there) == new
        if unharmed:
            break
        continue  # makedirs ignores a failure to make a folder that exists
    except BaseException as error:
        left = -1
        message = str(error)
        unsure = "changed meanwhile, so nothing was replaced" in message  # the table of mounts could not be read
        expected = LocalFailure if isinstance(fault, OSError) else type(fault)
        assert isinstance(error, expected) or unsure, repr(error)
    found = read(there)
    others = [path for path in there.parent.iterdir() if path != there]
    assert found in (new, {"deep/old": "old"}), (steps, found)
    kept += found != new
    if isinstance(fault, KeyboardInterrupt):
        assert not others, (steps, others)
    else:
        olds = [path for path in others if path.name.endswith(".old")]
        assert len(others) <= 1, (steps, others)
        unread = "cannot be read: No space left on device"
        expected = [f"is in {olds[0]}"] if olds else ["nothing was changed there", unread, "changed meanwhile"]
        assert any(text in message for text in expected), (steps, message)
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
    os.mkdir("made")
    open("made/file", "w").close()
    uri = pantry.seed(["made"], "contract.json").uri
    os.chmod("there/deep", 0o555)
    return pantry.pull(uri, "there", force=True).folder, sorted(os.listdir(".")), os.listdir("there")

os.chdir(sys.argv[1])
work("as we are")  # imports all modules: without root, their files may be unreadable
os.chdir("..")
if os.geteuid() == 0:
    os.setuid(65534)
os.environ["HOME"] = os.path.abspath("home of nobody")
print(*work("as nobody"))
"""
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: other users cannot enter the folders above
        os.chmod(folder, 0o777)
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    assert done.stderr == ""
    assert done.stdout == "there ['cache', 'contract.json', 'made', 'there'] ['file']\n"
