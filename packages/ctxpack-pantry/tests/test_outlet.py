"""A pack leaves the cache as it came in: what is damaged is set aside and fetched anew; what is removed, is that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_context import context_of
from pantry_project import contents, flip

from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, InvalidInput, LocalFailure, NotFound, Unavailable, uri_digest
from ctxpack_pantry import Context, Pantry, outlet
from ctxpack_pantry.outlet import Outlet, manifest_of, reading, require_intact, set_aside

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache and in the registry."""
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    return uri


@pytest.fixture
def alone(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack that only the cache has."""
    return pantry.seed([], str(project.contract)).uri


@pytest.fixture
def context(cache: Cache, registry: FaultyTarget, notices: list[str]) -> Context:
    return context_of(cache, registry, notice=notices.append)


def folder_of(cache: Cache, uri: CtxUri) -> Path:
    folder = cache.find(uri_digest(uri))
    assert folder is not None
    return Path(folder)


def cut(path: Path) -> None:
    os.truncate(path, 1)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link(path: Path) -> None:
    """To the same content, which may change any time."""
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


MEMBERS = ["manifest.json", "files.jsonl", "artifacts/joined"]
DAMAGE = [flip, cut, Path.unlink, fifo, a_link]


def damage_of(cache: Cache, uri: CtxUri, member: str, damage: Callable[[Path], object]) -> Path:
    path = folder_of(cache, uri) / member
    path.parent.chmod(0o755)
    damage(path)
    return path


def pull_to(pantry: Pantry, uri: CtxUri, there: Path, way: str) -> dict[str, str]:
    """Take a pack out in one of the ways; return what came out."""
    if way == "folder":
        return contents(pantry.pull(uri).folder)
    include = ["*"] if way == "include" else []
    return contents(pantry.pull(uri, str(there), include=include).folder)


@pytest.mark.parametrize("way", ["folder", "copy", "include"])
@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_fetched_anew(
    pantry: Pantry,
    cache: Cache,
    project: Project,
    uri: CtxUri,
    notices: list[str],
    tmp_path: Path,
    way: str,
    member: str,
    damage: Callable[[Path], object],
) -> None:
    """Case S1."""
    folder = folder_of(cache, uri)
    damage_of(cache, uri, member, damage)
    assert pull_to(pantry, uri, tmp_path / "there", way) == contents(project.out)
    assert not list(tmp_path.glob(".*"))
    if (member, damage) == ("manifest.json", flip) and way != "folder":
        return  # the bit may be in what a copy does not depend on, such as the name of the maker
    [notice] = notices
    assert notice.startswith(f"the cached pack is damaged, and was set aside in {cache.root}")
    assert str(folder) in notice


@pytest.mark.parametrize("way", ["folder", "copy", "include"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_and_nowhere_else_is_an_error_and_nothing_is_placed(
    pantry: Pantry, cache: Cache, alone: CtxUri, tmp_path: Path, way: str, damage: Callable[[Path], object]
) -> None:
    path = damage_of(cache, alone, "artifacts/joined", damage)
    for error in (IntegrityError, NotFound):  # the second time, the cache does not have it
        with pytest.raises(error) as caught:
            pull_to(pantry, alone, tmp_path / "there", way)
        if error is IntegrityError:
            assert str(path) in str(caught.value)
        assert not (tmp_path / "there").exists()
    assert cache.find(uri_digest(alone)) is None


@pytest.mark.parametrize("way", ["folder", "copy"])
def test_an_empty_folder_of_a_pack_is_damage(
    pantry: Pantry, cache: Cache, project: Project, uri: CtxUri, tmp_path: Path, way: str
) -> None:
    folder = folder_of(cache, uri)
    os.system(f"chmod -R u+w '{folder}'")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert pull_to(pantry, uri, tmp_path / "there", way) == contents(project.out)


@pytest.mark.parametrize("way", ["folder", "copy"])
def test_when_the_registry_does_not_answer_the_damaged_pack_is_set_aside_all_the_same(
    pantry: Pantry, cache: Cache, registry: FaultyTarget, uri: CtxUri, tmp_path: Path, way: str
) -> None:
    damage_of(cache, uri, "artifacts/joined", flip)

    def fail(_: object) -> None:
        raise Unavailable("no answer")

    registry.on("fetch_tag", fail)
    with pytest.raises(Unavailable):
        pull_to(pantry, uri, tmp_path / "there", way)
    assert not (tmp_path / "there").exists()
    registry.on("fetch_tag", lambda _: None)
    assert pull_to(pantry, uri, tmp_path / "there", way)


def test_the_only_good_copy_is_not_replaced_by_a_damaged_one(
    pantry: Pantry, cache: Cache, project: Project, alone: CtxUri, tmp_path: Path
) -> None:
    """Case S7; also when it is asked for with force."""
    there = tmp_path / "there"
    pantry.pull(alone, str(there))
    before = contents(there)
    for force in (False, True):
        seeded = pantry.seed([], str(project.contract)).folder
        flip(Path(seeded) / "artifacts/joined")
        (there / "joined").write_text("mine")
        with pytest.raises(InvalidInput if not force else IntegrityError):
            pantry.pull(alone, str(there), force=force)
        assert contents(there) == {**before, "joined": "mine"}


# --- the fingerprint


def test_a_pack_that_is_as_published_is_not_read(
    context: Context, uri: CtxUri, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr("ctxpack_bundle.verify_pack", fail)
    folder = str(folder_of(context.cache, uri))
    require_intact(context, uri, folder)
    os.utime(Path(folder, "artifacts/joined"))
    with pytest.raises(AssertionError):
        require_intact(context, uri, folder)


def test_a_pack_that_was_touched_is_read_once(context: Context, uri: CtxUri) -> None:
    folder = folder_of(context.cache, uri)
    os.utime(folder / "artifacts/joined")
    assert not context.cache.is_as_published(uri_digest(uri))
    require_intact(context, uri, str(folder))
    assert context.cache.is_as_published(uri_digest(uri))


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_not_intact(
    context: Context, uri: CtxUri, member: str, damage: Callable[[Path], object]
) -> None:
    damage_of(context.cache, uri, member, damage)
    for _ in range(2):
        with pytest.raises(IntegrityError):
            require_intact(context, uri, str(folder_of(context.cache, uri)))
    assert not context.cache.is_as_published(uri_digest(uri))


# --- another pack's manifest


def test_the_manifest_of_another_pack_is_damage(
    context: Context, pantry: Pantry, project: Project, uri: CtxUri
) -> None:
    project.write_contract(params={"other": True})
    other = pantry.seed([], str(project.contract)).uri
    one, two = folder_of(context.cache, uri), folder_of(context.cache, other)
    assert manifest_of(uri, str(one)).uri == uri
    for folder in (one, two):
        folder.chmod(0o755)
    os.replace(two / "manifest.json", one / "manifest.json")
    with pytest.raises(IntegrityError) as caught:
        manifest_of(uri, str(one))
    assert (caught.value.expected, caught.value.got) == (uri, other)
    assert contents(pantry.pull(uri).folder) == contents(project.out)


# --- removed meanwhile


def test_a_pack_that_is_removed_while_it_is_used_is_fetched_again(
    pantry: Pantry, context: Context, project: Project, uri: CtxUri, notices: list[str]
) -> None:
    used: list[str] = []

    def use(folder: str) -> str:
        used.append(folder)
        if len(used) == 1:
            pantry.remove(uri)
            raise IntegrityError("a file is missing")
        return folder

    outlet = Outlet(context, uri)
    assert outlet.take(use) == str(folder_of(context.cache, uri))
    assert (len(used), outlet.damage, notices) == (2, None, [])
    assert outlet.received > 0


def test_a_pack_that_is_removed_while_it_is_used_and_nowhere_else_is_called_removed(
    pantry: Pantry, context: Context, alone: CtxUri
) -> None:
    def use(folder: str) -> None:
        pantry.remove(alone)
        raise IntegrityError("a file is missing")

    with pytest.raises(NotFound, match="was removed from the cache meanwhile") as caught:
        Outlet(context, alone).take(use)
    assert caught.value.code == "E_REMOVED"


def test_a_pack_that_is_replaced_while_it_is_used_is_used_anew(
    pantry: Pantry, context: Context, project: Project, alone: CtxUri, notices: list[str]
) -> None:
    """Case S2: the new one is whole, so it is not set aside, although its folder may have the inode of the old one."""
    found: list[str] = []

    def use(folder: str) -> str:
        text = Path(folder, "artifacts/joined").read_text()
        found.append(text)
        if len(found) == 1:
            pantry.remove(alone)
            for number in range(20):  # some of these folders get the inodes that are free now
                project.make_outputs(f"another {number}")
                pantry.seed([], str(project.contract))
                if number < 19:
                    pantry.remove(alone)
            raise IntegrityError("a mix of two")
        return text

    assert Outlet(context, alone).take(use) == "another 19"
    assert notices == []


def test_a_pack_that_goes_each_time_ends_with_an_error(pantry: Pantry, context: Context, uri: CtxUri) -> None:
    times: list[str] = []

    def use(folder: str) -> None:
        times.append(folder)
        pantry.remove(uri)
        raise IntegrityError("a file is missing")

    with pytest.raises(NotFound, match="meanwhile"):
        Outlet(context, uri).take(use)
    assert 2 <= len(times) <= 10


def test_a_pack_that_is_damaged_each_time_ends_with_an_error(context: Context, uri: CtxUri) -> None:
    """The disk of the cache, for example."""
    times: list[str] = []

    def use(folder: str) -> None:
        times.append(folder)
        raise IntegrityError(f"damage {len(times)}")

    with pytest.raises(IntegrityError, match="damage"):
        Outlet(context, uri).take(use)
    assert 2 <= len(times) <= 10
    assert context.cache.find(uri_digest(uri)) is None


@pytest.mark.parametrize("error", [InvalidInput("no"), LocalFailure("no"), KeyboardInterrupt(), NotFound("no")])
def test_other_errors_pass_and_the_pack_stays(context: Context, uri: CtxUri, error: BaseException) -> None:
    def use(folder: str) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Outlet(context, uri).take(use)
    assert caught.value is error
    assert context.cache.find(uri_digest(uri)) is not None


def test_reading_leaves_damage_as_it_is_and_closes_what_it_opened(uri: CtxUri, cache: Cache) -> None:
    folder = str(folder_of(cache, uri))
    before = len(os.listdir("/dev/fd"))
    for error in (IntegrityError("damage"), KeyboardInterrupt()):
        with pytest.raises(type(error)), reading(uri, folder):
            raise error
    with pytest.raises(NotFound), reading(uri, f"{folder}x"):
        raise AssertionError
    assert len(os.listdir("/dev/fd")) == before


def test_a_pack_that_another_process_set_aside_is_no_news(context: Context, uri: CtxUri, notices: list[str]) -> None:
    set_aside(context, uri, IntegrityError("damage"))
    set_aside(context, uri, IntegrityError("damage"))
    assert len(notices) == 1


# --- a cache that cannot be written


def _refused(*given: Any, **named: Any) -> Any:
    raise LocalFailure("cannot be written: Read-only file system")


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of another user, for example. Patched, since root may write anywhere."""
    for name in ("lock", "staging", "publish", "set_aside", "_make_folders"):
        monkeypatch.setattr(Cache, name, _refused)


@pytest.mark.parametrize("way", ["folder", "copy", "include"])
def test_a_cache_that_cannot_be_written_serves_hits(
    pantry: Pantry, project: Project, alone: CtxUri, tmp_path: Path, way: str, read_only: None
) -> None:
    found = pull_to(pantry, alone, tmp_path / "there", way)
    assert found["joined"] == "alphabeta"


def test_a_cache_that_cannot_be_written_serves_a_run(
    pantry: Pantry, project: Project, alone: CtxUri, read_only: None
) -> None:
    shutil.rmtree(project.out)
    assert pantry.run(str(project.contract)).hit
    assert contents(project.out)["joined"] == "alphabeta"


def test_a_cache_that_cannot_be_written_serves_a_pack_that_was_touched(
    pantry: Pantry, cache: Cache, project: Project, alone: CtxUri, read_only: None
) -> None:
    os.utime(folder_of(cache, alone) / "artifacts/joined")
    for _ in range(2):
        assert contents(pantry.pull(alone).folder) == contents(project.out)


@pytest.mark.parametrize("way", ["folder", "copy"])
def test_damage_in_a_cache_that_cannot_be_written_is_called_damage(
    pantry: Pantry, cache: Cache, uri: CtxUri, tmp_path: Path, way: str, read_only: None
) -> None:
    damage_of(cache, uri, "artifacts/joined", flip)
    with pytest.raises(IntegrityError, match="artifacts/joined"):
        pull_to(pantry, uri, tmp_path / "there", way)
    assert not (tmp_path / "there").exists()


def test_the_attempts_are_few() -> None:
    assert 2 <= outlet._ATTEMPTS <= 10
