"""From a file or folder, on disk or in a store, to its tree digest: every file hashed once, many at a time."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter

from ctxpack_identity.digest import Digest
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.hashing.filehash import Batch
from ctxpack_identity.hashing.outlook import Outlook
from ctxpack_identity.hashing.scan import Folder, Walk, checked_name, root_status
from ctxpack_identity.hashing.workers import ExecutorWorkers, LocalWorkers, Pending, Work, Workers
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple, Protocol
from ctxpack_identity.progress import Progress, silent
from ctxpack_identity.scheme import scheme_of
from ctxpack_identity.tree import Document, Tree, TreeEntry, file_digest

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["DEFAULT_HASHING", "Hashing", "KnownDigests", "Source", "hash_tree", "unread_bytes"]

BATCH_BYTES = 8 << 20  # content of one task: milliseconds of hashing, which outweigh the overhead of a task
BATCH_FILES = 128
PENDING_FILES = 4096  # files and folders found and not yet in the digest; bounds memory, and keeps all workers busy

_name = itemgetter(0)


class KnownDigests(Protocol):
    """Digests of files that did not change after they were hashed."""

    def look_up(self, folder: Folder) -> list[str | None]:
        """Return a digest (64 hexadecimal digits), or None, for each of the folder's files."""
        ...

    def peek(self, folder: Folder) -> list[str | None]:
        """Return what look_up would find, for an estimate; the folder may be looked up later, or not."""
        ...

    def remember(self, folder: Folder, digests: list[str]) -> None:
        """Remember the digests of the folder's files, which were hashed after look_up."""
        ...


class Hashing(NamedTuple):
    """How files are hashed. No field ever changes a digest.

    executor: any concurrent.futures.Executor; by default this machine's cores. known: digests of files that did not
    change after an earlier run. progress: called while bytes are hashed.
    """

    executor: Executor | None = None
    known: KnownDigests | None = None
    progress: Progress = silent


DEFAULT_HASHING = Hashing()


class Source(Protocol):
    """Where files come from. batch_files: the largest number of files in one batch.

    ahead: yields what walk, which has begun, has not yielded yet; None where nothing is listed twice.
    """

    batch_files: int
    ahead: Callable[[], Iterator[Folder | None]] | None

    def single(self) -> Folder | None:
        """Return a folder that holds nothing but the root when the root is a file, else None."""
        ...

    def walk(self) -> Iterator[Folder | None]:
        """Yield every folder from the root downwards, in canonical order, and None at the end of each."""
        ...

    def batch(self, folder: Folder, places: list[int]) -> Work:
        """Return the work of hashing the folder's files at these places."""
        ...


def hash_tree(
    root: str,
    *,
    excludes: Excludes | None = None,
    follow: bool = False,
    files_only: bool = False,
    hashing: Hashing = DEFAULT_HASHING,
    on_entry: Callable[[TreeEntry], object] | None = None,
    on_folder: Callable[[Folder], object] | None = None,
    outlook: Outlook | None = None,
) -> Tree:
    """Return the tree digest of the file or folder at root, and what was counted.

    root: a path, or a URL that fsspec opens. follow: read what symbolic links point at instead of
    refusing them. files_only: folders without a file at any depth are not there, as git has it. on_entry: called with
    every entry, in canonical order; that of a root that is a file has no path. on_folder: called with every folder, or
    one that holds just the root. outlook: of a stage of which this tree is the next part, in place of
    hashing.progress; what is known is no part of its bytes.
    Raises: InvalidInput, LocalFailure as walk and hash_batch do; for a URL also AccessDenied, Unavailable.
    """
    executor = hashing.executor
    if outlook is None:
        outlook = Outlook("hash", hashing.progress)
    workers: Workers = LocalWorkers(outlook.report) if executor is None else ExecutorWorkers(executor)
    try:
        source = _source(root, excludes, follow)
        alone = source.single()
        if alone is not None:
            if on_folder is not None:
                on_folder(alone)
            outlook.enter(lambda: iter(()))
            return _hash_single(alone, source, workers, hashing.known, outlook, on_entry)
        ahead = source.ahead
        outlook.enter(None if ahead is None else lambda: _unread(ahead(), hashing.known))
        fold = _Fold(on_entry, files_only=files_only)
        for hashed in _hash_folders(source.walk(), source, workers, hashing.known, outlook):
            if hashed is None:
                fold.leave()
            else:
                fold.enter(*hashed)
                if on_folder is not None:
                    on_folder(hashed[0])
        return fold.finish()
    finally:
        workers.close()


