"""What is at the places of outputs may be replaced when it can be made again; only force replaces anything else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_context import context_of
from pantry_project import contents

from ctxpack_cache import Cache
from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_pantry import Pantry
from ctxpack_pantry.replacing import Site
from ctxpack_pantry.runnotes import RunNote, RunNotes
from ctxpack_pantry.standing import Standing

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

Held = Callable[..., dict[str, bool]]


@pytest.fixture
def held(cache: Cache, registry: FaultyTarget) -> Held:
    """Return for each output whether what is at its path can be made again."""

    def judge(
        *, force: bool = False, keep: tuple[str, ...] = (), follow: bool = False, **paths: Path
    ) -> dict[str, bool]:
        sites = {name: Site(str(path)) for name, path in paths.items()}
        standing = Standing(context_of(cache, registry), sites, dict.fromkeys(sites, follow))
        assert standing.seen == {name: site.look() for name, site in sites.items()}
        return standing.require_held(force=force, keep=keep)

    return judge


def assert_refused(held: Held, where: Path, **paths: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        held(**paths)
    assert (caught.value.code, caught.value.where) == ("E_OCCUPIED", str(where))


def test_nothing_and_an_empty_folder_can_be_made_again(held: Held, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    paths = {name: tmp_path / name for name in ("empty", "none", "link")}
    assert held(**paths) == {"empty": True, "none": True, "link": True}


def test_the_users_own_is_refused_and_force_takes_it_but_does_not_call_it_held(held: Held, project: Project) -> None:
    assert_refused(held, project.out, out=project.out)
    assert held(out=project.out, force=True) == {"out": False}
    assert held(out=project.out, keep=("out",)) == {"out": False}
    assert contents(project.out)["joined"] == "alphabeta"


@pytest.mark.parametrize("name", ["out", "another"])
def test_what_a_cached_pack_holds_whole_can_be_made_again(
    held: Held, pantry: Pantry, project: Project, name: str
) -> None:
    """A folder has no name in its pack, so the name of the output does not matter."""
    pantry.seed([], str(project.contract))
    assert held(**{name: project.out}) == {name: True}
    (project.out / "joined").write_text("changed")
    assert_refused(held, project.out, **{name: project.out})


def one_file_more(out: Path) -> None:
    (out / "more").write_text("")


def one_file_less(out: Path) -> None:
    (out / "joined").unlink()


def an_empty_folder_more(out: Path) -> None:
    (out / "more").mkdir()


def a_link(out: Path) -> None:
    (out / "joined").rename(out.parent / "joined")
    (out / "joined").symlink_to("../joined")


def a_pipe(out: Path) -> None:
    os.mkfifo(out / "pipe")


def an_odd_name(out: Path) -> None:
    (out / "a\\b").write_text("")


@pytest.mark.parametrize("change", [one_file_more, one_file_less, an_empty_folder_more, a_link, a_pipe, an_odd_name])
def test_what_differs_from_the_pack_in_anything_is_refused(
    held: Held, pantry: Pantry, project: Project, change: Callable[[Path], None]
) -> None:
    pantry.seed([], str(project.contract))
    change(project.out)
    assert_refused(held, project.out, out=project.out)


def test_what_the_contract_leaves_out_of_an_output_is_no_packs(held: Held, pantry: Pantry, project: Project) -> None:
    """It would be lost with the output."""
    project.write_contract(outputs=[{"path": "./out", "exclude": ["*.tmp"]}])
    (project.out / "notes.tmp").write_text("my own")
    pantry.seed([], str(project.contract))
    assert_refused(held, project.out, out=project.out)


@pytest.fixture
def nested(pantry: Pantry, project: Project) -> str:
    """The folder of a pack of a folder, a file and an empty folder."""
    (project.root / "none").mkdir()
    (project.root / "notes").write_text("noted")
    project.write_contract(outputs=[{"path": "./out"}, {"path": "notes"}, {"path": "none"}])
    return pantry.seed([], str(project.contract)).folder


def test_what_is_a_root_of_a_pack_can_be_made_again_under_its_name(held: Held, project: Project, nested: str) -> None:
    notes = project.root / "notes"
    assert held(out=project.out) == {"out": True}
    assert held(notes=notes) == {"notes": True}
    assert held(out=project.out, notes=notes, none=project.root / "none") == dict.fromkeys(
        ["out", "notes", "none"], True
    )
    assert held(out=project.out, other=project.root / "nowhere") == {"out": True, "other": True}
    assert_refused(held, project.out, another=project.out)


def test_of_several_each_is_judged_alone_when_no_pack_holds_them_together(
    held: Held, project: Project, nested: str
) -> None:
    notes = project.root / "notes"
    notes.write_text("my own")
    assert_refused(held, notes, out=project.out, notes=notes)
    assert held(out=project.out, notes=notes, force=True) == {"out": False, "notes": False}
    assert held(out=project.out, notes=notes, keep=("notes",)) == {"out": True, "notes": False}


@pytest.mark.parametrize(
    ("member", "damage"),
    [
        ("manifest.json", os.unlink),
        ("manifest.json", lambda path: Path(path).write_text("{}")),
        ("files.jsonl", lambda path: Path(path).write_bytes(bytes(os.stat(path).st_size))),
        ("artifacts/joined", os.unlink),
        ("artifacts/joined", lambda path: Path(path).write_bytes(bytes(os.stat(path).st_size))),
        ("artifacts/tool", lambda path: os.chmod(path, 0o444)),
    ],
)
def test_a_damaged_pack_holds_nothing(
    held: Held, pantry: Pantry, project: Project, member: str, damage: Callable[[str], object]
) -> None:
    """Case S7: the user's copy may be the only good one."""
    folder = pantry.seed([], str(project.contract)).folder
    assert held(out=project.out) == {"out": True}
    path = Path(folder, member)
    path.parent.chmod(0o755)
    path.chmod(0o644)
    damage(str(path))
    assert_refused(held, project.out, out=project.out)
    assert pantry.cache.find(next(pantry.cache.packs()).key)  # judging sets nothing aside


