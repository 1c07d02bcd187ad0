"""Which credentials a registry gets depends on who named it, and a folder's choice is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry import Pantry, Settings
from ctxpack_pantry.settings import Setting

FOLDERS = "/clone/ctxpack.toml"


@pytest.fixture
def named_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who named each registry that was opened, as ctxpack_oci is told."""
    given: list[str] = []

    def opened(location: object, *, environ: object, named_by: str) -> Any:
        given.append(named_by)
        return object()

    monkeypatch.setattr("ctxpack_pantry.access.open_target", opened)
    return given


def settings_of(registry: str, *, from_folder: bool, users: str = "") -> Settings:
    setting = Setting(registry, FOLDERS if from_folder else "--registry", from_folder)
    return Settings(setting, Setting("/none", ""), users_registry=users)


@pytest.mark.parametrize(
    ("registry", "from_folder", "users", "theirs"),
    [
        ("ghcr.io/a", False, "", False),
        ("ghcr.io/a", False, "quay.io/b", False),
        ("ghcr.io/a", True, "", True),
        ("ghcr.io/a", True, "quay.io/b", True),
        ("ghcr.io/a", True, "ghcr.io/b/c", False),
        ("GHCR.io:443/a", True, "https://ghcr.io/b", False),
        ("ghcr.io:5000/a", True, "ghcr.io/a", True),
        ("http://ghcr.io/a", True, "ghcr.io/a", True),
        ("http://ghcr.io:443/a", True, "ghcr.io/a", True),
        ("evil.ghcr.io/a", True, "ghcr.io/a", True),
        ("docker.io/x/a", True, "index.docker.io/y/b", False),
        ("ghcr.io/a", True, "oci:/srv/packs", True),
        ("ghcr.io/a", True, "not a location", True),
        ("oci:/srv/packs", True, "oci:/srv/packs", True),
    ],
)
def test_the_environment_s_credentials_are_for_the_user_s_own_choice(
    named_by: list[str], registry: str, from_folder: bool, users: str, theirs: bool
) -> None:
    assert Pantry(settings_of(registry, from_folder=from_folder, users=users)).target
    assert named_by == [FOLDERS if theirs else ""]


def test_settings_made_by_hand_are_the_user_s(named_by: list[str]) -> None:
    assert Pantry(Settings(Setting("ghcr.io/a", "wherever"), Setting("/none", ""))).target
    assert named_by == [""]


@pytest.mark.parametrize("users", ["", "ghcr.io/mine"])
def test_a_folder_s_choice_is_said_once_by_each_pantry(named_by: list[str], users: str) -> None:
    said: list[str] = []
    for _ in range(2):
        pantry = Pantry(settings_of("GHCR.io/team/packs", from_folder=True, users=users), notice=said.append)
        assert pantry.target is pantry.target
        pantry._opened = None  # as after close
        assert pantry.target
    assert said == [f"registry ghcr.io/team/packs, which {FOLDERS} names"] * 2


def test_plain_http_is_said(named_by: list[str]) -> None:
    said: list[str] = []
    for registry in ("http://ghcr.io/a", "http://127.0.0.1:5000/a"):
        assert Pantry(settings_of(registry, from_folder=True), notice=said.append).target
    assert said == [
        f"registry http://ghcr.io/a, which {FOLDERS} names",
        f"registry 127.0.0.1:5000/a, which {FOLDERS} names",
    ]


def test_a_layout_of_a_folder_is_said_too(tmp_path: Path) -> None:
    said: list[str] = []
    assert Pantry(settings_of(f"oci:{tmp_path}", from_folder=True), notice=said.append).target
    assert said == [f"registry oci:{tmp_path}, which {FOLDERS} names"]


def test_a_user_s_choice_is_not_said(named_by: list[str]) -> None:
    said: list[str] = []
    assert Pantry(settings_of("ghcr.io/a", from_folder=False), notice=said.append).target
    assert said == []


def test_a_target_that_was_given_is_not_said(registry: Any) -> None:
    said: list[str] = []
    assert Pantry(settings_of("ghcr.io/a", from_folder=True), target=registry, notice=said.append).target is registry
    assert said == []


@pytest.mark.parametrize("named", ["not a location", "ghcr.io/a/", "oci:a\nb"])
def test_a_wrong_location_is_an_error_before_anything_is_said(named: str) -> None:
    say: Callable[[str], None] = pytest.fail
    with pytest.raises(InvalidInput):
        assert Pantry(settings_of(named, from_folder=True), notice=say).target
