"""Settings: flag > environment > ``ctxpack.toml`` in the contract's folder or above > user file > default.

A folder's ``ctxpack.toml`` may be somebody else's, as in a clone or in a pack. So it may not name a cache, where
CtxPack writes and deletes, nor a key or what is signed with it; and what it names is marked: `Pantry.target` keeps
passwords of the environment from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ctxpack_identity import InvalidInput, LocalFailure
from ctxpack_identity.home import home_folder, with_home
from ctxpack_identity.lighttyping import Any, NamedTuple

__all__ = ["PROJECT_FILE", "Setting", "Settings", "configuration_folder", "load_settings", "unknown_variables"]

PROJECT_FILE = "ctxpack.toml"
LONGEST_SETTLE = 60.0  # seconds
_SETTLE = "0.5"  # seconds
_USER_FILE = "config.toml"
_NAMES = ("registry", "cache", "settle", "key", "sign")
_OF_USER = {  # what a folder's file may not set, and how else a user can
    "cache": ("name the cache", "use --cache or CTXPACK_CACHE"),
    "key": ("name a key", "use --key"),
    "sign": ("say what is signed", "use --sign"),
}

_PREFIX = "CTXPACK_"
_VARIABLES = (
    *(f"{_PREFIX}{name.upper()}" for name in ("registry", "cache", "settle")),
    "CTXPACK_USERNAME",
    "CTXPACK_PASSWORD",
    "CTXPACK_KEY",
    "CTXPACK_KEY_PASSWORD",
    "CTXPACK_TRUST",
    "CTXPACK_DEBUG",
    "CTXPACK_CONTRACT",  # for commands that `run` and `map` start; they may start ctxpack again
    "CTXPACK_URI",
    "CTXPACK_DONE",
)


class Setting(NamedTuple):
    """A value, and where it was set: the flag, the variable or the path of the file.

    from_folder: whether a folder's ctxpack.toml has it, which the user may not have written.
    """

    value: str
    origin: str
    from_folder: bool = False

    @property
    def is_default(self) -> bool:
        """Whether nobody set it."""
        return self.origin == "default"


class Settings(NamedTuple):
    """registry: ``host[:port]/repo/path``, ``http://…`` or ``oci:/folder``. cache: a folder. settle: seconds.

    settle: how long the tag of a push must stay as it is (0 to 60). users_registry: what the user's own file names,
    "" for nothing; it matters where a folder's ctxpack.toml names the registry. key: path of the signer's key file, ""
    for none. sign: registries and repositories, as they are written, whose packs `push` signs by default. The user's
    own file alone can set these two.
    """

    registry: Setting
    cache: Setting
    settle: Setting = Setting(_SETTLE, "default")
    users_registry: str = ""
    key: Setting = Setting("", "default")
    sign: tuple[str, ...] = ()


class _File(NamedTuple):
    """A settings file. values: checked, as they are written there; sign: that setting."""

    path: str
    values: dict[str, str]
    from_folder: bool
    sign: tuple[str, ...] = ()


def load_settings(
    *,
    registry: str | None = None,
    cache: str | None = None,
    beside: str = ".",
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return each setting from the first source that has it.

    registry, cache: the values of flags. beside: ctxpack.toml is searched from this folder upwards. environ: os.environ
    if None.
    Raises: InvalidInput for a settings file that is not TOML or has a wrong setting, for a wrong CTXPACK_SETTLE, and
    for a cache in the home folder when that is not known; LocalFailure when a file cannot be read.
    """
    variables = os.environ if environ is None else environ
    flags = {"registry": registry, "cache": cache}
    files: list[_File] | None = None

    def find(name: str) -> Setting:
        nonlocal files
        flag, variable = flags.get(name), f"{_PREFIX}{name.upper()}"
        if flag:
            return Setting(flag, f"--{name}")
        if variables.get(variable):
            return Setting(variables[variable], variable)
        if files is None:
            files = _read_files(beside, variables)
        for file in files:
            if name in file.values:
                return Setting(_relative_to(file.path, name, file.values[name]), file.path, file.from_folder)
        return Setting(_default(name, variables), "default")

    where, settle = find("registry"), find("settle")
    _check_settle(settle.value, settle.origin)
    users = next((file.values.get("registry", "") for file in files or () if not file.from_folder), "")
    folder = _cache(find("cache"), variables)
    key, sign = _signing(_read_users(variables) if files is None else files, variables)
    return Settings(_in_home(where, variables), folder, settle, users, key, sign)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return one line for each ``CTXPACK_`` variable that nothing reads, with the known one that is nearest.

    >>> unknown_variables({"CTXPACK_REGISTY": "ghcr.io/a/b", "CTXPACK_CACHE": "/c"})
    ['the variable CTXPACK_REGISTY is ignored; did you mean "CTXPACK_REGISTRY"?']
    """
    unknown = sorted(name for name in environ if name.startswith(_PREFIX) and name not in _VARIABLES)
    return [_ignored(name) for name in unknown]


def _ignored(name: str) -> str:
    from ctxpack_identity.faults import did_you_mean  # a mistake is rare

    near = did_you_mean(name.removeprefix(_PREFIX), [known.removeprefix(_PREFIX) for known in _VARIABLES])
    hint = near.replace('"', f'"{_PREFIX}', 1) or f"ctxpack knows {', '.join(_VARIABLES)}"
    return f"the variable {name[:100]} is ignored; {hint}"


def _read_files(beside: str, environ: Mapping[str, str]) -> list[_File]:
    users = _user_file(environ)
    return [_read(path, users, from_folder=True) for path in _project_files(beside)] + _read_users(environ)


def _read_users(environ: Mapping[str, str]) -> list[_File]:
    users = _user_file(environ)
    return [_read(users, users, from_folder=False)] if users and os.path.isfile(users) else []


def _signing(files: list[_File], environ: Mapping[str, str]) -> tuple[Setting, tuple[str, ...]]:
    """Return the settings `key` and `sign`. A home folder that is not known is an error only when the key is opened."""
    for file in files:
        if not file.from_folder:
            key = _relative_to(file.path, "key", file.values.get("key", ""))
            named = Setting(with_home(key, environ) or key, file.path) if key else Setting("", "default")
            return named, tuple(_scope(file.path, scope, environ) for scope in file.sign)
    return Setting("", "default"), ()


def _scope(path: str, scope: str, environ: Mapping[str, str]) -> str:
    """Return a scope of `sign`; a layout's folder is relative to the file."""
    return _in_home(Setting(_relative_to(path, "registry", scope), path), environ).value


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
    """Return the path of the user's own settings file, "" when it would be in a home folder that is not known."""
    folder = configuration_folder(environ)
    return os.path.join(folder, _USER_FILE) if folder else ""