@pytest.mark.parametrize("member", ["out/joined", "notes"])
def test_a_damaged_nested_pack_holds_nothing(held: Held, project: Project, nested: str, member: str) -> None:
    path = Path(nested, "artifacts", member)
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    assert_refused(held, project.out, out=project.out)


def test_another_pack_that_is_whole_counts_although_one_is_damaged(
    held: Held, pantry: Pantry, project: Project
) -> None:
    for number in range(3):
        project.write_contract(params={"number": number})
        pantry.seed([], str(project.contract))
    for pack in [*pantry.cache.packs()][:2]:
        Path(pack.path, "manifest.json").chmod(0o644)
        Path(pack.path, "manifest.json").write_text("{}")
    assert held(out=project.out) == {"out": True}


# --- what a run left


def note(cache: Cache, path: Path, **members: Any) -> None:
    RunNotes(cache).write(os.path.realpath(path), RunNote("ctx://x")._replace(**members))


def test_what_a_run_left_can_be_made_again_until_it_changes(held: Held, cache: Cache, project: Project) -> None:
    note(cache, project.out, ours=True, left=Site(str(project.out)).look())
    assert held(out=project.out) == {"out": True}
    (project.out / "joined").write_text("my own notes")
    assert_refused(held, project.out, out=project.out)


def test_a_note_that_claims_nothing_says_nothing(held: Held, cache: Cache, project: Project) -> None:
    note(cache, project.out, ours=False, left=Site(str(project.out)).look())
    assert_refused(held, project.out, out=project.out)


def test_what_a_killed_run_left_is_what_came_since_it_began(held: Held, cache: Cache, project: Project) -> None:
    youngest = max(os.lstat(path).st_ctime_ns for path in [project.out, *project.out.rglob("*")])
    oldest = min(os.lstat(path).st_ctime_ns for path in [project.out, *project.out.rglob("*")])
    note(cache, project.out, ours=True, began=oldest)
    assert held(out=project.out) == {"out": True}
    note(cache, project.out, ours=True, began=youngest + 1)
    assert_refused(held, project.out, out=project.out)


def test_a_note_counts_for_what_a_link_leads_to(held: Held, cache: Cache, project: Project, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project.out)
    note(cache, project.out, ours=True, left=Site(str(project.out)).look())
    assert held(out=tmp_path / "link") == {"out": True}


# --- what git has


def git(project: Project, *arguments: str) -> None:
    names = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *names, *arguments], cwd=project.root, check=True, capture_output=True)


def test_what_is_in_gits_head_can_be_made_again(held: Held, project: Project) -> None:
    git(project, "init", "-q")
    git(project, "add", ".")
    assert_refused(held, project.out, out=project.out)
    git(project, "commit", "-q", "-m", "one")
    assert held(out=project.out) == {"out": True}
    (project.out / "joined").write_text("my own notes")
    assert_refused(held, project.out, out=project.out)
    git(project, "add", ".")
    assert_refused(held, project.out, out=project.out)


def test_what_cannot_be_read_is_an_error(held: Held, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, *, local: bool) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ctxpack_pantry.replacing.fingerprint", fail)
    with pytest.raises(LocalFailure, match=r"out: cannot be read: Permission denied; check its permissions"):
        held(out=project.out)
