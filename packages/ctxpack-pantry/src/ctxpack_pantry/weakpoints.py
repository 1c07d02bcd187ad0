"""Weak points: what could change without another URI, and what changes the URI by accident. They are said, not refused.

Found by names and by a look at a bounded number of small files, so that naming a contract stays fast.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from ctxpack_identity.contract import OPAQUE
from ctxpack_identity.contractview import transforms
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.outside import is_hashed
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_identity.rules import UNDECLARED
from ctxpack_pantry.uncovered import CodeFolder, uncovered

if TYPE_CHECKING:
    from ctxpack_identity import HashedRoot
    from ctxpack_pantry.contractfile import LoadedContractFile

__all__ = ["WeakPoint", "WeakPoints", "in_contract", "limited"]

_MOST = 100  # weak points
_LONGEST = 200  # characters of a path or text of params in one line
_SHOWN = 3  # paths in one line
_SAMPLE = 200  # files of a root that are opened, and as many more of the size of a pointer
_HEAD = 4096  # bytes of them that are read
_LARGEST_TEXT = 1 << 20  # bytes; larger files are not looked into
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_BYTES = range(120, 200)  # of a pointer: the line above, the digest, the size

# One of these is in the names of a folder, joined by NUL, if any of them is weak: a search for all names at once.
_HINTS = ("\0.", "\0#", "~\0", "\0Thumbs.db\0", "\0desktop.ini\0")
_WEAK = r"""(?xs)  # not compiled here: few names need a closer look
        (?P<manager>\.DS_Store|Thumbs\.db|desktop\.ini)
      | (?P<git>\.git)
      | (?P<dotenv>\.env(?:\.(?!example|sample|template|dist).*)?)
      | (?P<checkpoint>\.ipynb_checkpoints)
      | (?P<editor>.*~|\.(?:.*\.)?sw[a-p]|\..*\.kate-swp|\.\#.*|\#.*\#)"""

_NAMES = {
    "manager": "left by a file manager, and changes the URI; remove or exclude it",
    "git": "the history and settings of one clone, so two clones have two URIs; exclude .git",
    "dotenv": "often holds secrets, and differs between machines; exclude it unless the work depends on it",
    "checkpoint": "checkpoints of a notebook, which change the URI; exclude .ipynb_checkpoints",
    "editor": "left by an editor, and changes the URI; remove or exclude it",
}

# What names a thing that others move: the tag of an image, the branch of a model.
_MOVING = "latest|main|master|head|nightly|trunk"
_moves = re.compile(rf"(?s:.*[@:/]|)(?:{_MOVING})|.+-latest", re.IGNORECASE).fullmatch
_moves_in_params = re.compile(
    rf"(?!-)(?:(?s:.+)[@:](?:{_MOVING})|.+-latest|(?s:.*)/(?:resolve|blob|tree|raw)/(?:main|master)/(?s:.*))",
    re.IGNORECASE,
).fullmatch
_VERSIONS = frozenset({"branch", "ref", "revision", "tag", "version"})  # members of params that are versions


class WeakPoint(NamedTuple):
    """One weak point. code: a stable name for programs; what: a line for people."""

    code: str
    what: str


def in_contract(contract: Mapping[str, Any]) -> Iterator[WeakPoint]:
    """Yield the weak points that a contract itself shows. contract: canonical, of any schema."""
    if contract.get("command") == UNDECLARED:
        yield WeakPoint("undeclared", "no command declared, so results of another command have the same URI")
    for index, transform in enumerate(transforms(contract)):
        tool, version = transform.get("tool"), transform.get("tool_version")
        where = f"transform {index} ({_cut(str(tool))})"
        if transform.get("code_hash") == OPAQUE:
            yield WeakPoint("opaque", f"{where}: code is opaque, so a change of it goes unnoticed")
        if transform.get("environment_hash") == UNDECLARED:
            yield WeakPoint("undeclared", f"{where}: no environment declared, so a library upgrade goes unnoticed")
        for text, moves in ((tool, _moves_in_params), (version, _moves)):
            if isinstance(text, str) and moves(text):
                yield WeakPoint("moving", f"{where}: {_cut(text)!r} is another thing tomorrow; name a fixed version")
        for path, text in _moving(transform.get("params"), ["params"]):
            yield WeakPoint("moving", f"{where}: {path} is {text!r}, another thing tomorrow; name a fixed version")
    members = ("platform", "variables", *(() if _is_function(contract.get("command")) else ("command",)))
    for path, text in chain.from_iterable(_moving(contract.get(member), [member]) for member in members):
        yield WeakPoint("moving", f"{path} is {text!r}, another thing tomorrow; name a digest or a fixed version")


def limited(points: Iterable[WeakPoint]) -> tuple[WeakPoint, ...]:
    """Return each weak point once; of very many, the first ones and how many there are more."""
    once = list(dict.fromkeys(points))
    more = len(once) - _MOST
    return (*once[:_MOST], *([WeakPoint("more", f"and {more} more weak points")] if more > 0 else []))


def _moving(value: Any, above: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each text below value that is the name of a branch or moving tag, and its path. above: that of value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in members:
        if isinstance(item, dict | list | tuple):
            above.append(str(name))
            yield from _moving(item, above)
            above.pop()
        elif isinstance(item, str) and (_moves_in_params(item) or (name in _VERSIONS and _moves(item))):
            yield _cut(".".join([*above, str(name)])), _cut(item)


def _is_function(command: Any) -> bool:
    """Return whether a command is a function of Python, whose name, such as pipeline:main, says nothing of a branch."""
    return isinstance(command, list) and len(command) == 2 and command[0] == "python" and ":" in str(command[1])


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class WeakPoints:
    """Collects the weak points of a contract file while its files are hashed."""

    def __init__(self, contract_file: LoadedContractFile) -> None:
        self._contract_file = contract_file
        self._names: dict[tuple[str, str], list[str]] = {}
        self._looks: dict[HashedRoot, _Look] = {}
        self._code: dict[str, CodeFolder] = {}

    def on_folder(self, root: HashedRoot, folder: Folder) -> None:
        """Look at one folder of a root. See resolve."""
        names = [name for name, _ in folder.files] + [name for name, _ in folder.folders]
        joined = "\0".join(["", *names, ""])
        if any(hint in joined for hint in _HINTS):
            for name in names:
                if found := re.fullmatch(_WEAK, name):
                    self._note(root, str(found.lastgroup), folder.path + name)
        if root.is_url:
            return
        if root.listing.startswith("code/") or ".pyc\0" in joined:
            self._look_at_code(root, folder)
        self._looks.setdefault(root, _Look()).at(folder)

    def found(self, contract: Mapping[str, Any]) -> tuple[WeakPoint, ...]:
        """Return all weak points. contract: the canonical one of the contract file."""
        points = list(in_contract(contract))
        points += [_of_names(key, paths) for key, paths in self._names.items()]
        for root, look in self._looks.items():
            points += look.found(root.what)
        points += self._around()
        return limited(points)

    def _note(self, root: HashedRoot, kind: str, path: str) -> None:
        self._names.setdefault((root.what, kind), []).append(path or os.path.basename(root.location))

    def _look_at_code(self, root: HashedRoot, folder: Folder) -> None:
        """Note modules, what lies beside them, and compiled modules without source.

        Python imports a compiled module, and code leaves it out unless its own patterns say otherwise.
        """
        try:
            beside = set(os.listdir(folder.location or "."))
        except OSError:
            return
        hashed = [name for name, _ in folder.files]
        compiled = [name for name in hashed if name.endswith(".pyc")]
        if root.listing.startswith("code/"):
            code = self._code.setdefault(os.path.normpath(folder.location or "."), CodeFolder(set(), beside))
            code.modules.update(name for name in hashed if name.endswith(".py"))
            if folder.location.startswith(os.path.join(root.location, "")):  # not where a root that is a file lies
                left_out = compile_excludes(root.source.excludes)
                found = (name for name in beside if name.endswith(".pyc"))
                compiled = [name for name in found if not left_out(folder.path + name, False)]
        for name in sorted(compiled):
            if name[:-1] not in beside and not folder.path.endswith("__pycache__/"):
                self._note(root, "bytecode", folder.path + name)

    def _around(self) -> Iterator[WeakPoint]:
        """Yield what lies around the roots: the contract file in them, and what they need and do not cover."""
        roots = {root: root.place() for root in self._looks}
        for place in roots.values() if os.path.isfile(self._contract_file.path) else ():
            if is_hashed(self._contract_file.path, place):
                what = "the contract file lies in it, so a change of its layout or labels changes the URI; exclude it"
                yield WeakPoint("contract-file", f"{place.what}: {what}")
        yield from (WeakPoint(code, what) for code, what in uncovered(self._contract_file, roots, self._code))


class _Look:
    """A look into some files of a root, of the size of pointers of Git LFS above all: pointers, and line ends."""

    def __init__(self) -> None:
        self._left, self._left_pointers = _SAMPLE, _SAMPLE
        self._pointers: list[str] = []
        self._crlf: list[str] = []
        self._lf = 0

    def at(self, folder: Folder) -> None:
        """Look at the files of a folder."""
        rest = self._left
        for name, status in folder.files[:rest]:
            if 0 < status.st_size <= _LARGEST_TEXT:
                self._left -= 1
                self._open(folder.path + name, folder.location + name)
        if self._left_pointers:
            likely = [name for name, status in folder.files[rest:] if status.st_size in _POINTER_BYTES]
            for name in likely[: self._left_pointers]:
                self._left_pointers -= 1
                self._open(folder.path + name, folder.location + name)

    def _open(self, path: str, location: str) -> None:
        try:
            fd = os.open(location, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                head = os.read(fd, _HEAD)
            finally:
                os.close(fd)
        except OSError:  # it changed since it was hashed, which is said elsewhere
            return
        if head.startswith(_LFS):
            self._pointers.append(path or os.path.basename(location))
        elif b"\0" not in head and b"\n" in head:
            if b"\r\n" in head:
                self._crlf.append(path or os.path.basename(location))
            else:
                self._lf += 1

    def found(self, what: str) -> Iterator[WeakPoint]:
        if self._pointers:
            said = "a pointer of Git LFS, not the data; `git lfs pull` fetches it"
            yield WeakPoint("lfs", f"{what}: {_shown(self._pointers)}: {said}")
        if self._crlf and self._lf:
            said = "lines end in CRLF, in other files in LF; a checkout with other settings has another URI"
            yield WeakPoint("crlf", f"{what}: {_shown(self._crlf)}: {said}")


def _of_names(key: tuple[str, str], paths: list[str]) -> WeakPoint:
    what, kind = key
    bytecode = "compiled code without its source, which Python imports; exclude it, or add the source"
    return WeakPoint(kind, f"{what}: {_shown(paths)}: {_NAMES.get(kind, bytecode)}")


def _shown(paths: list[str]) -> str:
    more = len(paths) - _SHOWN
    shown = [os.fsencode(path).decode(errors="backslashreplace") for path in paths[:_SHOWN]]
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
