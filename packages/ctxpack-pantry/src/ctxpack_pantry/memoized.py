"""Memo: a function that writes files is called once for the same inputs, params and code, whoever calls it.

::

    @memo
    def parse(docs: Path, out: Path, *, dpi: int = 300) -> None:
        ...  # reads docs, writes the file or folder out

    result = parse(Path("raw_docs"), dpi=600)  # where the result lies, read-only

A call becomes a contract. Arguments that are a pathlib.Path are its inputs, all others its params. The same contract
file, written by hand, has the same URI::

    {
      "inputs": [{"name": "docs", "path": "raw_docs"}],
      "command": ["python", "pipeline:parse"],
      "transforms": [{"tool": "pipeline.parse", "tool_version": "1", "code": [{"path": "pipeline.py"}],
                      "params": {"dpi": 600}}],
      "outputs": [{"path": "out"}]
    }
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ctxpack_identity.canonical import canonical_json, parse_json, pointer
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, Protocol, TypeAlias
from ctxpack_identity.scheme import scheme_of
from ctxpack_pantry.functions import FunctionName, name_function, parameters_of
from ctxpack_pantry.loadedcode import changed_since, loaded_code

if TYPE_CHECKING:
    from typing import overload

    from ctxpack_identity import CtxUri
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.contractfile import LoadedContractFile
    from ctxpack_pantry.identified import Identified
    from ctxpack_pantry.makers import FunctionMaker
    from ctxpack_pantry.pantry import Pantry
    from ctxpack_pantry.weakpoints import WeakPoint
else:

    def overload(function):
        """Return function: only the type checker looks, and typing takes long to load."""
        return function


# Most calls are hits in the cache, so what only a miss needs is imported where it is used.

__all__ = ["Memoized", "Roots", "memo"]

_OUT = "out"
_MOST_SAID = 1000  # notices that are remembered

RootPath: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any]"
Roots: TypeAlias = "RootPath | Iterable[RootPath]"
"""Files and folders, as paths, relative to the folder of the function's file, or as objects of a contract file."""


class Memoized(Protocol):
    """What @memo makes of a function. It is called like it, but without `out`."""

    __wrapped__: Callable[..., object]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Path:
        """Return where the result lies in the cache, read-only: a folder, or a file. The function runs on a miss only.

        Raises: InvalidInput for arguments that are no JSON; as identify.identify and remember.remember do; as the
        function does.
        """

    def uri(self, /, *args: Any, **kwargs: Any) -> CtxUri:
        """Return the URI of the result of a call, without calling the function. Raises: as a call does before it."""


@overload
def memo(function: Callable[..., object], /) -> Memoized: ...


@overload
def memo(  # noqa: F811 (ruff knows only the overload of typing)
    *,
    pantry: Pantry | None = None,
    tool: str | None = None,
    version: str = "1",
    code: Roots = (),
    environment: Roots | None = None,
    inputs: Mapping[str, Mapping[str, Any]] | None = None,
    texts: Iterable[str] = (),
    variables: Iterable[str] | Mapping[str, str] = (),
    platform: Mapping[str, str] | None = None,
    salt: str = "",
    labels: Mapping[str, str] | None = None,
    push: bool = False,
    offline: bool = False,
) -> Callable[[Callable[..., object]], Memoized]: ...


