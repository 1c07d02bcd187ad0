"""Functions: what a Python function is called in a contract, and what a call of it says. What has no name is refused.

A function is named ``<module>:<qualname>``. Signatures are read from code objects: to load inspect takes longer than a
hit in the cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import Any, NamedTuple

__all__ = ["FunctionName", "Parameters", "WrongCall", "name_function", "parameters_of"]

_VARARGS, _VARKEYWORDS, _GENERATORS = 0x04, 0x08, 0x20 | 0x80 | 0x200  # co_flags; the last of async ones, too
_MAINS = ("__main__", "__mp_main__")  # the second in children of multiprocessing
_INSTALLED = ("site-packages", "dist-packages")
_MOVE = "move it into a file of its own, and import it from there"


class WrongCall(InvalidInput, TypeError):
    """A call that does not fit the parameters of the function."""

    code = "E_USAGE"


class FunctionName(NamedTuple):
    """What a function is called. module: dotted; file: of the module, absolute.

    base: the folder from which the module is imported, where that is known; else that of the file.
    """

    module: str
    qualname: str
    file: str
    base: str

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"

    @property
    def command(self) -> tuple[str, str]:
        """The command of a contract whose outputs the function makes."""
        return "python", str(self)


class Parameters(NamedTuple):
    """The parameters of a function. positional: names of those that a position may give; only: how many need one.

    named: names of those that only a keyword gives. defaults: by name. open: whether other keywords are taken, too.
    """

    positional: tuple[str, ...]
    only: int
    named: tuple[str, ...]
    defaults: dict[str, Any]
    open: bool

    def bind(self, given: Sequence[Any], keywords: Mapping[str, Any], *, without: str, where: str) -> dict[str, Any]:
        """Return the value of each parameter, and of the other keywords, by name; but not of the parameter `without`.

        Raises: WrongCall, a TypeError.
        """
        names = [name for name in self.positional if name != without]
        by_position = set(self.positional[: self.only])
        if len(given) > len(names):
            raise WrongCall(
                "too many arguments", where=where, expected=f"at most {len(names)} by position", got=str(len(given))
            )
        values = dict(zip(names, given, strict=False))
        known = {*names, *self.named} - {without}
        for name, value in keywords.items():
            if name == without:
                fix = "leave it out; the call returns where the result is"
                raise WrongCall(f"{without!r} is where the function writes, and not for callers", where=where, fix=fix)
            if name in values or name in by_position:
                expected = "one value" if name in values else "it by position"
                raise WrongCall(f"argument {name!r} by keyword", where=where, expected=expected, got="a keyword")
            if name not in known and not self.open:
                expected = ", ".join([*names, *(name for name in self.named if name != without)]) or "no arguments"
                raise WrongCall("unknown argument", where=where, expected=expected, got=name)
            values[name] = value
        for name in known - values.keys():
            if name in self.defaults:
                values[name] = self.defaults[name]
        missing = [name for name in (*names, *self.named) if name != without and name not in values]
        if missing:
            raise WrongCall("arguments are missing", where=where, expected=", ".join(missing), got="no value")
        return values

    def call(self, function: Callable[..., object], values: Mapping[str, Any]) -> None:
        """Call function with a value for each parameter."""
        by_position = self.positional[: self.only]
        function(
            *(values[name] for name in by_position),
            **{name: value for name, value in values.items() if name not in by_position},
        )


def name_function(function: Any) -> FunctionName:
    """Return what function is called.

    `__main__` is called as the module that it is run from: `python -m pkg.mod` is pkg.mod, `python pipeline.py` is
    pipeline.
    Raises: InvalidInput (E_FUNCTION) for anything but a function that a file has, that no class holds and that uses no
    variables of a function around it; for lambdas, generators and coroutines, too.
    """
    if type(function) is not type(name_function):
        raise _no_function(function)
    module, qualname = str(function.__module__), function.__qualname__
    where, code = f"{module}:{qualname}", function.__code__
    if function.__name__ == "<lambda>":
        raise _refused("a lambda has no name of its own", where, 'write it as a function, with "def"')
    if code.co_flags & _GENERATORS:
        fix = "let an ordinary function run it to its end"
        raise _refused("a generator or coroutine, which has made nothing when the call returns", where, fix)
    if function.__closure__:
        names = ", ".join(code.co_freevars)
        fix = "make them parameters, and the function one of the module"
        raise _refused(f"it uses variables of the function around it, which no contract names: {names}", where, fix)
    if "." in qualname.rpartition("<locals>.")[2]:
        fix = "write a function of the module, which gets what it needs from the object as parameters"
        raise _refused("a method; the object that it is called on is in no contract", where, fix)
    file = os.path.abspath(code.co_filename)
    of_module = str(function.__globals__.get("__file__") or "")
    # Jupyter names files, too, which it has written when somebody debugs; its modules have none.
    if not os.path.isfile(file) or os.path.realpath(of_module) != os.path.realpath(file):
        got = f"{code.co_filename!r}: code of a notebook, of a prompt, of exec or of an archive"
        raise _refused("the function is in no file, so its code cannot be hashed", where, _MOVE, got=got)
    spec = function.__globals__.get("__spec__")
    if module in _MAINS and spec is not None and spec.name not in _MAINS:
        module = spec.name
    if module in _MAINS or module.startswith("<"):  # <run_path> of runpy
        module = os.path.basename(file).rpartition(".")[0] or os.path.basename(file)
    return FunctionName(module, qualname, file, _base(module, file))


def parameters_of(function: Any) -> Parameters:
    """Return the parameters of a function. Raises: InvalidInput (E_FUNCTION) when it takes any number by position."""
    code = function.__code__
    if code.co_flags & _VARARGS:
        where = f"{function.__module__}:{function.__qualname__}"
        extra = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        raise _refused(f"arguments without names: *{extra}", where, "name each parameter, or take a list")
    positional = code.co_varnames[: code.co_argcount]
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    given = function.__defaults__ or ()
    defaults = dict(zip(positional[len(positional) - len(given) :], given, strict=True))
    return Parameters(
        positional,
        code.co_posonlyargcount,
        named,
        {**defaults, **(function.__kwdefaults__ or {})},
        bool(code.co_flags & _VARKEYWORDS),
    )


def _base(module: str, file: str) -> str:
    """Return the folder that holds the module, or the package that it is in; that of the file where names differ."""
    path, folder = os.path.splitext(file)[0].removesuffix("/__init__"), os.path.dirname(file)
    tail = "/" + module.replace(".", "/")
    base = path.removesuffix(tail) or "/"
    # What is installed lies beside packages that it has nothing to do with.
    return folder if base == path or os.path.basename(base) in _INSTALLED else base


def _no_function(given: Any) -> InvalidInput:
    kind, where = type(given).__name__, str(getattr(given, "__qualname__", None) or type(given).__qualname__)
    kinds = {
        "type": "a class",
        "method": "a method",
        "staticmethod": "a method",
        "classmethod": "a method",
        "partial": "a partial, whose arguments are in no contract",
        "builtin_function_or_method": "a function that is not written in Python",
    }
    fix = 'write a function in a module, with "def", that calls it'
    return _refused(f"not a function: {kinds.get(kind, f'an object of the class {kind}')}", where, fix)


def _refused(what: str, where: str, fix: str, *, got: str = "") -> InvalidInput:
    return InvalidInput(what, where=where, got=got, fix=fix, code="E_FUNCTION")