def configuration_folder(environ: Mapping[str, str]) -> str:
    """Return the path of CtxPack's folder in the user's configuration, "" when the home folder is not known."""
    folder = _base(environ, "XDG_CONFIG_HOME", ".config")
    return os.path.join(folder, "ctxpack") if os.path.isabs(folder) else ""


def _default(name: str, environ: Mapping[str, str]) -> str:
    """Return the default, in the folder ``~`` when the home folder is not known."""
    if name == "settle":
        return _SETTLE
    if name == "cache":
        return os.path.join(_base(environ, "XDG_CACHE_HOME", ".cache"), "ctxpack")
    return "oci:" + os.path.join(_base(environ, "XDG_DATA_HOME", ".local/share"), "ctxpack", "registry")


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> str:
    """Return a base folder. XDG Base Directory Specification: a relative path in the variable is ignored."""
    folder = environ.get(variable, "")
    return folder if os.path.isabs(folder) else os.path.join(home_folder(environ) or "~", below_home)


def _read(path: str, users: str, *, from_folder: bool) -> _File:
    """Return the settings in a file. users: the path of the user's own file, for messages."""
    import tomllib  # slow to import, and most users have no settings file

    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, not UTF-8, a number of 5000 digits, deep nesting
        raise InvalidInput(
            f"not TOML: {error}", where=path, fix="correct the syntax (https://toml.io)", code="E_SETTINGS"
        ) from error
    except OSError as error:
        raise LocalFailure(f"cannot be read: {error.strerror}", where=path, fix="check its permissions") from error
    for name, (what, otherwise) in _OF_USER.items():
        if from_folder and name in values:
            raise InvalidInput(
                f"a folder's settings may not {what}",
                where=path,
                fix=f"write it in {users or 'your own settings file'}, or {otherwise}",
                code="E_SETTINGS",
            )
    sign = _checked_scopes(values.pop("sign"), path) if "sign" in values else ()
    known = tuple(name for name in _NAMES if name not in _OF_USER) if from_folder else _NAMES
    return _File(path, {name: _checked(name, value, path, known) for name, value in values.items()}, from_folder, sign)


