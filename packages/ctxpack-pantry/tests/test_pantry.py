"""The whole pantry: resolve, pull, list and remove, with the cache and the registry that its settings name."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_project import contents, flip

from ctxpack_identity import CtxUri, Digest, InvalidInput, NotFound, digest_of, uri_digest
from ctxpack_identity.hashing import filehash
from ctxpack_pantry import Pantry, Removed, Settings
from ctxpack_pantry.seed import VERSION
from ctxpack_pantry.settings import Setting

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


def test_the_version_that_packs_are_marked_with_is_the_packages() -> None:
    assert version("ctxpack-pantry") == VERSION


def test_making_a_pantry_opens_and_creates_nothing(tmp_path: Path) -> None:
    Pantry(Settings(Setting("no registry's name", ""), Setting(str(tmp_path / "cache"), ""))).close()
    assert not (tmp_path / "cache").exists()


def test_resolving_has_no_side_effects(project: Project) -> None:
    before = contents(project.root.parent)
    resolution = Pantry(project.settings).resolve(str(project.contract))
    assert resolution.uri == project.uri
    assert digest_of(resolution.canonical) == uri_digest(resolution.uri)
    assert contents(project.root.parent) == before


def test_inputs_are_hashed_on_the_executor_that_is_given(project: Project) -> None:
    class Noting(ThreadPoolExecutor):
        tasks = 0

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.tasks += 1
            return super().submit(fn, *args, **kwargs)

    with Noting(1) as executor, Pantry(project.settings, executor=executor) as pantry:
        assert pantry.resolve(str(project.contract)).uri == project.uri
        resolving = executor.tasks
        pantry.seed([], str(project.contract))
        assert (resolving, executor.tasks) == (2, 4)  # inputs and code, twice
        executor.submit(int).result()


def test_a_wrong_name_of_a_registry_is_refused_when_the_registry_is_needed(project: Project) -> None:
    pantry = Pantry(project.settings._replace(registry=Setting("team/packs", "")))
    uri = pantry.seed([], str(project.contract)).uri
    with pytest.raises(InvalidInput, match="'team' is not a host"):
        pantry.push(uri)


def test_from_seed_to_pull_through_a_real_layout(project: Project, tmp_path: Path) -> None:
    with Pantry(project.settings) as pantry:
        uri = pantry.seed([], str(project.contract)).uri
        pantry.push(uri)
    elsewhere = project.settings._replace(cache=Setting(str(tmp_path / "elsewhere"), ""))
    with Pantry(elsewhere) as pantry:
        folder = pantry.pull(uri).folder
        assert folder == str(tmp_path / "elsewhere/v1/packs" / uri.removeprefix("ctx://sha256:") / "artifacts")
        assert contents(folder) == contents(project.out)
        assert pantry.pull(uri).folder == folder


def test_leaving_a_pantry_closes_the_registry_that_it_opened(project: Project) -> None:
    with Pantry(project.settings) as pantry:
        target = pantry.target
        assert pantry.target is target
    assert pantry.target is not target  # used again, it opens another


def test_a_registry_that_was_given_is_not_closed(pantry: Pantry, registry: FaultyTarget) -> None:
    with pantry:
        assert pantry.target is registry
    assert registry.count("close") == 0
    assert pantry.target is registry


def test_credentials_come_from_the_environment_that_is_given(project: Project) -> None:
    settings = project.settings._replace(registry=Setting("127.0.0.1:9/x/y", ""))
    assert Pantry(settings, environ={}).target.name == "127.0.0.1:9/x/y"
    with pytest.raises(InvalidInput, match="CTXPACK_PASSWORD"):
        Pantry(settings, environ={"CTXPACK_USERNAME": "me"}).target  # noqa: B018


def test_a_pull_into_a_folder_returns_that_folder(pantry: Pantry, project: Project, tmp_path: Path) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    assert pantry.pull(uri, str(tmp_path / "there")).folder == str(tmp_path / "there")
    assert contents(tmp_path / "there") == contents(project.out)


def test_a_hit_in_the_cache_costs_no_request(pantry: Pantry, project: Project, registry: FaultyTarget) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    pantry.pull(uri)
    assert registry.calls == []


def test_the_folder_of_a_pull_is_read_only(pantry: Pantry, project: Project) -> None:
    folder = pantry.pull(pantry.seed([], str(project.contract)).uri).folder
    assert os.stat(os.path.join(folder, "joined")).st_mode & 0o222 == 0
    assert os.stat(folder).st_mode & 0o222 == 0


def test_packs_are_listed_by_uri_and_a_damaged_one_without_its_manifest(pantry: Pantry, project: Project) -> None:
    uris = []
    for number in range(3):
        project.write_contract(params={"number": number})
        uris.append(pantry.seed([], str(project.contract)).uri)
    damaged = pantry.cache.find(uri_digest(uris[1]))
    assert damaged is not None
    Path(damaged, "manifest.json").chmod(0o644)
    Path(damaged, "manifest.json").write_text("{}")
    packs = pantry.list_packs(sort="uri").packs
    assert [pack.uri for pack in packs] == sorted(uris)
    assert {pack.uri for pack in packs if pack.manifest is None} == {uris[1]}


def test_an_empty_cache_lists_nothing_and_is_not_made(pantry: Pantry, tmp_path: Path) -> None:
    assert pantry.list_packs().packs == ()
    assert not (tmp_path / "cache").exists()


def test_removing_is_from_the_cache_only(pantry: Pantry, project: Project) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    assert [pantry.remove(uri) for _ in range(2)] == [Removed((uri,), ()), Removed((), (uri,))]
    assert pantry.list_packs().packs == ()
    assert contents(pantry.pull(uri).folder) == contents(project.out)


def test_the_digest_of_a_packs_outputs_is_known_without_fetching_them(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget
) -> None:
    seeded = pantry.seed([], str(project.contract))
    pantry.push(seeded.uri)
    before = registry.count("fetch")
    digest: Digest = open_pantry("elsewhere").inspect(seeded.uri).manifest.outputs_digest
    assert digest == seeded.manifest.outputs_digest
    assert registry.count("fetch") == before + 1


def test_a_notice_names_files_of_file_managers_when_a_contract_is_resolved(
    pantry: Pantry, project: Project, notices: list[str]
) -> None:
    (project.inputs / "Thumbs.db").write_text("")
    pantry.resolve(str(project.contract))
    assert [notice.split(": ")[1:3] for notice in notices] == [["input raw_docs", "Thumbs.db"]]


def test_a_notice_says_that_another_process_fetches_the_same_pack(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget
) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    elsewhere = open_pantry("elsewhere")
    lock = elsewhere.cache.lock(uri_digest(uri))
    lock.__enter__()

    class Noticed(Exception):
        pass

    def on_notice(notice: str) -> None:
        lock.release()
        raise Noticed(notice)

    impatient = Pantry(elsewhere.settings, target=registry, notice=on_notice)
    with pytest.raises(Noticed, match="another process fetches this pack; waiting"):
        impatient.pull(uri)


def test_a_miss_leaves_no_pack(pantry: Pantry, leftovers: Callable[[], list[str]]) -> None:
    with pytest.raises(NotFound):
        pantry.pull(CtxUri("ctx://sha256:" + "0" * 64))
    assert pantry.list_packs().packs == ()
    assert leftovers() == []


@pytest.fixture
def many_inputs(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Enough inputs for the index of unchanged files, and old enough for it: its clock is a minute ahead."""
    for number in range(100):
        (project.inputs / f"{number}.txt").write_text(f"{number}\n")
    minute_later = time.time_ns() + 60_000_000_000
    monkeypatch.setattr("ctxpack_identity.hashing.statcache.time.time_ns", lambda: minute_later)
    monkeypatch.setattr("ctxpack_identity.hashing.filesystem.is_local", lambda path: True)
    return project


