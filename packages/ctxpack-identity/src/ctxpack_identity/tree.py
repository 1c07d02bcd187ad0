"""Tree digest v1: the name of a file or folder, whatever file system holds it. SPEC.md, "Tree digest"."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring

from ctxpack_identity.canonical import canonical_json
from ctxpack_identity.digest import Digest, digest_of
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.filehash import hash_files
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_identity.progress import Progress, silent
from ctxpack_identity.scan import scan

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["TREE_SCHEMA", "Entry", "FolderDigest", "Tree", "file_digest", "hash_tree", "tree_digest"]

TREE_SCHEMA = "ctxpack/tree/v1"

_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch

JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # left by file managers; hashed, but worth a warning


class Entry(NamedTuple):
    """One file, or one empty folder (its path ends in ``/``; no digest, size 0).

    path: relative, POSIX. size: bytes. sha256: 64 hexadecimal digits. executable: kept in packs, not in digests.
    """

    path: str
    size: int
    sha256: str
    executable: bool = False

    @property
    def is_empty_folder(self) -> bool:
        return self.path.endswith("/")


class Tree(NamedTuple):
    """What a file or folder on disk amounts to.

    size: bytes of all files. junk: files a file manager left behind, relative paths.
    """

    digest: Digest
    kind: str
    files: int
    size: int
    junk: tuple[str, ...]


def hash_tree(
    root: str,
    *,
    excludes: Excludes | None = None,
    follow: bool = False,
    executor: Executor | None = None,
    progress: Progress = silent,
    on_entry: Callable[[Entry], object] | None = None,
) -> Tree:
    """Return the tree digest of the file or folder at root, with what was counted on the way.

    follow: read what symbolic links point at instead of refusing them. executor: see hash_files; it never changes
    the digest. on_entry: called with every entry, in canonical order.
    Raises: InvalidInput, LocalFailure as scan and hash_files do.
    """
    folder, junk = FolderDigest(), []
    files = size = 0
    for found, sha256 in hash_files(
        scan(root, excludes=excludes, follow=follow), follow=follow, executor=executor, progress=progress
    ):
        length = found.stat.st_size if sha256 else 0
        entry = Entry(found.path, length, sha256, bool(sha256) and bool(found.stat.st_mode & stat.S_IXUSR))
        folder.add(entry)
        files, size = files + bool(sha256), size + length
        if found.path.rpartition("/")[2] in JUNK:
            junk.append(found.path)
        if on_entry is not None:
            on_entry(entry)
        if found.location == root:  # a file: what is found in a folder lies below it
            return Tree(file_digest(sha256, length), "file", 1, length, ())
    return Tree(folder.finish(), "folder", files, size, tuple(junk))


def file_digest(sha256: str, size: int) -> Digest:
    """Return the tree digest of a single file: content digest (64 hexadecimal digits) and size in bytes."""
    return digest_of(
        canonical_json({"digest": f"sha256:{sha256}", "schema": TREE_SCHEMA, "size": size, "type": "file"})
    )


def tree_digest(entries: Iterable[Entry]) -> Digest:
    """Return the tree digest of the folder that holds these entries, given in any order.

    Raises: InvalidInput for a path that is not relative, POSIX and normal, or that occurs twice or both as a file
    and as a folder.
    """
    folder = FolderDigest()
    for entry in sorted(entries, key=lambda entry: entry.path.removesuffix("/").split("/")):
        folder.add(entry)
    return folder.finish()


class FolderDigest:
    """Fold entries, given in canonical order, into the digest of the folder that holds them.

    Memory: one open folder for each level of the current path. Canonical order is depth first, names sorted by
    their UTF-8 bytes; Python compares str by code point, which is the same order.
    """

    def __init__(self) -> None:
        self._open = [_Folder("")]
        self._last: list[str] = []

    def add(self, entry: Entry) -> None:
        """Take the next entry.

        Raises: InvalidInput when it is out of order or repeated, its path is not normal or not Unicode, or a file's
        digest is not one.
        """
        segments = entry.path.removesuffix("/").split("/")
        self._check(segments, entry.path)
        parents = segments[:-1]
        shared = 0
        for folder, name in zip(self._open[1:], parents, strict=False):
            if folder.name != name:
                break
            shared += 1
        self._close_to(shared + 1)
        self._open.extend(_Folder(name) for name in parents[shared:])
        if entry.is_empty_folder:
            digest, size = _Folder("").close()
            self._open[-1].add(segments[-1], digest, size, "folder")
        elif _is_sha256(entry.sha256):
            self._open[-1].add(segments[-1], f"sha256:{entry.sha256}", entry.size, "file")
        else:
            expected, got = "64 lower-case hexadecimal digits", repr(entry.sha256)[:80]
            raise InvalidInput("not a SHA-256", where=repr(entry.path), expected=expected, got=got, code="E_DIGEST")
        self._last = segments

    def finish(self) -> Digest:
        """Return the digest of the whole folder; nothing can be added after."""
        self._close_to(1)
        return Digest(self._open[0].close()[0])

    def _close_to(self, depth: int) -> None:
        while len(self._open) > depth:
            folder = self._open.pop()
            digest, size = folder.close()
            self._open[-1].add(folder.name, digest, size, "folder")

    def _check(self, segments: list[str], path: str) -> None:
        for name in segments:
            if name in ("", ".", "..") or "\0" in name:
                raise InvalidInput("not a relative, normal POSIX path", where=repr(path), code="E_PATH")
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput("path is not Unicode text", where=repr(path), code="E_NAME_ENCODING") from error
        if segments <= self._last:
            fault = "path occurs twice" if segments == self._last else "path is out of canonical order"
            raise InvalidInput(fault, where=repr(path), got=f"after {'/'.join(self._last)!r}", code="E_PATH_ORDER")
        if self._last and segments[: len(self._last)] == self._last:
            raise InvalidInput("a file or empty folder cannot hold others", where=repr(path), code="E_PATH_ORDER")


class _Folder:
    """The canonical document of one folder, hashed as it grows and never held."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._hash = hashlib.sha256(b'{"entries":[')
        self._size = len(b'{"entries":[')
        self._separator = ""

    def add(self, name: str, digest: str, size: int, kind: str) -> None:
        member = (
            f'{self._separator}{{"digest":"{digest}","name":{encode_basestring(name)},"size":{size},"type":"{kind}"}}'
        ).encode()
        self._hash.update(member)
        self._size += len(member)
        self._separator = ","

    def close(self) -> tuple[str, int]:
        """Return the document's digest and its length in bytes."""
        end = f'],"schema":"{TREE_SCHEMA}","type":"folder"}}'.encode()
        self._hash.update(end)
        return f"sha256:{self._hash.hexdigest()}", self._size + len(end)
