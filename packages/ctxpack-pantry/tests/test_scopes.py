"""Scopes have one name, however they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry.scopes import canonical_scope


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("ghcr.io/team", "ghcr.io/team"),
        ("GHCR.io/team/", "ghcr.io/team"),
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io:443/team/packs", "ghcr.io/team/packs"),
        ("http://reg.example:80/a", "reg.example:80/a"),
        ("docker.io", "docker.io"),
        ("docker.io/team", "docker.io/team"),
        ("index.docker.io/team", "docker.io/team"),
        ("registry-1.docker.io/team/packs", "docker.io/team/packs"),
        ("127.0.0.1:5000/packs", "127.0.0.1:5000/packs"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000/packs", "[::1]:5000/packs"),
    ],
)
def test_a_scope_has_one_name(text: str, scope: str) -> None:
    assert canonical_scope(text) == scope
    assert canonical_scope(scope) == scope


def test_a_layout_is_its_resolved_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert canonical_scope("oci:link/packs") == canonical_scope(f"oci:{tmp_path}/real/packs/")
    assert canonical_scope("oci:link/packs") == f"oci:{tmp_path.resolve()}/real/packs"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "team",
        "team/packs",
        "/srv/packs",
        "./packs",
        "oci:",
        "oci://packs",
        "ghcr.io//team",
        "ghcr.io/Team",
        "ghcr.io/team:latest",
        "ghcr.io/team@sha256:0",
        "ghcr.io/*",
        "*",
        "user:secret@ghcr.io/team",
        "ftp://ghcr.io/team",
        "ctx://sha256:" + "0" * 64,
        "ghcr.io/te\nam",
        "ghcr.io/../team",
    ],
)
def test_what_is_no_prefix_of_a_repository_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a scope: ") as caught:
        canonical_scope(text)
    assert caught.value.code == "E_SCOPE"
    assert "/a/a" not in str(caught.value)
    assert "secret@" not in caught.value.what