def _source(root: str, excludes: Excludes | None, follow: bool) -> Source:
    if not scheme_of(root):
        return _LocalSource(root, excludes, follow)
    # The only import of the floor above: few contracts have a URL, and fsspec is an optional dependency.
    from ctxpack_identity.hashing.urls.source import UrlSource

    return UrlSource(root, excludes)


class _LocalSource:
    """The file or folder at a path on this machine. Raises: as walk does."""

    batch_files = BATCH_FILES

    def __init__(self, root: str, excludes: Excludes | None, follow: bool) -> None:
        self._root, self._follow = root, follow
        self._walk = Walk(root, excludes=excludes, follow=follow)
        self.ahead: Callable[[], Iterator[Folder | None]] | None = self._walk.ahead

    def single(self) -> Folder | None:
        status = root_status(self._root, follow=self._follow)
        if not stat.S_ISREG(status.st_mode):
            return None
        location, name = os.path.split(self._root)  # not of abspath, to which link/../f is f
        return Folder("", os.path.join(location, ""), [(checked_name(name, self._root), status)], [])

    def walk(self) -> Iterator[Folder | None]:
        return iter(self._walk)

    def batch(self, folder: Folder, places: list[int]) -> Batch:
        files = [folder.files[place] for place in places]
        tasks = [(name, status.st_size, status.st_mtime_ns) for name, status in files]
        return Batch(folder.location, tasks, self._follow)


def _hash_single(
    alone: Folder,
    source: Source,
    workers: Workers,
    known: KnownDigests | None,
    outlook: Outlook,
    on_entry: Callable[[TreeEntry], object] | None,
) -> Tree:
    ((_, status),) = alone.files
    ((_, (sha256,)),) = (hashed for hashed in _hash_folders([alone], source, workers, known, outlook) if hashed)
    if on_entry is not None:
        on_entry(_entry("", status, sha256))  # its name is no part of the tree
    return Tree(file_digest(sha256, status.st_size), "file", 1, status.st_size)


def _entry(path: str, status: os.stat_result, sha256: str) -> TreeEntry:
    return TreeEntry(path, status.st_size, sha256, bool(status.st_mode & stat.S_IXUSR))


class _Fold:
    """The tree digest of folders that are entered and left in canonical order."""

    def __init__(self, on_entry: Callable[[TreeEntry], object] | None, *, files_only: bool) -> None:
        self._on_entry, self._files_only = on_entry, files_only
        self._open: list[_OpenFolder] = []
        self._files = self._size = 0
        self._root = Digest("")

    def enter(self, folder: Folder, digests: list[str]) -> None:
        opened = _OpenFolder(folder, digests, self._files)
        self._open.append(opened)
        self._files += len(digests)
        self._size += sum([status.st_size for _, status in folder.files])
        self._add_files(opened)

    def leave(self) -> None:
        left = self._open.pop()
        digest, size = left.document.close()
        folder = left.folder
        there = not self._files_only or self._files > left.files_before
        if self._on_entry is not None and there and folder.path and not (folder.files or folder.folders):
            self._on_entry(TreeEntry(folder.path, 0, ""))
        if self._open:
            parent = self._open[-1]
            if there:
                parent.document.add(folder.path[len(parent.folder.path) : -1], digest, size, "folder")
            parent.folders_done += 1
            self._add_files(parent)
        else:
            self._root = digest

    def finish(self) -> Tree:
        return Tree(self._root, "folder", self._files, self._size)

    def _add_files(self, opened: _OpenFolder) -> None:
        """Add the files that come before the next folder."""
        folder, digests, start = opened.folder, opened.digests, opened.files_done
        stop = len(digests)
        if opened.folders_done < len(folder.folders):
            stop = bisect_left(folder.files, folder.folders[opened.folders_done][0], start, key=_name)
        if start == stop:
            return
        files, digests = folder.files[start:stop], digests[start:stop]
        opened.document.add_files(files, digests)
        opened.files_done = stop
        if self._on_entry is not None:
            for (name, status), sha256 in zip(files, digests, strict=True):
                self._on_entry(_entry(folder.path + name, status, sha256))