def memo(  # noqa: F811
    function: Callable[..., object] | None = None,
    /,
    *,
    pantry: Pantry | None = None,
    tool: str | None = None,
    version: str = "1",
    code: Roots = (),
    environment: Roots | None = None,
    inputs: Mapping[str, Mapping[str, Any]] | None = None,
    texts: Iterable[str] = (),
    variables: Iterable[str] | Mapping[str, str] = (),
    platform: Mapping[str, str] | None = None,
    salt: str = "",
    labels: Mapping[str, str] | None = None,
    push: bool = False,
    offline: bool = False,
) -> Memoized | Callable[[Callable[..., object]], Memoized]:
    """Make a function run only when nobody ran it with the same inputs, params and code; with or without options.

    The function is one of a module, and has a parameter `out`, which callers do not give: the path, not there yet, of
    the file or folder that it makes. It reads only what its arguments and its code say, and what it returns is ignored.
    An argument that is a pathlib.Path is an input: the file or folder there is hashed. All others are params, so JSON:
    None, bool, int, float, str, lists, and dicts with text keys. A tuple counts as a list. Defaults count as if they
    were given. The function gets params as their canonical form reads: 3.0 arrives as 3, a tuple as a list. A text that
    is the path of something that exists is refused, unless texts names its parameter.

    pantry: where packs are; by default that of the settings, whose notices go to stderr. tool, version: of the
    transform; by default the name of the function, and "1". code: what the function needs besides its own file, such as
    modules that it imports. environment: what it runs on, such as a lock file. inputs: by the names of parameters, what
    a contract file may say beside the path of an input: exclude, symlinks, gitignore, listing. texts: parameters whose
    values may be the names of files by accident. variables, platform, salt, labels: as in a contract file. push: see to
    it that the registry has the result. offline: look for it in the cache only.
    Raises: InvalidInput (E_FUNCTION) for a function that cannot be named, or has no `out`.
    """

    def decorate(function: Callable[..., object]) -> Memoized:
        members: dict[str, Any] = {
            "variables": dict(variables) if isinstance(variables, Mapping) else _as_list(variables),
            "platform": dict(platform or {}),
            "salt": salt,
            "labels": dict(labels or {}),
        }
        made = _Memo(
            function,
            pantry,
            tool,
            version,
            _as_roots(code),
            _as_roots(environment),
            dict(inputs or {}),
            frozenset(_as_list(texts)),
            members,
            push=push,
            offline=offline,
        )

        # A function, not an object: pickled by its name, and by cloudpickle (Dask, Ray) whole.
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Path:
            return made(*args, **kwargs)

        call.uri = made.uri  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate if function is None else decorate(function)


