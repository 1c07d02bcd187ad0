"""A file or folder in a store, as a Source of hash_tree: walked in canonical order, objects given to workers.

The names of objects have slashes in them, and folders exist only as parts of these names. To mark a folder, such stores
have an empty object whose name ends in a slash: it is the folder, which may be empty, and no file. Names that no file
can have are refused, as on disk.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.hashing.scan import Folder, StoreFolder
from ctxpack_identity.hashing.threads import Job, Threads
from ctxpack_identity.hashing.urls.failure import missing
from ctxpack_identity.hashing.urls.store import Listed, Store
from ctxpack_identity.hashing.urls.version import Version, is_certain
from ctxpack_identity.lighttyping import NamedTuple
from ctxpack_identity.progress import OnBytes

__all__ = ["Objects", "UrlSource"]

AHEAD = 4  # folders listed before they are needed, all at the same time

_name = itemgetter(0)

_FOLDER = os.stat_result((stat.S_IFDIR | 0o755, 0, 0, 1, 0, 0, 0, 0, 0, 0))


class Objects(NamedTuple):
    """Objects of one store for one task.

    files: path (relative to url, "" for url itself), size (bytes) and version, as they were listed.
    """

    url: str
    files: list[tuple[str, int, Version]]

    def digests(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Return the SHA-256 of each object. on_bytes: called while they are read. Raises: as Store does."""
        store = Store(self.url)
        return [store.sha256(path, size, version, on_bytes) for path, size, version in self.files]


class UrlSource:
    """The file or folder at a URL. Raises: as Store does; InvalidInput for what no file or folder can be."""

    ahead: Callable[[], Iterator[Folder | None]] | None = None
    batch_files = 1  # an object waits for the network, and should not wait for another object

    def __init__(self, url: str, excludes: Excludes | None) -> None:
        self._url = url
        self._excludes = excludes
        store = Store(url)
        self._identity = store.identity()
        self._root = store.info("")
        if self._root.kind not in ("file", "directory"):
            raise _special(store.shown(""), self._root.kind)
        if self._root.kind == "file" and url.endswith("/"):
            raise missing(store.shown("") + "/")

    def single(self) -> Folder | None:
        """Return a folder that holds just the object when the URL is one, else None."""
        if self._root.kind == "directory":
            return None
        store = Store(self._url)
        location, _, name = store.shown("").rpartition("/")
        _check_name(name, store.shown(""))
        size = _size(self._root, store.shown(""))
        return Folder("", f"{location}/", [(name, _file(size))], [], self._in_store(store, "", [self._root.version]))

    def walk(self) -> Iterator[Folder | None]:
        """Yield every folder from the root downwards, in canonical order, and None at the end of each.

        Memory: the folders on the current path, and up to AHEAD more for each.
        """
        threads = Threads(AHEAD)
        try:
            top = self._folder("")
            yield top
            pending = [self._below(top, threads)]
            while pending:
                folder = next(pending[-1], None)
                if folder is None:
                    pending.pop()
                else:
                    pending.append(self._below(folder, threads))
                yield folder
        finally:
            threads.close()

    def batch(self, folder: Folder, places: list[int]) -> Objects:
        """Return the work of hashing the folder's files at these places."""
        assert folder.store is not None
        files, versions = folder.files, folder.store.versions
        single = self._root.kind == "file"
        paths = ["" if single else folder.path + files[place][0] for place in places]
        return Objects(
            self._url,
            [(path, files[place][1].st_size, versions[place]) for path, place in zip(paths, places, strict=True)],
        )

    def _below(self, folder: Folder, threads: Threads) -> Iterator[Folder]:
        """Yield the folders of a folder, in order, while the next ones are listed."""
        names = deque(name for name, _ in folder.folders)
        underway: deque[Job] = deque()
        while names or underway:
            while names and len(underway) < AHEAD:
                underway.append(threads.submit(partial(self._folder, f"{folder.path}{names.popleft()}/")))
            yield underway.popleft().result()

    def _folder(self, path: str) -> Folder:
        store = Store(self._url)
        location = path.removesuffix("/")
        files, folders = [], []
        for child in store.children(location):
            name = _name_in(store.location(location), child, store.shown(path))
            if not name or (self._excludes is not None and self._excludes(path + name, child.kind == "directory")):
                continue
            _check_name(name, store.shown(path + name))
            if child.kind == "directory":
                folders.append((name, _FOLDER))
            elif child.kind == "file":
                files.append((name, _file(_size(child, store.shown(path + name))), child.version))
            else:
                raise _special(store.shown(path + name), child.kind)
        files.sort(key=_name)
        folders.sort(key=_name)
        _require_unique([name for name, *_ in files] + [name for name, _ in folders], store.shown(path))
        found = [(name, status) for name, status, _ in files]
        in_store = self._in_store(store, location, [version for *_, version in files])
        return Folder(path, store.shown(path), found, folders, in_store)

    def _in_store(self, store: Store, location: str, versions: list[Version]) -> StoreFolder:
        where = f"{self._identity} {store.location(location)}".encode(errors="surrogatepass")
        return StoreFolder(hashlib.sha256(where).digest(), versions, [is_certain(version) for version in versions])


def _name_in(folder: str, child: Listed, shown: str) -> str:
    """Return the name of a child in its folder, "" for the object that marks the folder itself."""
    full, prefix = child.path.lstrip("/"), f"{folder}/".lstrip("/")
    if child.kind == "file" and full == folder.strip("/"):
        raise missing(shown)  # it is an object, not a folder
    name = full.removeprefix(prefix)
    if not full.startswith(prefix) or (not name and (child.kind != "file" or child.size)):
        raise InvalidInput(
            "the store has an entry without a name here",
            where=shown,
            got=repr(child.path),
            fix="rename what has two slashes in a row, or ends in one, in its name",
            code="E_PATH",
        )
    return name.removesuffix("/") if child.kind == "directory" else name


def _check_name(name: str, shown: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidInput(
            "no file can have this name", where=shown, got=repr(name), fix="rename or exclude it", code="E_PATH"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "name is not Unicode text",
            where=shown,
            got=repr(name),
            fix="rename or exclude it",
            code="E_NAME_ENCODING",
        ) from error


def _require_unique(names: list[str], shown: str) -> None:
    if len(set(names)) == len(names):
        return
    [(twice, _)] = Counter(names).most_common(1)
    raise InvalidInput(
        "an object and a folder have the same name, or two objects",
        where=shown,
        got=repr(twice),
        fix="rename or exclude one",
        code="E_PATH_ORDER",
    )


def _size(found: Listed, shown: str) -> int:
    if found.size is None:
        raise InvalidInput(
            "the store does not say how large it is",
            where=shown,
            fix="download it, and give its path",
            code="E_INPUT_UNREADABLE",
        )
    return found.size


def _file(size: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, size, 0, 0, 0))


def _special(shown: str, kind: str) -> InvalidInput:
    return InvalidInput(
        "neither object nor folder", where=shown, got=kind, fix="remove or exclude it", code="E_SPECIAL_FILE"
    )