def test_unchanged_inputs_are_not_read_again_unless_asked(many_inputs: Project) -> None:
    first = Pantry(many_inputs.settings).resolve(str(many_inputs.contract)).uri
    with reading() as read:
        assert Pantry(many_inputs.settings).resolve(str(many_inputs.contract)).uri == first
    assert not [path for path in read if path.endswith("7.txt")]
    with reading() as read:
        assert Pantry(many_inputs.settings, rehash=True).resolve(str(many_inputs.contract)).uri == first
    assert len([path for path in read if path.endswith("7.txt")]) == 10


def test_a_changed_input_is_noticed_although_the_others_are_known(many_inputs: Project) -> None:
    pantry = Pantry(many_inputs.settings)
    first = pantry.resolve(str(many_inputs.contract)).uri
    (many_inputs.inputs / "42.txt").write_text("4?\n")
    assert pantry.resolve(str(many_inputs.contract)).uri != first


@pytest.fixture
def many_outputs(many_inputs: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Outputs that were seeded and are where a run puts them."""
    monkeypatch.chdir(many_inputs.root)
    for number in range(100):
        (many_inputs.out / f"{number}.made").write_text(f"{number}\n")
    pantry = Pantry(many_inputs.settings)
    pantry.seed([], str(many_inputs.contract))
    assert pantry.run(str(many_inputs.contract)).hit  # reads the outputs
    return many_inputs


def test_unchanged_outputs_in_their_place_are_not_read_again_unless_asked(many_outputs: Project) -> None:
    uri = Pantry(many_outputs.settings).resolve(str(many_outputs.contract)).uri
    pantry = Pantry(many_outputs.settings)
    with reading() as read:
        pantry.run(str(many_outputs.contract))
        pantry.pull(uri, str(many_outputs.out))
        pantry.pull(uri, str(many_outputs.out), include=["*"])
    assert not [path for path in read if path.endswith(".made")]
    with reading() as read:
        Pantry(many_outputs.settings, rehash=True).run(str(many_outputs.contract))
    assert len([path for path in read if path.endswith(".made")]) == 100


def test_a_changed_output_is_noticed_although_the_others_are_known(many_outputs: Project) -> None:
    (many_outputs.out / "42.made").write_text("4?\n")
    with pytest.raises(InvalidInput, match="something else is there already"):
        Pantry(many_outputs.settings).run(str(many_outputs.contract))
    assert (many_outputs.out / "42.made").read_text() == "4?\n"


@contextmanager
def reading() -> Iterator[list[str]]:
    """Collect the paths that are opened inside the with statement to hash what is in them."""
    read: list[str] = []

    def noting(path: str, follow: bool) -> int:
        read.append(path)
        return real(path, follow)

    real = filehash._open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filehash, "_open", noting)
        yield read


def test_removing_from_the_registry_too_leaves_nothing_to_pull(
    pantry: Pantry, project: Project, open_pantry: Callable[..., Pantry]
) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    assert pantry.remove(uri, registry=True) == Removed((uri,), (), "the registry")
    for one in (pantry, open_pantry("elsewhere")):
        with pytest.raises(NotFound):
            one.pull(uri)
    assert pantry.remove(uri, registry=True) == Removed((), (uri,), "the registry")


def test_a_contract_file_may_be_a_path_of_any_type_or_its_content(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    content = json.loads(project.contract.read_text())
    for given in (project.contract, str(project.contract), content, project.load()):
        assert pantry.resolve(given).uri == project.uri
    assert pantry.seed([], content).uri == project.uri
    assert pantry.run(project.contract).hit


@pytest.mark.parametrize("content", [{"inputs": [set()]}, {"inputs": float("nan")}, {"inputs": "\ud800"}, {"a": {}}])
def test_content_that_is_no_contract_file_is_refused(pantry: Pantry, content: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="the contract"):
        pantry.resolve(content)


def test_everything_can_be_removed(pantry: Pantry, project: Project) -> None:
    """Also what was set aside; then the cache can be deleted like any other folder."""
    first = pantry.seed([], str(project.contract))
    flip(Path(first.folder, "artifacts", "joined"))
    assert pantry.verify().packs[0].damage
    project.write_contract(params={"other": True})
    second = pantry.seed([], str(project.contract))
    assert sorted(pantry.remove_all().removed) == sorted([first.uri, second.uri])
    assert pantry.list_packs().packs == ()
    assert pantry.remove_all() == Removed((), ())
    assert {path.stat().st_mode & 0o700 for path in Path(pantry.cache.root).rglob("*") if path.is_dir()} == {0o700}