class _Memo:
    """One decorated function. code, environment: as they are in a contract file; members: others of it."""

    def __init__(
        self,
        function: Callable[..., object],
        pantry: Pantry | None,
        tool: str | None,
        version: str,
        code: list[RootPath],
        environment: list[RootPath],
        inputs: dict[str, Mapping[str, Any]],
        texts: frozenset[str],
        members: dict[str, Any],
        *,
        push: bool,
        offline: bool,
    ) -> None:
        self._name = name = name_function(function)
        self._parameters = parameters = parameters_of(function)
        names = {*parameters.positional, *parameters.named}
        if _OUT not in names:
            fix = f"add the parameter {_OUT!r}: the path that the function writes to"
            raise InvalidInput("no parameter for the result", where=str(name), fix=fix, code="E_FUNCTION")
        unknown = sorted({*inputs, *texts} - names)
        if unknown and not parameters.open:
            expected = ", ".join(sorted(names - {_OUT}))
            raise InvalidInput(
                "no such parameter", where=str(name), expected=expected, got=", ".join(unknown), code="E_FUNCTION"
            )
        self._function, self._pantry = function, pantry
        self._transform: dict[str, Any] = {
            "tool": tool or f"{name.module}.{name.qualname}",
            "tool_version": version,
            "code": _code(name, code),
        }
        self._environment = list(_located(name, environment))
        self._inputs, self._texts, self._members = inputs, texts, members
        self._push, self._offline = push, offline
        self._places = [root["path"] for root in self._transform["code"] if _is_place(root)]
        self._loaded = loaded_code(function)
        self._loaded.see(function, name, self._places)
        self._code: list[str] | None = None
        self._said: set[str] = set()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Path:
        from ctxpack_pantry.remember import remember

        values = self._values(args, kwargs)
        with (self._pantry or _default_pantry())._context() as context:
            contract_file, identified = self._identify(context, values)

            def maker() -> FunctionMaker:
                from ctxpack_pantry.makers import FunctionMaker

                def call(places: dict[str, Path]) -> None:
                    self._parameters.call(self._function, {**values, _OUT: places[_OUT]})
                    self._loaded.see(self._function, self._name, self._places)  # it may have imported more

                return FunctionMaker(call, self._name.command)

            push, offline = self._push, self._offline
            return Path(remember(context, contract_file, identified, maker, push=push, offline=offline))

    def uri(self, /, *args: Any, **kwargs: Any) -> CtxUri:
        values = self._values(args, kwargs)
        with (self._pantry or _default_pantry())._context() as context:
            return self._identify(context, values)[1].uri

    def _values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the value of each parameter but `out`: paths as they are, all others in their canonical form."""
        where = str(self._name)
        given = self._parameters.bind(args, kwargs, without=_OUT, where=where)
        paths = {name: value for name, value in given.items() if isinstance(value, Path)}
        params = {name: value for name, value in given.items() if name not in paths}
        try:
            canonical = canonical_json(params, where=where)
        except InvalidInput as error:
            if error.code == "E_TYPE":
                error.fix = _FIX_OF_TYPE
            raise
        for name, value in params.items():
            if name not in self._texts:
                _require_no_paths(name, value, where)
        return {**paths, **parse_json(canonical, where=where)}

    def _identify(self, context: Context, values: Mapping[str, Any]) -> tuple[LoadedContractFile, Identified]:
        """Return the contract of a call. Raises: InvalidInput when this process runs older code."""
        from ctxpack_pantry.contractfile import as_contract_file
        from ctxpack_pantry.identify import identify

        inputs = {name: value for name, value in values.items() if isinstance(value, Path)}
        params = {name: value for name, value in values.items() if name not in inputs}
        document = {
            **self._members,
            "inputs": [
                {**self._inputs.get(name, {}), "name": name, "path": _located_input(value)}
                for name, value in sorted(inputs.items())
            ],
            "command": list(self._name.command),
            "transforms": [{**self._transform, **_environment(self._environment), "params": params}],
            # It is made in a staging folder, so nothing is ever here.
            "outputs": [{"name": _OUT, "path": os.path.join(os.path.abspath(context.cache.root), _OUT)}],
        }
        contract_file = as_contract_file(document, where=str(self._name), base=self._name.base)
        try:
            identified = identify(context, contract_file)
        except InvalidInput as error:
            if error.code == "E_OUTPUT_INSIDE":
                error.what = "the cache lies in what is hashed, and the result is made there"
                error.fix = (
                    'move the cache (CTXPACK_CACHE), or leave it out: @memo(inputs={"NAME": {"exclude": ["…"]}})'
                )
            raise
        self._require_loaded(identified)
        self._say(context, identified.weak)
        return contract_file, identified

    def _require_loaded(self, identified: Identified) -> None:
        """Raise InvalidInput when code or environment are not what this process loaded, as far as that is known."""
        [transform] = identified.contract["transforms"]
        code = [transform["code_hash"], transform["environment_hash"]]
        if self._code is None:
            self._code = code
        self._loaded.require(self._function, self._name, identified.hashed)
        if code != self._code:
            raise changed_since(self._name)

    def _say(self, context: Context, weak: Iterable[WeakPoint]) -> None:
        """Give a notice of each weak point that was not said before, and one of all imports."""
        weak = tuple(weak)
        lines = [f"weak point: {point.what}" for point in weak if point.code != "import"]
        imports = [point.what for point in weak if point.code == "import"]
        lines += [f"weak point: {'; '.join(imports)}"] if imports else []
        for line in lines:
            if line not in self._said and len(self._said) < _MOST_SAID:
                self._said.add(line)
                context.notice(line)


_FIX_OF_TYPE = (
    "give None, bool, int, float, str, lists, or dicts with text keys; a pathlib.Path for a file or folder, as an "
    "argument of its own"
)


def _require_no_paths(name: str, value: Any, where: str) -> None:
    """Raise InvalidInput for a text in a param that is the path of something: its content would be in no contract."""
    below = [(pointer("", name), value)]
    while below:
        at, value = below.pop()
        if isinstance(value, str):
            if value and os.path.lexists(value):
                raise InvalidInput(
                    "a text that is the path of a file or folder, whose content no contract would name",
                    where=f"{where}, {at}",
                    got=repr(value),
                    fix=f"pass pathlib.Path(...), as an argument of its own; or, if it is no path, say "
                    f'@memo(texts=["{name}"])',
                    code="E_PATH",
                )
        elif isinstance(value, dict):
            below += [(pointer(at, key), item) for key, item in value.items()]
            below += [(pointer(at, key), key) for key in value]
        elif isinstance(value, list | tuple):
            below += [(pointer(at, index), item) for index, item in enumerate(value)]


def _as_roots(given: Roots | None) -> list[RootPath]:
    if given is None:
        return []
    if isinstance(given, str | os.PathLike | Mapping):
        return [given]
    return list(given)


def _as_list(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _located_input(value: Path) -> str:
    """Return the absolute path of an input, or the URL that a subclass of Path may hold."""
    path = os.fspath(value)
    return path if scheme_of(path) else os.path.join(os.getcwd(), path)


def _code(name: FunctionName, more: list[RootPath]) -> list[dict[str, Any]]:
    """Return the roots of the code: the file of the function, then others."""
    file = os.path.realpath(name.file)
    others = [root for root in _located(name, more) if os.path.realpath(root.get("path", "")) != file]
    return [{"name": os.path.basename(name.file), "path": file}, *others]


def _environment(roots: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the member of a transform: one file, whose text a pack shows if no more is said of it; or many roots."""
    if len(roots) != 1:
        return {"environment": roots} if roots else {}
    root = {member: value for member, value in roots[0].items() if member != "name"}
    text = {"text": True} if root.keys() == {"path"} and _is_lock_file(root["path"]) else {}
    return {"environment": {**root, **text}}


