"""What the command reads of the project and no input, code or environment covers, as far as texts show it.

Arguments of the command that are files or folders, and modules that Python code imports. What a program opens while it
runs is not seen here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise

from ctxpack_identity.contract import OPAQUE
from ctxpack_identity.contractfile import Roots
from ctxpack_identity.hashing.outside import HashedPlace, is_hashed
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ctxpack_identity import HashedRoot
    from ctxpack_identity.contractfile import ContractFile
    from ctxpack_pantry.contractfile import LoadedContractFile

__all__ = ["CodeFolder", "uncovered"]

_MODULES = 500  # files that are read
_HEAD = 64 << 10  # bytes of one
_WORDS = 200  # of the command
_ENTRIES = 10_000  # of a folder beside the code
_SAMPLE = 200  # entries of a folder that may be a package

_SCRIPTS = (".py", ".sh", ".js", ".R", ".jl", ".pl", ".rb")  # what is code whatever else is given

_find_imports = re.compile(
    rb"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(\([^)]{0,4096}\)|[^\n#;]+)|import[ \t]+([^\n#;]+))",
    re.MULTILINE,
).finditer


class CodeFolder(NamedTuple):
    """One folder with code. modules: names of the Python files that are hashed; beside: of all that lies there."""

    modules: set[str]
    beside: set[str]


def uncovered(
    contract_file: LoadedContractFile, roots: Mapping[HashedRoot, HashedPlace], code: Mapping[str, CodeFolder]
) -> Iterator[tuple[str, str]]:
    """Yield a code and a line for each file or module that is needed and not hashed.

    roots: what is hashed on this machine. code: the folders with code, by normalised path.
    """
    if _has_code_by_digest(contract_file.file):
        return
    project = _Project(contract_file, roots)
    command = contract_file.file.command or ()
    scripts = []
    for word in _paths(command):
        path = os.path.join(project.base, word)
        if os.path.isabs(word) or not os.path.exists(path) or project.needs_no_cover(path):
            continue
        if path.endswith(".py"):
            scripts.append(path)
        if not project.covers(path):
            yield "file", f"the command names {word}, and no input, code or environment covers it"
    finder = _Finder(project, scripts, code)
    imported: dict[str, dict[str, None]] = {}  # for each file, by whom
    for name in _modules_run(command):
        for path in finder.missing(f"{name}.__main__", [project.base]):
            imported.setdefault(path, {})["the command"] = None
    for module in finder.modules():
        for path in finder.imports(module):
            imported.setdefault(path, {})[project.shown(module)] = None
    for path, (first, *others) in imported.items():
        more = f", like {len(others)} more," if others else ""
        yield "import", f'{first}{more} imports {project.shown(path)}, and no root covers it; add it to "code"'


def _has_code_by_digest(contract: ContractFile) -> bool:
    """Return whether what covers the files of the project is not known here: a digest may be that of any file."""
    return any(not isinstance(transform.code, Roots) and transform.code != OPAQUE for transform in contract.transforms)


def _paths(command: Sequence[str]) -> list[str]:
    """Return the words of the command that may be paths, also those in the text of a shell."""
    if command and "/" not in command[0]:
        command = command[1:]  # a program that is looked up elsewhere
    modules = set(_modules_run(command))
    command = [argument for argument in command if argument not in modules]
    words = [word for argument in command for word in (argument.split() if " " in argument else [argument])]
    return list(dict.fromkeys(word.strip("'\"();") for word in words[:_WORDS]))


def _modules_run(command: Sequence[str]) -> list[str]:
    return [word for option, word in pairwise(command) if option == "-m"]


class _Project:
    """The folder of a contract file, and what of it is hashed."""

    def __init__(self, contract_file: LoadedContractFile, roots: Mapping[HashedRoot, HashedPlace]) -> None:
        self.base = contract_file.base or "."
        self._roots, self._places = list(roots), list(roots.values())
        self._outputs = [os.path.realpath(path) for path in contract_file.outputs.values()]
        self._has_other_inputs = any(given.source is None for given in contract_file.file.inputs)
        self._covered: dict[str, bool] = {}

    def covers(self, path: str) -> bool:
        """Return whether the file or folder at path is hashed."""
        if path not in self._covered:
            self._covered[path] = any(is_hashed(path, place) for place in self._places)
        return self._covered[path]

    def needs_no_cover(self, path: str) -> bool:
        """Return whether the command may name path without harm: an output, or what holds an output or a root.

        Where an input is given by digest or URI, it may be anything but code.
        """
        if self._has_other_inputs and not path.endswith(_SCRIPTS):
            return True
        real = os.path.realpath(path)
        if any(f"{real}/".startswith(f"{output}/") for output in self._outputs):
            return True
        inner = [*self._outputs, os.path.realpath(self.base), *(os.path.realpath(at.location) for at in self._places)]
        return os.path.isdir(path) and any(f"{below}/".startswith(f"{real}/") for below in inner)

    def code_roots(self) -> list[str]:
        return [root.location.rstrip("/") for root in self._roots if root.listing.startswith("code/")]

    def shown(self, path: str) -> str:
        """Return path as it is said: relative to the contract file, or to a folder that it names by absolute path."""
        shown = os.path.relpath(path, self.base)
        for root in self._roots if shown.startswith("../") else ():
            around = os.path.dirname(root.location.rstrip("/"))
            if os.path.isabs(root.source.path) and path.startswith(os.path.join(around, "")):
                return os.path.relpath(path, around)
        return shown


class _Finder:
    """Finds modules of the project that are imported and not hashed."""

    def __init__(self, project: _Project, scripts: Sequence[str], code: Mapping[str, CodeFolder]) -> None:
        self._project, self._scripts, self._code = project, scripts, code
        around = [part for root in project.code_roots() for part in (os.path.dirname(root), root)]
        folders = [project.base, *map(os.path.dirname, scripts), *around]
        self._search = list(dict.fromkeys(os.path.normpath(folder or ".") for folder in folders))
        self._found: dict[str, list[str]] = {}
        self._local = self._local_names() if scripts or code else set()
        self._words = [b"from ..", *(name.encode() for name in self._local)]
        if "__init__" in self._local:
            self._words.append(b"from .")  # may be about a name of the package itself

    def modules(self) -> Iterator[str]:
        """Yield the modules to look into: none when all modules of the project are hashed."""
        if self._local:
            scripts = list(map(os.path.normpath, self._scripts))
            hashed = (os.path.join(at, name) for at, folder in self._code.items() for name in sorted(folder.modules))
            yield from islice(chain(scripts, (path for path in hashed if path not in scripts)), _MODULES)

    def imports(self, module: str) -> list[str]:
        """Return the files that a module imports and that are not hashed."""
        try:
            with open(module, "rb") as file:
                text = file.read(_HEAD)
        except OSError:
            return []
        if not any(word in text for word in self._words):
            return []
        missing: dict[str, None] = {}
        folder = os.path.dirname(module) or "."
        for found in _find_imports(text):
            for name in _imported(found):
                level = len(name) - len(name.lstrip("."))
                if level:
                    above = os.path.normpath(os.path.join(folder, *[".."] * (level - 1)))
                    missing |= dict.fromkeys(self._relative(name.lstrip("."), above))
                elif not self._local.isdisjoint(name.split(".")):
                    missing |= dict.fromkeys(self._absolute(name, folder))
        return list(missing)

    def missing(self, name: str, search: Iterable[str]) -> list[str]:
        """Return the files that importing name loads and that are not hashed. name: dotted."""
        for folder in search:
            found = list(_files_of(folder, name))
            if found:
                return [path for path in found if not self._project.covers(path)]
        return []

    def _relative(self, name: str, package: str) -> list[str]:
        """Return what is missing of a name in a package, whose folder it is, and of the package itself."""
        files = [os.path.join(package, "__init__.py"), *_files_of(package, name)]
        return [path for path in files if os.path.isfile(path) and not self._project.covers(path)]

    def _absolute(self, name: str, folder: str) -> list[str]:
        """Return what is missing of a name that is not relative. folder: of the module that imports it."""
        if name.partition(".")[0] in sys.stdlib_module_names:
            return self.missing(name, [folder])  # only a script can hide a module of Python, by one beside it
        if folder not in self._search:
            return self.missing(name, [folder, *self._search])
        if name not in self._found:
            self._found[name] = self.missing(name, self._search)
        return self._found[name]

    def _local_names(self) -> set[str]:
        """Return the names of modules and packages of the project that are not hashed, or not wholly."""
        names = set()
        for at in dict.fromkeys([*self._code, *self._search, *self._packages_above()]):
            for name in self._not_hashed(at):
                path = os.path.join(at, name)
                if name.endswith(".py"):
                    names.add(name.removesuffix(".py"))
                elif name.isidentifier() and path not in self._code and _is_package(path):
                    names.add(name)
        return names

    def _packages_above(self) -> Iterator[str]:
        """Yield folders above the code that a relative import may be about: packages, and those in the project."""
        base = os.path.join(os.path.abspath(self._project.base), "")
        for start in [*self._code, *map(os.path.dirname, self._scripts)]:
            folder, above = start, os.path.normpath(os.path.join(start, ".."))
            while above not in self._code and (
                os.path.abspath(above).startswith(base) or os.path.isfile(os.path.join(folder, "__init__.py"))
            ):
                yield above
                folder, above = above, os.path.normpath(os.path.join(above, ".."))

    def _not_hashed(self, at: str) -> Iterable[str]:
        """Return the names in a folder that are not those of hashed modules."""
        folder = self._code.get(at)
        if folder is not None:
            return folder.beside - folder.modules
        try:
            with os.scandir(at) as entries:
                return [entry.name for entry in islice(entries, _ENTRIES)]
        except OSError:
            return []


def _is_package(path: str) -> bool:
    """Return whether path is a folder with modules, as far as its first entries show it."""
    try:
        with os.scandir(path) as entries:
            return any(entry.name.endswith(".py") for entry in islice(entries, _SAMPLE))
    except OSError:
        return False


def _imported(found: re.Match[bytes]) -> Iterator[str]:
    source, names, plain = (part.decode(errors="replace") if part else "" for part in found.groups())
    if plain:
        yield from (name.split()[0] for name in plain.split(",") if name.strip())
        return
    yield source
    separator = "" if source.endswith(".") else "."
    for name in names.strip("()").replace("\n", " ").split(","):
        word = name.split()[0] if name.strip() else "*"
        if word.isidentifier():
            yield f"{source}{separator}{word}"


def _files_of(folder: str, name: str) -> Iterator[str]:
    """Yield the files that importing a dotted name from folder loads."""
    path = folder
    for part in name.split(".") if name else []:
        path = os.path.join(path, part)
        package = os.path.join(path, "__init__.py")
        if os.path.isfile(package):
            yield package
        elif os.path.isfile(f"{path}.py"):
            yield f"{path}.py"
            return
        elif not os.path.isdir(path):
            return