def _checked_scopes(value: Any, path: str) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) and one and "\0" not in one for one in value):
        return tuple(value)
    raise InvalidInput(
        "setting 'sign' is not a list of registries and repositories",
        where=path,
        fix='write sign = ["ghcr.io/team/packs"], or remove the setting',
        code="E_SETTINGS",
    )


def _checked(name: str, value: Any, path: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise InvalidInput(
            f"unknown setting {name!r}",
            where=path,
            expected=f"{', '.join(known[:-1])} or {known[-1]}",
            fix="correct the name, or remove the setting",
            code="E_SETTINGS",
        )
    if name == "settle":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(
                "setting 'settle' is not a number",
                where=path,
                fix="write settle = 0.5, in seconds, or remove the setting",
                code="E_SETTINGS",
            )
        return _as_text(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidInput(
            f"setting {name!r} is empty or not a text",
            where=path,
            fix=f'write {name} = "...", or remove the setting',
            code="E_SETTINGS",
        )
    return value


def _as_text(seconds: int | float) -> str:
    try:
        return str(float(seconds))
    except OverflowError:  # an integer of hundreds of digits, which str may refuse
        return "inf"


def _check_settle(text: str, origin: str) -> None:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_SETTLE:  # this way round, NaN is refused too
        raise InvalidInput(
            "not a settle time",
            where=origin if origin.startswith(_PREFIX) else f"{origin}, settle",
            expected=f"a number of seconds, 0 to {LONGEST_SETTLE:.0f}",
            got=repr(text)[:80],
            fix="correct it, or remove it for the default",
            code="E_SETTINGS",
        )


def _relative_to(path: str, name: str, value: str) -> str:
    """Return the value of a file; a relative folder is relative to the file."""
    scheme = "oci:" if name == "registry" and value.startswith("oci:") else ""
    folder = value.removeprefix(scheme)
    if not value or name == "settle" or (name == "registry" and not scheme) or folder.startswith("~"):
        return value
    return scheme + os.path.join(os.path.dirname(os.path.abspath(path)), folder)


def _in_home(registry: Setting, environ: Mapping[str, str]) -> Setting:
    """Return the registry with the home folder for ``~``. Without one, it is an error only when it is opened."""
    folder = registry.value.removeprefix("oci:")
    if folder == registry.value or not folder.startswith("~"):
        return registry
    return registry._replace(value="oci:" + (with_home(folder, environ) or folder))


def _cache(cache: Setting, environ: Mapping[str, str]) -> Setting:
    folder = with_home(cache.value, environ)
    if not folder:
        raise InvalidInput(
            f"the home folder for {cache.value} is not known",
            where="cache" if cache.origin == "default" else cache.origin,
            expected="HOME with an absolute path",
            fix="set HOME, or name the cache with --cache or CTXPACK_CACHE",
            code="E_SETTINGS",
        )
    return cache._replace(value=folder)
