"""Settings: flag > environment > ``ctxpack.toml`` in the contract's folder or above > user file > default."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["PROJECT_FILE", "Setting", "Settings", "load_settings"]

PROJECT_FILE = "ctxpack.toml"
_USER_FILE = "config.toml"
_NAMES = ("registry", "cache")


class Setting(NamedTuple):
    """A value, and where it was set."""

    value: str
    origin: str


class Settings(NamedTuple):
    """registry: ``host[:port]/repo/path``, ``http://…`` or ``oci:/folder``. cache: a folder."""

    registry: Setting
    cache: Setting


def load_settings(
    *, registry: str | None = None, cache: str | None = None, beside: str = ".", environ: Mapping[str, str] = os.environ
) -> Settings:
    """Return each setting from the first source that has it.

    registry, cache: the values of flags. beside: ctxpack.toml is searched from this folder upwards.
    Raises: InvalidInput for a settings file that is not TOML or has a wrong setting; LocalFailure when it cannot be
    read.
    """
    flags = {"registry": registry, "cache": cache}
    files: list[tuple[str, dict[str, str]]] | None = None

    def find(name: str) -> Setting:
        nonlocal files
        flag, variable = flags[name], f"CTXPACK_{name.upper()}"
        if flag:
            return Setting(flag, f"--{name}")
        if environ.get(variable):
            return Setting(environ[variable], variable)
        if files is None:
            paths = (*_project_files(beside), _user_file(environ))
            files = [(path, _read(path)) for path in paths if os.path.isfile(path)]
        for path, values in files:
            if name in values:
                return Setting(values[name], path)
        return Setting(_default(name, environ), "default")

    return Settings(find("registry"), find("cache"))


def _project_files(beside: str) -> list[str]:
    """Return the nearest one only: a project inside another project has its own settings."""
    folder = os.path.abspath(beside)
    while True:
        path = os.path.join(folder, PROJECT_FILE)
        if os.path.isfile(path):
            return [path]
        parent = os.path.dirname(folder)
        if parent == folder:
            return []
        folder = parent


def _user_file(environ: Mapping[str, str]) -> str:
    return os.path.join(_base(environ, "XDG_CONFIG_HOME", ".config"), "ctxpack", _USER_FILE)


def _default(name: str, environ: Mapping[str, str]) -> str:
    if name == "cache":
        return os.path.join(_base(environ, "XDG_CACHE_HOME", ".cache"), "ctxpack")
    return "oci:" + os.path.join(_base(environ, "XDG_DATA_HOME", ".local/share"), "ctxpack", "registry")


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> str:
    """Return a base folder. XDG Base Directory Specification: a relative path in the variable is ignored."""
    folder = environ.get(variable, "")
    return folder if os.path.isabs(folder) else os.path.join(os.path.expanduser("~"), below_home)


def _read(path: str) -> dict[str, str]:
    import tomllib  # slow to import, and most users have no settings file

    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"not TOML: {error}", where=path, fix="correct the syntax (https://toml.io)", code="E_SETTINGS"
        ) from error
    except OSError as error:
        raise LocalFailure(f"cannot be read: {error.strerror}", where=path, fix="check its permissions") from error
    for name, value in values.items():
        if name not in _NAMES:
            raise InvalidInput(
                f"unknown setting {name!r}",
                where=path,
                expected=" or ".join(_NAMES),
                fix="correct the name, or remove the setting",
                code="E_SETTINGS",
            )
        if not isinstance(value, str) or not value:
            raise InvalidInput(
                f"setting {name!r} is empty or not a text",
                where=path,
                fix=f'write {name} = "...", or remove the setting',
                code="E_SETTINGS",
            )
    return {name: _from_file(value, path, name) for name, value in values.items()}


def _from_file(value: str, path: str, name: str) -> str:
    """Return value; a relative folder is relative to the settings file."""
    folder = os.path.dirname(os.path.abspath(path))
    if name == "cache":
        return os.path.join(folder, os.path.expanduser(value))
    if value.startswith("oci:"):
        return "oci:" + os.path.join(folder, os.path.expanduser(value.removeprefix("oci:")))
    return value
