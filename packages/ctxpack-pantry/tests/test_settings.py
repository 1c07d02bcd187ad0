"""Flag > environment > nearest ctxpack.toml, from the contract's folder upwards > user file > default."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput
from ctxpack_pantry import Settings, load_settings
from ctxpack_pantry.settings import Setting, unknown_variables


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
    assert load(tmp_path) == Settings(
        Setting(f"oci:{home}/.local/share/ctxpack/registry", "default"),
        Setting(f"{home}/.cache/ctxpack", "default"),
        Setting("0.5", "default"),
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
    assert found.from_folder == (expected in ("beside", "above"))


def test_only_the_nearest_project_file_counts(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'settle = 1\nregistry = "outer.test/x"')
    write(tmp_path / "project" / "deep" / "ctxpack.toml", "settle = 2")
    settings = load(tmp_path)
    assert settings.settle.value == "2.0"
    assert settings.registry.origin == "default"


def test_each_setting_has_its_own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_CACHE", "/from/environment")
    path = write(tmp_path / "project" / "ctxpack.toml", 'registry = "file.test/x"')
    user = write(tmp_path / "home/.config/ctxpack/config.toml", 'cache = "/from/file"\nsettle = 3')
    assert load(tmp_path) == Settings(
        Setting("file.test/x", str(path), True),
        Setting("/from/environment", "CTXPACK_CACHE"),
        Setting("3.0", str(user)),
    )


def test_an_empty_variable_or_flag_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_CACHE", "")
    assert load(tmp_path, cache="").cache.origin == "default"


def test_folders_in_a_file_are_relative_to_that_file(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'registry = "oci:../packs"')
    write(tmp_path / "home/.config/ctxpack/config.toml", 'cache = "kept"\nregistry = "oci:none"')
    settings = load(tmp_path)
    assert settings.cache.value == f"{tmp_path}/home/.config/ctxpack/kept"
    assert settings.registry.value == f"oci:{tmp_path}/project/../packs"


def test_a_tilde_in_a_file_is_the_home_folder(tmp_path: Path) -> None:
    write(tmp_path / "home/.config/ctxpack/config.toml", 'cache = "~/kept"\nregistry = "oci:~/packs"')
    settings = load(tmp_path)
    assert settings.cache.value == f"{tmp_path}/home/kept"
    assert settings.registry.value == f"oci:{tmp_path}/home/packs"


def test_a_tilde_that_no_shell_saw_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    flags = load(tmp_path, cache="~/kept", registry="oci:~/packs")
    assert (flags.cache.value, flags.registry.value) == (f"{home}/kept", f"oci:{home}/packs")
    monkeypatch.setenv("CTXPACK_CACHE", "~/kept")
    monkeypatch.setenv("CTXPACK_REGISTRY", "oci:~/packs")
    assert load(tmp_path)[:2] == (
        Setting(f"oci:{home}/packs", "CTXPACK_REGISTRY"),
        Setting(f"{home}/kept", "CTXPACK_CACHE"),
    )


def test_the_registry_of_the_user_is_known_beside_that_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'registry = "folder.test/x"')
    assert load(tmp_path).users_registry == ""
    write(tmp_path / "home/.config/ctxpack/config.toml", 'registry = "user.test/x"')
    settings = load(tmp_path)
    assert (settings.registry.value, settings.registry.from_folder) == ("folder.test/x", True)
    assert settings.users_registry == "user.test/x"


@pytest.mark.parametrize("text", ['cache = "/c"', 'cache = "kept"', "cache = 5", 'cache = "/c"\nregistry = "a.test/x"'])
def test_a_folder_names_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = write(tmp_path / "project" / "ctxpack.toml", text)
    for cache in ("", "/another"):
        monkeypatch.setenv("CTXPACK_CACHE", cache)
        with pytest.raises(InvalidInput) as caught:
            load(tmp_path)
        assert caught.value.code == "E_SETTINGS"
        assert str(caught.value) == (
            f"{path}: a folder's settings may not name the cache; "
            f"write it in {tmp_path}/home/.config/ctxpack/config.toml, or use --cache or CTXPACK_CACHE"
        )


# -- key and sign -----------------------------------------------------------------------------------------------------


def test_the_users_own_file_names_a_key_and_what_is_signed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "home/.config/ctxpack/config.toml",
        'key = "keys/ci.key"\nsign = ["ghcr.io/team", "oci:packs", "oci:~/packs"]',
    )
    settings = load(tmp_path)
    assert settings.key == Setting(f"{path.parent}/keys/ci.key", str(path))
    assert settings.sign == ("ghcr.io/team", f"oci:{path.parent}/packs", f"oci:{tmp_path}/home/packs")


@pytest.mark.parametrize(
    ("text", "path"), [('key = "~/ci.key"', "{home}/ci.key"), ('key = "/k/ci.key"', "/k/ci.key"), ("", "")]
)
def test_the_key_is_a_path(tmp_path: Path, text: str, path: str) -> None:
    write(tmp_path / "home/.config/ctxpack/config.toml", text)
    assert load(tmp_path).key.value == path.format(home=tmp_path / "home")
    assert load(tmp_path).sign == ()


def test_the_key_is_known_when_all_else_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "home/.config/ctxpack/config.toml", 'key = "/k/ci.key"')
    monkeypatch.setenv("CTXPACK_SETTLE", "1")
    assert load(tmp_path, cache="/c", registry="a.test/x").key.value == "/k/ci.key"


def test_no_variable_is_taken_for_the_path_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_KEY", "-----BEGIN")
    monkeypatch.setenv("CTXPACK_SIGN", "a.test")
    settings = load(tmp_path)
    assert (settings.key, settings.sign) == (Setting("", "default"), ())
    assert "BEGIN" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('key = "ci.key"', "name a key; {fix} --key"),
        ("key = 5", "name a key; {fix} --key"),
        ('sign = ["a.test/x"]', "say what is signed; {fix} --sign"),
        ("sign = []", "say what is signed; {fix} --sign"),
        ('registry = "a.test/x"\nsign = ["a.test/x"]', "say what is signed; {fix} --sign"),
    ],
)
def test_a_folder_says_nothing_of_keys(tmp_path: Path, text: str, what: str) -> None:
    path = write(tmp_path / "project" / "ctxpack.toml", text)
    fix = f"write it in {tmp_path}/home/.config/ctxpack/config.toml, or use"
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path)
    assert caught.value.code == "E_SETTINGS"
    assert str(caught.value) == f"{path}: a folder's settings may not {what.format(fix=fix)}"


@pytest.mark.parametrize(
    "text", ["sign = true", 'sign = "a.test/x"', "sign = [1]", 'sign = [""]', 'sign = ["a\\u0000"]', "[sign]\na = 1"]
)
def test_what_is_signed_is_a_list_of_names(tmp_path: Path, text: str) -> None:
    write(tmp_path / "home/.config/ctxpack/config.toml", text)
    with pytest.raises(
        InvalidInput, match=r"setting 'sign' is not a list of registries and repositories; write sign ="
    ):
        load(tmp_path)


@pytest.mark.parametrize("text", ["key = 5", "key = ''", "key = ['a']", 'key = "a\\u0000"'])
def test_a_key_is_a_text(tmp_path: Path, text: str) -> None:
    write(tmp_path / "home/.config/ctxpack/config.toml", text)
    with pytest.raises(InvalidInput, match="setting 'key' is empty or not a text"):
        load(tmp_path)


# -- settle -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("0.25", 0.25), ("60", 60.0), ("6e1", 60.0), ("-0.0", 0.0), ("0x1e", 30.0)]
)
def test_a_settle_time_in_a_file(tmp_path: Path, text: str, seconds: float) -> None:
    path = write(tmp_path / "project" / "ctxpack.toml", f"settle = {text}")
    settle = load(tmp_path).settle
    assert (float(settle.value), settle.origin) == (seconds, str(path))


@pytest.mark.parametrize(
    "text", ["61", "60.1", "-1", "nan", "-nan", "inf", "-inf", "1e999", "9" * 999, "0x" + "f" * 5000]
)
def test_a_wrong_settle_time_in_a_file_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "project" / "ctxpack.toml", f"settle = {text}")
    with pytest.raises(
        InvalidInput, match="settle: not a settle time: expected a number of seconds, 0 to 60"
    ) as caught:
        load(tmp_path)
    assert caught.value.where == f"{path}, settle"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["true", '"0.5"', "[1]", "2026-01-01", '""'])
def test_a_settle_time_in_a_file_is_a_number(tmp_path: Path, text: str) -> None:
    write(tmp_path / "project" / "ctxpack.toml", f"settle = {text}")
    with pytest.raises(InvalidInput, match=r"setting 'settle' is not a number; write settle = 0\.5, in seconds"):
        load(tmp_path)


def test_a_settle_time_in_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "project" / "ctxpack.toml", "settle = 1")
    monkeypatch.setenv("CTXPACK_SETTLE", "0.125")
    assert load(tmp_path).settle == Setting("0.125", "CTXPACK_SETTLE")


@pytest.mark.parametrize("text", ["x", "-1", "61", "nan", "inf", "1e9", "0,5", "1s", " ", "--"])
def test_a_wrong_settle_time_in_the_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CTXPACK_SETTLE", text)
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path)
    assert (caught.value.where, caught.value.code) == ("CTXPACK_SETTLE", "E_SETTINGS")
    assert str(caught.value).startswith(
        f"CTXPACK_SETTLE: not a settle time: expected a number of seconds, 0 to 60, got {text!r}; "
    )


@given(st.floats() | st.integers() | st.text())
def test_a_settle_time_is_a_number_of_seconds_or_an_error(value: float | str) -> None:
    environ = {"CTXPACK_SETTLE": str(value), "CTXPACK_CACHE": "/c", "CTXPACK_REGISTRY": "a.test/x"}
    if isinstance(value, float | int) and not 0 <= value <= 60:
        with pytest.raises(InvalidInput, match=r"^CTXPACK_SETTLE: not a settle time"):
            load_settings(environ=environ)
        return
    with contextlib.suppress(InvalidInput):
        assert 0 <= float(load_settings(environ=environ).settle.value) <= 60


# -- no home folder ---------------------------------------------------------------------------------------------------

NO_HOME = {"HOME": ""}
"""As good as no HOME for a user whom the system does not know."""


def test_made_by_hand_they_need_no_settle_time() -> None:
    assert Settings(Setting("a.test/x", ""), Setting("/c", "")).settle.value == "0.5"


@pytest.mark.parametrize("home", ["", "home", "~", "./home"])
@pytest.mark.parametrize("given", ["default", "flag", "variable"])
def test_a_cache_in_a_home_folder_that_is_not_known_is_an_error(tmp_path: Path, home: str, given: str) -> None:
    environ = {"HOME": home, "CTXPACK_REGISTRY": "a.test/x"}
    if given == "variable":
        environ["CTXPACK_CACHE"] = "~/kept"
    with pytest.raises(InvalidInput) as caught:
        load_settings(beside=str(tmp_path), environ=environ, cache="~/kept" if given == "flag" else None)
    where = {"default": "cache", "flag": "--cache", "variable": "CTXPACK_CACHE"}[given]
    shown = "~/.cache/ctxpack" if given == "default" else "~/kept"
    assert str(caught.value) == (
        f"{where}: the home folder for {shown} is not known: expected HOME with an absolute path; "
        "set HOME, or name the cache with --cache or CTXPACK_CACHE"
    )
    assert caught.value.code == "E_SETTINGS"


def test_without_a_home_folder_the_registry_is_an_error_only_when_it_is_opened(tmp_path: Path) -> None:
    settings = load_settings(beside=str(tmp_path), environ=NO_HOME, cache="/c")
    assert settings.registry == Setting("oci:~/.local/share/ctxpack/registry", "default")


def test_no_home_folder_is_needed_where_nothing_lies_in_it(tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    write(tmp_path / "XDG_CONFIG_HOME/ctxpack/config.toml", "settle = 4")
    settings = load_settings(beside=str(tmp_path), environ=NO_HOME | folders)
    assert settings.cache.value == f"{tmp_path}/XDG_CACHE_HOME/ctxpack"
    assert settings.registry.value == f"oci:{tmp_path}/XDG_DATA_HOME/ctxpack/registry"
    assert settings.settle.value == "4.0"
    assert load_settings(beside=str(tmp_path), environ=NO_HOME, cache="/c", registry="a.test/x")[:2] == (
        Setting("a.test/x", "--registry"),
        Setting("/c", "--cache"),
    )


# -- variables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("CTXPACK_REGISTY", "CTXPACK_REGISTRY"),
        ("CTXPACK_registry", "CTXPACK_REGISTRY"),
        ("CTXPACK_CACHE_DIR", "CTXPACK_CACHE"),
        ("CTXPACK_USER", "CTXPACK_USERNAME"),
        ("CTXPACK_PASS", "CTXPACK_PASSWORD"),
        ("CTXPACK_SETTEL", "CTXPACK_SETTLE"),
    ],
)
def test_an_unknown_variable_is_told_with_the_nearest_one(name: str, known: str) -> None:
    assert unknown_variables({name: "hunter2"}) == [f'the variable {name} is ignored; did you mean "{known}"?']


def test_an_unknown_variable_without_a_neighbour_is_told_with_all(tmp_path: Path) -> None:
    (line,) = unknown_variables({"CTXPACK_QQQ": "hunter2"})
    assert line.startswith("the variable CTXPACK_QQQ is ignored; ctxpack knows CTXPACK_REGISTRY, CTXPACK_CACHE, ")


def test_known_variables_and_those_of_others_are_not_told() -> None:
    known = [
        "REGISTRY",
        "CACHE",
        "SETTLE",
        "USERNAME",
        "PASSWORD",
        "DEBUG",
        "CONTRACT",
        "URI",
        "KEY",
        "KEY_PASSWORD",
        "TRUST",
    ]
    assert unknown_variables({**{f"CTXPACK_{name}": "" for name in known}, "CTXPACKS": "", "X_CTXPACK_Y": ""}) == []


def test_the_known_variables_are_those_that_the_sources_name() -> None:
    packages = Path(__file__).parents[2]
    sources = [path.read_text(encoding="utf-8") for path in packages.glob("*/src/**/*.py")]
    named = {name for text in sources for name in re.findall(r"\bCTXPACK_[A-Z]+\b", text)} - {"CTXPACK_REGISTY"}
    assert unknown_variables(dict.fromkeys(named, "")) == []


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
            "unknown setting 'regsitry': expected registry or settle; correct the name, or remove the setting",
        ),
        ("registry = 5", r"setting 'registry' is empty or not a text; write registry = \"\.\.\.\", or remove the set"),
        ("registry = ''", "setting 'registry' is empty or not a text"),
        ('registry = "oci:a\\u0000b"', "setting 'registry' is empty or not a text"),
        ("settle = " + "9" * 5000, "not TOML: Exceeds the limit"),
        ("registry = " + "[" * 50_000, "not TOML: "),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache = 5", r"setting 'cache' is empty or not a text; write cache = \"\.\.\.\", or remove the setting"),
        ("cache = ''", "setting 'cache' is empty or not a text"),
        ('cache = "a\\u0000b"', "setting 'cache' is empty or not a text"),
        ("cahce = 'x'", "unknown setting 'cahce': expected registry, cache, settle, key or sign"),
    ],
)
def test_a_wrong_settings_file_of_the_user_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "home/.config/ctxpack/config.toml", text)
    with pytest.raises(InvalidInput, match=message) as caught:
        load(tmp_path)
    assert (caught.value.where, caught.value.code) == (str(path), "E_SETTINGS")


def test_a_bad_user_file_is_an_error_even_when_the_project_sets_everything(tmp_path: Path) -> None:
    write(tmp_path / "project" / "ctxpack.toml", 'settle = 1\nregistry = "file.test/x"')
    write(tmp_path / "home/.config/ctxpack/config.toml", "nonsense")
    with pytest.raises(InvalidInput, match=r"config\.toml: not TOML"):
        load(tmp_path)


def test_no_file_is_read_when_flags_and_variables_set_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "project" / "ctxpack.toml", "nonsense")
    monkeypatch.setenv("CTXPACK_REGISTRY", "environment.test/x")
    monkeypatch.setenv("CTXPACK_SETTLE", "1")
    assert load(tmp_path, cache="/flag") == Settings(
        Setting("environment.test/x", "CTXPACK_REGISTRY"), Setting("/flag", "--cache"), Setting("1", "CTXPACK_SETTLE")
    )


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
        path = write(Path(folder, "ctxpack.toml"), "settle = 1")
        path.chmod(0)
        os.chmod(folder, 0o755)
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
        assert done.stdout == f"LocalFailure {path}: cannot be read: Permission denied; check its permissions\n"


def test_a_folder_with_the_name_of_a_settings_file_is_ignored(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "project" / "ctxpack.toml")
    assert load(tmp_path).cache.origin == "default"
