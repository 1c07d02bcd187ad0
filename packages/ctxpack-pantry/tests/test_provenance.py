"""Who made a pack, when, where and with what."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import canonical_json
from ctxpack_pantry import Pantry
from ctxpack_pantry.provenance import Execution, record_provenance

if TYPE_CHECKING:
    from pantry_project import Project


def record(base: Path | str = "/", **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"version": "0.1.0", "base": str(base), "labels": {}, "upstream": {}}
    return record_provenance(**(given | more))


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "code.py").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_the_record_has_time_creator_and_versions(tmp_path: Path) -> None:
    made = record(tmp_path)
    assert set(made) == {"created", "creator", "versions"}
    assert set(made["creator"]) == {"host", "user"}
    assert made["versions"]["ctxpack"] == "0.1.0"
    assert made["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["created"])


def test_labels_upstream_and_command_are_recorded(tmp_path: Path) -> None:
    execution = Execution(("python", "x.py"), 1.23456)
    made = record(tmp_path, labels={"team": "search"}, upstream={"model": "ctx://…"}, execution=execution)
    assert made["labels"] == {"team": "search"}
    assert made["inputs"] == {"model": {"uri": "ctx://…"}}
    assert made["run"] == {"command": ["python", "x.py"], "seconds": 1.235}


def test_bytes_of_an_argument_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    made = record(tmp_path, execution=Execution(("cat", os.fsdecode(b"\xff\xc3\xa4")), 0.0))
    assert made["run"]["command"] == ["cat", "\\xffä"]
    canonical_json(made)


def test_bytes_of_a_user_name_that_are_not_utf8_are_escaped(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", os.fsdecode(b"\xff\xc3\xa4"))
    seeded = pantry.seed([], str(project.contract))
    assert seeded.manifest.provenance["creator"]["user"] == "\\xffä"


@pytest.mark.parametrize(
    ("epoch", "created"),
    [("0", "1970-01-01T00:00:00Z"), ("1700000000", "2023-11-14T22:13:20Z")],
)
def test_source_date_epoch_is_the_time_recorded(tmp_path: Path, epoch: str, created: str) -> None:
    assert record(tmp_path, environ={"SOURCE_DATE_EPOCH": epoch})["created"] == created


@pytest.mark.parametrize("epoch", ["", "-1", "soon", "1.5", "٣", "9" * 12])
def test_a_source_date_epoch_that_is_not_a_time_is_ignored(tmp_path: Path, epoch: str) -> None:
    created = record(tmp_path, environ={"SOURCE_DATE_EPOCH": epoch})["created"]
    assert "2024" < created < "2200"


def test_a_repository_without_changes_is_not_dirty(repository: Path) -> None:
    assert record(repository)["git"] == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize("change", ["code.py", "new.py"])
def test_a_changed_or_a_new_file_makes_a_repository_dirty(repository: Path, change: str) -> None:
    (repository / change).write_text("2")
    assert record(repository)["git"]["dirty"] is True


@pytest.mark.parametrize(
    ("origin", "recorded"),
    [
        ("https://bot:secret@git.example/team/notes.git?token=secret", "https://git.example/team/notes.git"),
        ("git@git.example:team/notes.git", "ssh://git.example/team/notes.git"),
        ("/srv/notes.git", None),
        ("../notes.git", None),
    ],
)
def test_the_origin_is_recorded_as_strangers_may_read_it(repository: Path, origin: str, recorded: str | None) -> None:
    git(repository, "remote", "add", "other", "https://git.example/another")
    git(repository, "remote", "add", "origin", origin)
    made = record(repository)
    assert made["git"].get("remote") == recorded
    assert "secret" not in canonical_json(made).decode()


def test_a_folder_inside_a_repository_has_its_commit(repository: Path) -> None:
    (repository / "below").mkdir()
    assert record(repository / "below")["git"]["dirty"] is False


def test_an_empty_base_is_the_current_folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    assert record("")["git"]["commit"] == git(repository, "rev-parse", "HEAD")


def test_a_repository_without_a_commit_is_not_recorded(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert "git" not in record(tmp_path)


def test_without_git_on_the_path_no_commit_is_recorded(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert "git" not in record(repository)


def test_dirty_is_not_recorded_when_git_has_no_answer(repository: Path) -> None:
    (repository / ".git" / "index").write_bytes(b"no index")
    assert record(repository)["git"] == {"commit": git(repository, "rev-parse", "HEAD")}


def test_recording_the_commit_changes_nothing_in_the_repository(repository: Path) -> None:
    os.utime(repository / "code.py", (1, 1))  # git would refresh its index
    before = (repository / ".git" / "index").read_bytes()
    record(repository)
    assert (repository / ".git" / "index").read_bytes() == before


def test_a_user_without_a_name_is_recorded_by_number(tmp_path: Path) -> None:
    """As in a container that runs as a user id without a name."""
    script = """
import os, sys
from ctxpack_pantry.provenance import record_provenance
if os.geteuid() == 0:
    os.setuid(54321)
for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
user = record_provenance(version="0", base="/", labels={}, upstream={})["creator"]["user"]
print(user, os.getuid())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    user, number = done.stdout.split()
    assert user == "54321" or number != "54321"  # only root can change its user id