def _located(name: FunctionName, roots: list[RootPath]) -> Iterator[dict[str, Any]]:
    """Yield roots with absolute paths, and with names that no place of the project is in."""
    folder = os.path.dirname(name.file)
    for given in roots:
        root = dict(given) if isinstance(given, Mapping) else {"path": os.fspath(given)}
        path = root.get("path")
        if isinstance(path, str | os.PathLike) and not scheme_of(os.fspath(path)):
            root["path"] = os.path.join(folder, path)
            above = os.path.join(os.path.realpath(root["path"]), "")
            if os.path.join(os.path.realpath(folder), "").startswith(above):
                root.setdefault("name", "code")  # the folder of the project, whatever it is called here
        yield root


def _is_place(root: Mapping[str, Any]) -> bool:
    """Return whether a root is a file or folder of this machine."""
    path = root.get("path")
    return isinstance(path, str) and not scheme_of(path)


def _is_lock_file(path: str) -> bool:
    from ctxpack_identity.packtext import MAX_TEXT_BYTES

    return os.path.isfile(path) and os.path.getsize(path) <= MAX_TEXT_BYTES


_pantries: dict[tuple[object, ...], Pantry] = {}  # one, unless the process forks or changes its settings


def _default_pantry() -> Pantry:
    """Return the pantry of this process, with the settings that the command line would have here."""
    settings = tuple(item for item in sorted(os.environ.items()) if item[0].startswith(("CTXPACK_", "XDG_", "HOME")))
    key = (os.getpid(), settings)
    pantry = _pantries.get(key)
    if pantry is None:
        from ctxpack_pantry.pantry import Pantry
        from ctxpack_pantry.settings import load_settings

        found = load_settings()
        cache = found.cache._replace(value=os.path.abspath(found.cache.value))
        pantry = Pantry(found._replace(cache=cache), notice=_Stderr().say)
        _pantries.clear()  # those of a parent process are not this one's to close
        pantry = _pantries.setdefault(key, pantry)
    return pantry


class _Stderr:
    """Says notices on stderr, and a weak point once, since all functions of a module may share it."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, message: str) -> None:
        import sys

        from ctxpack_identity import printable

        if message in self._said or sys.stderr is None:
            return
        if message.startswith("weak point: ") and len(self._said) < _MOST_SAID:
            self._said.add(message)
        print(f"ctxpack: {printable(message)}", file=sys.stderr)
