"""The SHA-256 of files: each read once, many at a time where that pays."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator

from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_identity.progress import Progress, silent
from ctxpack_identity.scan import Found

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["hash_file", "hash_files", "open_regular", "require_unchanged"]

READ_SIZE = 1 << 20  # bytes; hashing gains nothing from larger reads
BATCH_BYTES = 8 << 20  # one task's worth of content: milliseconds of hashing, so that tasks outweigh their overhead
BATCH_FILES = 256
THREAD_BYTES = 1 << 20  # below this a batch is hashed where it stands: threads cost more than they save
PENDING_BATCHES = 16

# What open says when the file found is gone, or is a symbolic link, a socket or below something no folder any more.
_REPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


class _Task(NamedTuple):
    """What an executor is sent: names and sizes, never contents."""

    location: str
    size: int
    mtime_ns: int
    follow: bool


def hash_files(
    found: Iterable[Found], *, follow: bool = False, executor: Executor | None = None, progress: Progress = silent
) -> Iterator[tuple[Found, str]]:
    """Yield every file of found with its SHA-256 (64 hexadecimal digits), in the order given.

    An empty folder comes back with an empty string. executor: any concurrent.futures.Executor; by default threads
    of this process, started only when there is enough to hash. At most PENDING_BATCHES are under way.
    Raises: InvalidInput for a file that changes while it is read or is replaced by something else; LocalFailure for
    one that cannot be read.
    """
    own: Executor | None = None
    pending: deque[tuple[list[Found], list[str] | Future[list[str]]]] = deque()
    try:
        for batch, size in _batches(found):
            tasks = [_Task(f.location, f.stat.st_size, f.stat.st_mtime_ns, follow) for f in batch]
            if executor is None and size < THREAD_BYTES:
                pending.append((batch, _hash_batch(tasks)))
            else:
                if executor is None:
                    executor = own = _threads()
                pending.append((batch, executor.submit(_hash_batch, tasks)))
            if len(pending) >= PENDING_BATCHES:
                yield from _finished(*pending.popleft(), progress)
        while pending:
            yield from _finished(*pending.popleft(), progress)
    finally:
        for _, result in pending:
            if not isinstance(result, list):
                result.cancel()
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)


def hash_file(location: str, *, expected: os.stat_result | None = None, follow: bool = False) -> str:
    """Return the SHA-256 (64 hexadecimal digits) of one regular file, read once.

    expected: what the file was when it was found; a difference is an error.
    Raises: InvalidInput, LocalFailure as hash_files does.
    """
    if expected is None:
        fd = open_regular(location, follow=follow)
        try:
            expected = os.fstat(fd)
        finally:
            os.close(fd)
    return _hash_task(_Task(location, expected.st_size, expected.st_mtime_ns, follow))


def open_regular(location: str, *, follow: bool = False) -> int:
    """Return a descriptor open for reading on a regular file, never waiting on a FIFO or following a link.

    Raises: InvalidInput when there is no regular file any more; LocalFailure when it may not be read.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(location, flags)
    except OSError as error:
        if error.errno in _REPLACED:
            raise _changed(location) from error
        raise _unreadable(location, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _changed(location)
    return fd


def require_unchanged(fd: int, location: str, size: int, mtime_ns: int) -> None:
    """Raise InvalidInput when the open file is not as long or as old as it was when it was found."""
    now = os.fstat(fd)
    if (now.st_size, now.st_mtime_ns) != (size, mtime_ns):
        raise _changed(location)


def _batches(found: Iterable[Found]) -> Iterator[tuple[list[Found], int]]:
    batch: list[Found] = []
    size = 0
    for item in found:
        batch.append(item)
        size += 0 if item.is_empty_folder else item.stat.st_size
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size


def _finished(
    batch: list[Found], result: list[str] | Future[list[str]], progress: Progress
) -> Iterator[tuple[Found, str]]:
    digests = result if isinstance(result, list) else result.result()
    for item, digest in zip(batch, digests, strict=True):
        if digest:
            progress("hash", item.stat.st_size, None)
        yield item, digest


def _threads() -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and most contracts are small

    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hash")


def _hash_batch(tasks: list[_Task]) -> list[str]:
    return ["" if task.location.endswith("/") else _hash_task(task) for task in tasks]


def _hash_task(task: _Task) -> str:
    fd = open_regular(task.location, follow=task.follow)
    try:
        if task.size <= READ_SIZE:
            data = os.read(fd, task.size + 1)
            digest, length = hashlib.sha256(data).hexdigest(), len(data)
        else:
            digest, length = _hash_large(fd)
        if length < task.size:  # some network file systems answer with less than was asked for
            os.lseek(fd, 0, os.SEEK_SET)
            digest, length = _hash_large(fd)
        require_unchanged(fd, task.location, task.size, task.mtime_ns)
    except OSError as error:
        raise _unreadable(task.location, error) from error
    finally:
        os.close(fd)
    if length != task.size:
        raise _changed(task.location)
    return digest


def _hash_large(fd: int) -> tuple[str, int]:
    hasher, length = hashlib.sha256(), 0
    buffer = bytearray(READ_SIZE)
    view = memoryview(buffer)
    while count := os.readv(fd, [buffer]):
        hasher.update(view[:count])
        length += count
    return hasher.hexdigest(), length


def _unreadable(location: str, error: OSError) -> LocalFailure:
    return LocalFailure(f"cannot be read: {error.strerror}", where=location, code="E_INPUT_UNREADABLE")


def _changed(location: str) -> InvalidInput:
    return InvalidInput(
        "changed while it was read", where=location, fix="try again when nothing writes to it", code="E_INPUT_CHANGED"
    )