class _OpenFolder:
    """A folder that was entered and not left yet, and how much of it is in its document.

    files_before: how many files were found before it.
    """

    def __init__(self, folder: Folder, digests: list[str], files_before: int) -> None:
        self.folder, self.digests, self.files_before = folder, digests, files_before
        self.document = Document()
        self.files_done = self.folders_done = 0


class _Underway(NamedTuple):
    """A folder whose files are being hashed. digests: None for those that jobs compute; jobs: with their places."""

    folder: Folder
    digests: list[str | None]
    jobs: list[tuple[list[int], Pending]]


def _hash_folders(
    folders: Iterable[Folder | None],
    source: Source,
    workers: Workers,
    known: KnownDigests | None,
    outlook: Outlook,
) -> Iterator[tuple[Folder, list[str]] | None]:
    """Yield each folder with the digests of its files, and None at the end of each, in the order given."""
    underway: deque[_Underway | None] = deque()
    files = 0
    for folder in folders:
        underway.append(_begin(folder, source, workers, known, outlook) if folder is not None else None)
        files += len(folder.files) if folder is not None else 0
        while files + len(underway) > PENDING_FILES:
            done = underway.popleft()
            files -= len(done.folder.files) if done is not None else 0
            yield _finish(done, known, outlook)
    outlook.leave()
    while underway:
        yield _finish(underway.popleft(), known, outlook)
    outlook.finish()


def _begin(folder: Folder, source: Source, workers: Workers, known: KnownDigests | None, outlook: Outlook) -> _Underway:
    digests: list[str | None] = known.look_up(folder) if known is not None else [None] * len(folder.files)
    places = [place for place, digest in enumerate(digests) if digest is None] if None in digests else []
    outlook.begin(sum([folder.files[place][1].st_size for place in places]))
    jobs = []
    for batch in _batches(folder.files, places, source.batch_files):
        jobs.append((batch, workers.submit(source.batch(folder, batch))))
        outlook.tick()
    return _Underway(folder, digests, jobs)


def _batches(files: list[tuple[str, os.stat_result]], places: list[int], most: int) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for place in places:
        batch.append(place)
        size += files[place][1].st_size
        if size >= BATCH_BYTES or len(batch) >= most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _finish(
    underway: _Underway | None, known: KnownDigests | None, outlook: Outlook
) -> tuple[Folder, list[str]] | None:
    if underway is None:
        return None
    folder, found, jobs = underway
    for places, job in jobs:
        while (pause := outlook.pause()) is not None and not job.wait(pause):
            outlook.count()
        size = 0
        for place, digest in zip(places, job.result(), strict=True):
            found[place] = digest
            size += folder.files[place][1].st_size
        outlook.report(max(0, size - job.reported))
    digests = [digest for digest in found if digest is not None]
    if known is not None and jobs:
        known.remember(folder, digests)
    return folder, digests


def unread_bytes(root: str, *, excludes: Excludes | None, follow: bool, known: KnownDigests | None) -> Iterator[int]:
    """Yield for each folder below the file or folder at root, a path, how many bytes hash_tree would read there.

    Raises: InvalidInput, LocalFailure as walk does.
    """
    source = _LocalSource(root, excludes, follow)
    alone = source.single()
    return _unread(source.walk() if alone is None else iter([alone]), known)


def _unread(folders: Iterator[Folder | None], known: KnownDigests | None) -> Iterator[int]:
    for folder in folders:
        if folder is not None:
            digests = known.peek(folder) if known is not None else [None] * len(folder.files)
            yield sum([item[1].st_size for item, digest in zip(folder.files, digests, strict=True) if digest is None])
