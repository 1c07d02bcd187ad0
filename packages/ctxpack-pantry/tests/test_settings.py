"""Flag > environment > nearest ctxpack.toml, from the contract's folder upwards > user file > default."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry import Settings, load_settings


def load(where: Path, **flags: str) -> Settings:
    """Load the settings for a contract that is two folders below where."""
    beside = where / "project" / "deep"
    beside.mkdir(parents=True, exist_ok=True)
    return load_settings(beside=str(beside), **flags)  # type: ignore[arg-type]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_with_nothing_set_packs_go_to_folders_of_the_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert load(tmp_path) == (
        (f"oci:{home}/.local/share/ctxpack/registry", "default"),
        (f"{home}/.cache/ctxpack", "default"),
    )


def test_xdg_variables_move_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    settings = load(tmp_path)
    assert (settings.registry.value, settings.cache.value) == ("oci:/data/ctxpack/registry", "/scratch/ctxpack")


def test_a_relative_xdg_variable_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "scratch")
    assert load(tmp_path).cache.value == f"{tmp_path}/home/.cache/ctxpack"


SOURCES = ("flag", "environment", "beside", "above", "user", "default")


@pytest.mark.parametrize("given", list(product([True, False], repeat=5)))
def test_the_first_source_that_names_a_setting_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[bool, ...]
) -> None:
    flag, variable, beside, above, user = given
    if variable:
        monkeypatch.setenv("CTXPACK_REGISTRY", "environment.test/x")
    if beside:
        write(tmp_path / "project/deep/ctxpack.toml", 'registry = "beside.test/x"')
    if above:
        write(tmp_path / "project/ctxpack.toml", 'registry = "above.test/x"')
    if user:
        write(tmp_path / "home/.config/ctxpack/config.toml", 'registry = "user.test/x"')
    found = load(tmp_path, **({"registry": "flag.test/x"} if flag else {})).registry
    expected = next(name for name, there in zip(SOURCES, (*given, True), strict=True) if there)
    if expected == "default":
        assert found.origin == "default"
    else:
        assert found.value == f"{expected}.test/x"
        origins = {
            "flag": "--registry",
            "environment": "CTXPACK_REGISTRY",
            "beside": f"{tmp_path}/project/deep/ctxpack.toml",
            "above": f"{tmp_path}/project/ctxpack.toml",
            "user": f"{tmp_path}/home/.config/ctxpack/config.toml",
        }
        assert found.origin == origins[expected]


def test_only_the_nearest_project_file_counts(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'cache = "/outer"\nregistry = "outer.test/x"')
    write(tmp_path / "project" / "deep" / "ctxpack.toml", 'cache = "/inner"')
    settings = load(tmp_path)
    assert settings.cache.value == "/inner"
    assert settings.registry.origin == "default"


def test_each_setting_has_its_own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_CACHE", "/from/environment")
    write(tmp_path / "project" / "ctxpack.toml", 'cache = "/from/file"\nregistry = "file.test/x"')
    settings = load(tmp_path)
    assert settings.cache == ("/from/environment", "CTXPACK_CACHE")
    assert settings.registry.value == "file.test/x"


def test_an_empty_variable_or_flag_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_CACHE", "")
    assert load(tmp_path, cache="").cache.origin == "default"


def test_folders_in_a_file_are_relative_to_that_file(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'cache = "kept"\nregistry = "oci:../packs"')
    settings = load(tmp_path)
    assert settings.cache.value == f"{tmp_path}/project/kept"
    assert settings.registry.value == f"oci:{tmp_path}/project/../packs"


def test_a_tilde_in_a_file_is_the_home_folder(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'cache = "~/kept"\nregistry = "oci:~/packs"')
    settings = load(tmp_path)
    assert settings.cache.value == f"{tmp_path}/home/kept"
    assert settings.registry.value == f"oci:{tmp_path}/home/packs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("registry =", r"not TOML: Invalid value \(at end of document\)"),
        (
            "registry = 'a'\nregistry = 'b'",
            r"not TOML: Cannot overwrite a value .*; correct the syntax \(https://toml\.io\)",
        ),
        ("\xff", "not TOML: 'utf-8' codec can't decode byte 0xff"),
        (
            "regsitry = 'x'",
            "unknown setting 'regsitry': expected registry or cache; correct the name, or remove the setting",
        ),
        ("cache = 5", r"setting 'cache' is empty or not a text; write cache = \"\.\.\.\", or remove the setting"),
        ("cache = ''", "setting 'cache' is empty or not a text"),
        ("[registry]\nurl = 'x'", "setting 'registry' is empty or not a text"),
    ],
)
def test_a_wrong_settings_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "project" / "ctxpack.toml"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput, match=message) as caught:
        load(tmp_path)
    assert (caught.value.where, caught.value.code) == (str(path), "E_SETTINGS")


def test_a_bad_user_file_is_an_error_even_when_the_project_sets_everything(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'cache = "/c"\nregistry = "file.test/x"')
    write(tmp_path / "home/.config/ctxpack/config.toml", "nonsense")
    with pytest.raises(InvalidInput, match=r"config\.toml: not TOML"):
        load(tmp_path)


def test_no_file_is_read_when_flags_and_variables_set_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "project" / "ctxpack.toml", "nonsense")
    monkeypatch.setenv("CTXPACK_REGISTRY", "environment.test/x")
    assert load(tmp_path, cache="/flag") == (("environment.test/x", "CTXPACK_REGISTRY"), ("/flag", "--cache"))


def test_a_file_that_cannot_be_read_is_a_local_failure() -> None:
    script = """
import os, sys, tomllib
from ctxpack_pantry import CtxPackError, load_settings
if os.geteuid() == 0:
    os.setuid(65534)
try:
    print(load_settings(beside=sys.argv[1]))
except CtxPackError as error:
    print(type(error).__name__, error)
"""
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: other users cannot enter the folders above
        path = write(Path(folder, "ctxpack.toml"), 'cache = "/c"')
        path.chmod(0)
        os.chmod(folder, 0o755)
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
        assert done.stdout == f"LocalFailure {path}: cannot be read: Permission denied; check its permissions\n"


def test_a_folder_with_the_name_of_a_settings_file_is_ignored(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "project" / "ctxpack.toml")
    assert load(tmp_path).cache.origin == "default"
