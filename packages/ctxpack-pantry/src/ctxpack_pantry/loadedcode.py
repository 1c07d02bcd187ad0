"""Loaded code: whether this process runs what the files of a function's code hold now, which is what a contract names.

A process goes on with what it imported when a file is edited, so what it makes would have the name of other code. What
it imported cannot be asked for, so each file is looked at as early as possible, and compared with that look from then
on. The first look trusts a file that did not change since the process began; else it compares the functions in memory
with those of the file. `importlib.reload` gives a module another spec, and so a first look again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from ctxpack_identity import HashedRoot
    from ctxpack_pantry.functions import FunctionName

# A hit in the cache is the most frequent case, so what only an edited file needs is imported where it is used.

__all__ = ["LoadedCode", "SameCode", "changed_since", "loaded_code"]

_SECOND = 1_000_000_000  # in nanoseconds
_PYC_HEADER = 16  # bytes
_SLACK = 2.0  # seconds by which the clock of a file system may be behind
_PYTHON = os.path.join(os.path.dirname(os.__file__), "")
_INSTALLED = ("/site-packages/", "/dist-packages/")  # named by the environment, and not edited in place
_FUNCTION = type(lambda: None)


class _Module:  # no named tuple, which takes longer to make than a look
    """A module in memory. file: as it was loaded; token: another object whenever it is loaded again.

    is_live: whether it came from its file in this process, not from another process by cloudpickle.
    """

    __slots__ = ("file", "is_live", "names", "token")

    def __init__(self, file: str, names: dict[str, Any], token: object, *, is_live: bool) -> None:
        self.file, self.names, self.token, self.is_live = file, names, token, is_live


# Looks at the files of modules, by file and id of the token: the token, what stat(2) said, and the digest of the bytes,
# "" when they are not what was loaded.
_looks: dict[tuple[str, int], tuple[object, tuple[int, ...], str]] = {}
_agreed: set[bytes] = set()  # ids of SameCode
_codes: dict[int, tuple[object, LoadedCode]] = {}  # by id of the token of the function's module


class LoadedCode:
    """What the files of a function's code held when they were loaded, as far as this process saw it.

    It belongs to the module of the function as long as that is not loaded again. A helper that is loaded again with
    other content is not enough: the module may hold names of the former one. It can be pickled. Threads may share it.
    """

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}  # by file
        self._known: dict[int, CodeType] = {}  # functions that were compared with their file

    def __getstate__(self) -> dict[str, Any]:
        return {"_digests": dict(self._digests), "_known": {}}

    def see(self, function: Any, name: FunctionName, places: Iterable[str] = ()) -> None:
        """Look at the file of a function, and at what is loaded from these files and folders.

        Raises: InvalidInput (E_FUNCTION) when the function is not that of its file.
        """
        for module in _modules(function, name, places):
            self._changed(module)
        code = function.__code__
        if id(code) not in self._known:
            module = _own(function, name)
            if not (_is_older_than_process(module) or _holds(module, code)):
                raise changed_since(name, name.file)
            self._known[id(code)] = code

    def require(self, function: Any, name: FunctionName, hashed: Iterable[HashedRoot]) -> None:
        """Raise InvalidInput (E_FUNCTION) unless what is loaded is what is hashed, as far as that is known."""
        roots = [root for root in hashed if not root.is_url]
        is_named, seen = _named(name, roots), set()
        for module in _modules(function, name, [root.location for root in roots]):
            seen.add(module.file)
            if self._changed(module) and is_named(module.file):
                raise changed_since(name, module.file)
        for file in set(self._digests) - seen:  # loaded where this was pickled, or no longer
            if is_named(file) and _digest(file) != self._digests[file]:
                raise changed_since(name, file)

    def in_other_processes(
        self, function: Callable[..., object], name: FunctionName, hashed: Iterable[HashedRoot]
    ) -> SameCode:
        """Return a function for other processes, which calls this one if they have loaded the same code."""
        is_named = _named(name, hashed)
        return SameCode(function, name, {file: digest for file, digest in self._digests.items() if is_named(file)})

    def _changed(self, module: _Module) -> bool:
        digest = _loaded_digest(module, self._digests.get(module.file, ""))
        return not digest or self._digests.setdefault(module.file, digest) != digest


class SameCode:
    """A function that another process calls if that has loaded the same code, as far as it has the same files.

    name, digests: of the function, and of the files of its code, where it is from.
    """

    def __init__(self, function: Callable[..., object], name: FunctionName, digests: Mapping[str, str]) -> None:
        self._function, self._name, self._digests = function, name, dict(digests)
        self._id = os.urandom(16)

    def __call__(self, /, *args: Any, **kwargs: Any) -> object:
        """Call the function. Raises: InvalidInput (E_FUNCTION) when it is other code here; as the function does."""
        if self._id not in _agreed:
            self._require()
            _agreed.add(self._id)
        return self._function(*args, **kwargs)

    def _require(self) -> None:
        for module in _modules(self._function, self._name, self._digests):
            # A function that was pickled with its code is that of the other process.
            if module.file in self._digests and module.is_live and _loaded_digest(module) != self._digests[module.file]:
                raise changed_since(self._name, module.file)


def loaded_code(function: Any) -> LoadedCode:
    """Return what is known of the code of a function: one for all functions of a module, until it is loaded again."""
    token = _token(function)
    return _codes.setdefault(id(token), (token, LoadedCode()))[1]


def _named(name: FunctionName, hashed: Iterable[HashedRoot]) -> Callable[[str], bool]:
    """Return what says whether a file is that of the function, or is hashed."""
    from ctxpack_identity.hashing.outside import is_hashed

    roots = [root for root in hashed if not root.is_url]
    return lambda file: file == name.file or any(is_hashed(file, root.place()) for root in roots)


def changed_since(name: FunctionName, file: str = "") -> InvalidInput:
    """Return the error for a function whose code is not what is loaded. file: which of it."""
    return InvalidInput(
        "its code changed since this process loaded it, so what it makes now would have the name of other code",
        where=str(name),
        got=os.path.relpath(file, name.base) if file else "",
        fix="start the process again (in a notebook, restart the kernel); or use importlib.reload for the module that "
        "changed, then for that of the function, and take the function from it again; if that does not help, remove "
        "__pycache__",
        code="E_FUNCTION",
    )


def _token(function: Any) -> object:
    """Return what is another object when the module of a function is loaded again: its spec; scripts have none."""
    spec = function.__globals__.get("__spec__")
    return function.__code__ if spec is None else spec


def _own(function: Any, name: FunctionName) -> _Module:
    """Return the module of a function."""
    names = function.__globals__
    module = sys.modules.get(str(names.get("__name__")))
    return _Module(name.file, names, _token(function), is_live=module is not None and _names_of(module) is names)


def _names_of(module: object) -> dict[str, Any]:
    """Return the names of a module; a lazy one is not loaded for it."""
    try:
        names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    except AttributeError:  # anything may be among the modules
        return {}
    return names


def _modules(function: Any, name: FunctionName, places: Iterable[str]) -> Iterator[_Module]:
    """Yield the module of a function, and those that were loaded from these places, but not installed ones."""
    yield _own(function, name)
    real = [os.path.realpath(place) for place in places]
    at, below = frozenset(real), tuple(os.path.join(place, "") for place in real)
    folders: dict[str, str] = {}
    for module in list(sys.modules.values()) if real else ():
        names = _names_of(module)
        file = names.get("__file__")
        at_home = _at_home(file) if isinstance(file, str) and names is not function.__globals__ else None
        if at_home is None:
            continue
        folder, base = at_home
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        path = f"{folders[folder]}/{base}"
        leads = os.path.realpath(path) if os.path.islink(path) else path
        if path in at or leads in at or path.startswith(below) or leads.startswith(below):
            spec = names.get("__spec__")
            yield _Module(f"{folder}/{base}", names, names if spec is None else spec, is_live=True)


@cache
def _at_home(file: str) -> tuple[str, str] | None:
    """Return the folder and name of the file of a module; None of one that is installed, or of Python itself."""
    if file.startswith(_PYTHON) or any(part in file for part in _INSTALLED):
        return None
    return os.path.split(os.path.abspath(file))


def _loaded_digest(module: _Module, known: str = "") -> str:
    """Return the digest of what a module was loaded from; "" when its file does not hold that now, or is gone.

    known: the digest, where another process saw it.
    """
    key = module.file, id(module.token)
    look = _looks.get(key)
    try:
        stat = _stat(module.file)
        if look is None or (look[1] != stat and not look[2]):
            digest = _digest(module.file)
            is_known = digest == known and not module.is_live
            is_loaded = is_known or _is_older_than_process(module) or not _differs(module)
            look = _looks[key] = module.token, stat, digest if is_loaded else ""
        elif look[1] != stat:
            if _digest(module.file) != look[2]:
                return ""
            look = _looks[key] = module.token, stat, look[2]
    except OSError:
        return ""
    return look[2]


def _stat(file: str) -> tuple[int, ...]:
    status = os.stat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(file: str) -> str:
    """Return the digest of a file, "" when it cannot be read."""
    from hashlib import sha256

    try:
        with open(file, "rb") as opened:
            return sha256(opened.read()).hexdigest()
    except OSError:
        return ""


def _is_older_than_process(module: _Module) -> bool:
    """Return whether the file of a module did not change since this process began, so that it holds what was loaded."""
    status = os.stat(module.file)
    is_older = max(status.st_mtime, status.st_ctime) < _began() - _SLACK
    return module.is_live and is_older and _confused(module) is None


def _confused(module: _Module) -> str | None:
    """Return the compiled file of a module that Python takes though it may be of a former content of the source.

    Python compares the second of the source, and its size, so not if it was edited right after it was compiled.
    """
    compiled = module.names.get("__cached__")
    if not isinstance(compiled, str):
        return None
    try:
        of_compiled, of_source = os.stat(compiled).st_mtime_ns, os.stat(module.file).st_mtime_ns
    except OSError:
        return None
    is_same_second = of_compiled // _SECOND == of_source // _SECOND
    return compiled if is_same_second and of_compiled < of_source else None


@cache
def _began() -> float:
    """Return when this process began, or the one that it was forked from: seconds since the epoch; 0 if not known."""
    try:
        parent, ticks, stack = _process(b"self")
        with suppress(OSError):  # of a parent
            while (above := _process(parent))[2] == stack:  # a program that is started has another stack
                parent, ticks, _ = above
        since_boot = ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0  # no Linux


def _process(pid: bytes) -> tuple[bytes, int, bytes]:
    """Return the parent of a process, the ticks from the boot to its start, and the address of its stack."""
    with open(b"/proc/%b/stat" % pid, "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # from the third one on
    return fields[1], int(fields[19]), fields[25]


def _differs(module: _Module) -> bool:
    """Return whether the file of a module has other code of the same name than the module in memory has."""
    codes = _codes_in(module)
    if codes is None:
        return False
    return not codes or any(code not in codes.get(code.co_qualname, [code]) for code in _codes_of(module))


def _holds(module: _Module, code: CodeType) -> bool:
    """Return whether the file of a module has this function, or whether that cannot be told."""
    codes = _codes_in(module)
    return codes is None or code in codes.get(code.co_qualname, [])


def _codes_in(module: _Module) -> dict[str, list[CodeType]] | None:
    """Return the code that the file of a module has now, by qualified name: its own, and that of its functions.

    None when they cannot be compared: something else than Python itself compiled the module, such as pytest.
    """
    from importlib.machinery import SourceFileLoader

    loader = module.names.get("__loader__")
    if loader is not None and type(loader) is not SourceFileLoader:
        return None
    try:
        with open(module.file, "rb") as file:
            return _compiled(file.read(), module.file)
    except OSError:  # which is said when it is hashed
        return None


@lru_cache(maxsize=1)
def _compiled(source: bytes, file: str) -> dict[str, list[CodeType]]:
    """Return all code of a source, by qualified name; none of one that is no Python."""
    import warnings

    codes: dict[str, list[CodeType]] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were said when it was loaded
            below = [compile(source, file, "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return codes
    while below:
        code = below.pop()
        codes.setdefault(code.co_qualname, []).append(code)
        below += [constant for constant in code.co_consts if isinstance(constant, type(code))]
    return codes


def _codes_of(module: _Module) -> Iterator[CodeType]:
    """Yield code that a module has from its file: all while it is run, then its functions, also of its classes."""
    compiled = _confused(module)
    if compiled is not None:
        import marshal

        with open(compiled, "rb") as file:
            yield marshal.loads(file.read()[_PYC_HEADER:])
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is module.names and frame.f_code.co_name == "<module>":
            yield frame.f_code
            return  # in a module that is loaded again, other functions are still the former ones
        frame = frame.f_back
    name = module.names.get("__name__")
    below, seen = list(module.names.values()), set()
    while below:
        value = below.pop()
        kind = type(value)  # not isinstance, to which a proxy lies
        if id(value) in seen:
            continue
        seen.add(id(value))
        if issubclass(kind, type) and vars(value).get("__module__") == name:
            below += vars(value).values()
        elif kind in (staticmethod, classmethod):
            below.append(value.__func__)
        elif kind is property:
            below += [value.fget, value.fset, value.fdel]
        elif kind is _FUNCTION:
            if os.path.abspath(value.__code__.co_filename) == module.file:
                yield value.__code__
            below.append(vars(value).get("__wrapped__"))
