"""Many files copied and hashed, in order: where there are very many, other processes copy some of the small ones."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from ctxpack_bundle.copying import Copier
from ctxpack_bundle.folder import create_member
from ctxpack_bundle.secondlook import output_changed
from ctxpack_bundle.sidehash import WORTHWHILE
from ctxpack_identity import InvalidInput, TreeEntry
from ctxpack_identity.hashing.children import Child, ChildJob
from ctxpack_identity.hashing.filehash import open_regular, require_unchanged
from ctxpack_identity.hashing.scan import Found
from ctxpack_identity.hashing.workers import ALONE, end_others, start_others
from ctxpack_identity.progress import OnBytes

__all__ = ["CopyProcesses", "CopyQueue", "FileCopy", "copy_file"]

_BATCH_FILES = 64  # of one task: milliseconds of copying, and an answer of 5 KB
_BATCH_BYTES = 1 << 20
_MOST = 16  # batches whose entries were not taken yet: bounds memory, and keeps all processes busy


class FileCopy(NamedTuple):
    """A copy to be made. location: of a file with this size (bytes), mtime and mode; target: where nothing is yet."""

    location: str
    target: str
    size: int
    mtime_ns: int
    executable: bool
    follow: bool

    @classmethod
    def of(cls, found: Found, target: str, *, follow: bool) -> FileCopy:
        status = found.stat
        return cls(found.location, target, status.st_size, status.st_mtime_ns, _is_executable(found), follow)


def copy_file(file: FileCopy, copier: Copier, on_bytes: OnBytes = lambda count: None) -> tuple[str, int]:
    """Copy a file to a new one; return SHA-256 and size.

    Raises: InvalidInput when it is not what was found; LocalFailure when it cannot be read; OSError.
    """
    source = open_regular(file.location, follow=file.follow)
    try:
        copy = create_member(file.target, executable=file.executable)
        try:
            sha256, size = copier.copy(source, copy, file.size, where=file.location, on_bytes=on_bytes)
        finally:
            os.close(copy)
        require_unchanged(source, file.location, size, file.mtime_ns)
    finally:
        os.close(source)
    return sha256, size


class CopyProcesses:
    """Processes that copy beside this one, as a context manager. Enter it before a thread is started.

    files: how many files there are; few need no other process. children: none where the system refuses them.
    """

    def __init__(self, files: int) -> None:
        self._files = files
        self.children: list[Child] = []

    def __enter__(self) -> CopyProcesses:
        if self._files > ALONE:
            start_others(self.children, _copy_all)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_others(self.children)


def _copy_all(files: list[tuple[Any, ...]]) -> list[tuple[str, int]]:
    with Copier() as copier:
        return [copy_file(FileCopy(*file), copier) for file in files]


class CopyQueue:
    """Copies files and makes empty folders, in the order in which they are added.

    children: of CopyProcesses; without any, each file is copied at once. on_bytes: called while files are copied.
    on_copied: called with the entry of each, in that order.
    """

    def __init__(
        self, copier: Copier, children: Sequence[Child], on_bytes: OnBytes, on_copied: Callable[[TreeEntry], object]
    ) -> None:
        self._copier, self._children = copier, children
        self._on_bytes, self._on_copied = on_bytes, on_copied
        self._batch: list[Found] = []
        self._files: list[FileCopy] = []
        self._size = 0
        self._underway: deque[_Underway] = deque()

    def add(self, found: Found, target: str, *, follow: bool) -> None:
        """Copy a file, or make an empty folder. target: where; its parent folder is there.

        Raises: InvalidInput when a file is not what was found; LocalFailure when it cannot be read; OSError when it
        cannot be written: here, or later.
        """
        self._batch.append(found)
        if found.is_empty_folder:
            os.mkdir(target)
        else:
            file = FileCopy.of(found, target, follow=follow)
            self._files.append(file)
            self._size += file.size
        if not self._children or len(self._batch) == _BATCH_FILES or self._size >= _BATCH_BYTES:
            self._begin()
            while len(self._underway) > (_MOST if self._children else 0):
                self._end(self._underway.popleft())

    def finish(self) -> None:
        """Wait until all is copied. Raises: as add."""
        self._begin()
        while self._underway:
            self._end(self._underway.popleft())

    def _begin(self) -> None:
        """Have the batch copied by a process that has nothing to do, else here."""
        batch, files, size = self._batch, self._files, self._size
        self._batch, self._files, self._size = [], [], 0
        if files and all(file.size <= WORTHWHILE for file in files):
            for child in self._children:
                if child.has_room():
                    job = child.submit([tuple(file) for file in files])
                    self._underway.append(_Underway(batch, size, job, None))
                    return
        try:
            copied = [copy_file(file, self._copier, self._on_bytes) for file in files]
        except InvalidInput as error:
            raise output_changed(error.where) from error
        self._underway.append(_Underway(batch, 0, None, copied))

    def _end(self, underway: _Underway) -> None:
        copied = iter(underway.result())
        if underway.size:
            self._on_bytes(underway.size)
        for found in underway.batch:
            if found.is_empty_folder:
                self._on_copied(TreeEntry(found.path, 0, ""))
            else:
                sha256, size = next(copied)
                self._on_copied(TreeEntry(found.path, size, sha256, _is_executable(found)))


class _Underway(NamedTuple):
    """A batch that is being copied by a job, or was. size: bytes that were not reported yet."""

    batch: list[Found]
    size: int
    job: ChildJob | None
    copied: list[tuple[str, int]] | None

    def result(self) -> list[tuple[str, int]]:
        if self.job is None:
            return self.copied or []
        try:
            return self.job.result()
        except InvalidInput as error:
            raise output_changed(error.where) from error


def _is_executable(found: Found) -> bool:
    return bool(found.stat.st_mode & stat.S_IXUSR)
