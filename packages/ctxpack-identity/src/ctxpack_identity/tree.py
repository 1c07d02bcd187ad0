"""Tree digest v1: the digest of a file or folder, the same on every file system. SPEC.md, "Tree digest"."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from json.encoder import encode_basestring

from ctxpack_identity.canonical import canonical_json
from ctxpack_identity.digest import Digest, digest_from_hex, digest_of
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["TREE_SCHEMA", "Document", "FolderDigest", "Tree", "TreeEntry", "file_digest", "tree_digest", "tree_of_one"]

TREE_SCHEMA = "ctxpack/tree/v1"

_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch


class TreeEntry(NamedTuple):
    """One file, or one empty folder (its path ends in ``/``; no digest, size 0).

    path: relative, POSIX; "" where the whole tree is this file. size: bytes. sha256: 64 hexadecimal digits.
    executable: kept in packs, not in digests.
    """

    path: str
    size: int
    sha256: str
    executable: bool = False

    @property
    def is_empty_folder(self) -> bool:
        return self.path.endswith("/")


class Tree(NamedTuple):
    """The digest of a file or folder, and what was counted.

    kind: "file" or "folder". size: bytes of all files.
    """

    digest: Digest
    kind: str
    files: int
    size: int


def file_digest(sha256: str, size: int) -> Digest:
    """Return the tree digest of a single file: content digest (64 hexadecimal digits) and size in bytes."""
    return digest_of(
        canonical_json({"digest": digest_from_hex(sha256), "schema": TREE_SCHEMA, "size": size, "type": "file"})
    )


def tree_digest(entries: Iterable[TreeEntry]) -> Digest:
    """Return the tree digest of the folder that holds these entries, given in any order.

    Raises: InvalidInput for a path that is not relative, POSIX and normal, or that occurs twice or both as a file
    and as a folder.
    """
    folder = FolderDigest()
    for entry in sorted(entries, key=lambda entry: entry.path.removesuffix("/").split("/")):
        folder.add(entry)
    return folder.finish()


def tree_of_one(path: str, sha256: str, size: int) -> Digest:
    """Return the tree digest of the folder that holds just one file, as tree_digest does, in a tenth of the time.

    path: relative, POSIX and normal; sha256: 64 hexadecimal digits. Neither is checked.
    """
    digest, kind = sha256, "file"
    for name in reversed(path.split("/")):
        entry = f'{{"digest":"sha256:{digest}","name":{encode_basestring(name)},"size":{size},"type":"{kind}"}}'
        document = f'{{"entries":[{entry}],"schema":"{TREE_SCHEMA}","type":"folder"}}'.encode()
        digest, size, kind = hashlib.sha256(document).hexdigest(), len(document), "folder"
    return digest_from_hex(digest)


class FolderDigest:
    """The digest of a folder from its entries, which are added in canonical order.

    Memory: one open folder for each level of the current path. Canonical order is depth first, names sorted by
    UTF-8 bytes; Python compares str by code point, which is the same order.
    """

    def __init__(self) -> None:
        self._open = [_OpenFolder("")]
        self._parent = ""

    def add(self, entry: TreeEntry) -> None:
        """Add the next entry.

        Raises: InvalidInput when it is out of order or repeated, its path is not normal or not Unicode, or a file's
        sha256 is not 64 hexadecimal digits.
        """
        path = entry.path
        parent, _, name = path.removesuffix("/").rpartition("/")
        if not path.isascii():
            _check_unicode(path)
        if parent != self._parent or path.startswith("/"):
            self._go_to(parent.split("/") if parent or path.startswith("/") else [], path)
            self._parent = parent
        folder = self._open[-1]
        folder.begin(name, path)
        if path.endswith("/"):
            folder.document.add(name, *Document().close(), "folder")
        elif _is_sha256(entry.sha256):
            folder.document.add_file(name, entry.sha256, entry.size)
        else:
            expected, got = "64 lower-case hexadecimal digits", repr(entry.sha256)[:80]
            raise InvalidInput("not a SHA-256", where=repr(path), expected=expected, got=got, code="E_DIGEST")

    def finish(self) -> Digest:
        """Return the digest of the whole folder. Nothing can be added afterwards."""
        self._close_to(1)
        return self._open[0].document.close()[0]

    def _go_to(self, parents: list[str], path: str) -> None:
        shared = 0
        for folder, name in zip(self._open[1:], parents, strict=False):
            if folder.name != name:
                break
            shared += 1
        self._close_to(shared + 1)
        for name in parents[shared:]:
            self._open[-1].begin(name, path)
            self._open.append(_OpenFolder(name))

    def _close_to(self, depth: int) -> None:
        while len(self._open) > depth:
            folder = self._open.pop()
            self._open[-1].document.add(folder.name, *folder.document.close(), "folder")


class _OpenFolder:
    """A folder that is not complete yet. last: the name of its newest child."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document = Document()
        self.last = ""

    def begin(self, name: str, path: str) -> None:
        """Make name the newest child. Raises: InvalidInput unless it is valid and comes after last."""
        if name in ("", ".", "..") or "\0" in name:
            raise InvalidInput("not a relative, normal POSIX path", where=repr(path), code="E_PATH")
        if name <= self.last:
            fault = "path occurs twice, or both as a file and as a folder"
            if name < self.last:
                fault = "path is out of canonical order"
            raise InvalidInput(fault, where=repr(path), got=f"{name!r} after {self.last!r}", code="E_PATH_ORDER")
        self.last = name


def _check_unicode(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("path is not Unicode text", where=repr(path), code="E_NAME_ENCODING") from error


class Document:
    """The canonical document of one folder, hashed while it is written and never kept in memory."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b'{"entries":[')
        self._size = len(b'{"entries":[')
        self._separator = ""

    def add(self, name: str, digest: Digest, size: int, kind: str) -> None:
        self._write(f'{{"digest":"{digest}","name":{encode_basestring(name)},"size":{size},"type":"{kind}"}}')

    def add_file(self, name: str, sha256: str, size: int) -> None:
        """Add one file; sha256: 64 hexadecimal digits."""
        self._write(f'{{"digest":"sha256:{sha256}","name":{encode_basestring(name)},"size":{size},"type":"file"}}')

    def add_files(self, files: list[tuple[str, os.stat_result]], digests: list[str]) -> None:
        """Add many files at once; digests: 64 hexadecimal digits each."""
        self._write(
            ",".join(
                [
                    f'{{"digest":"sha256:{sha256}","name":{encode_basestring(name)},"size":{status.st_size},"type":"file"}}'
                    for (name, status), sha256 in zip(files, digests, strict=True)
                ]
            )
        )

    def close(self) -> tuple[Digest, int]:
        """Complete the document; return its digest and its length in bytes."""
        self._separator = ""
        self._write(f'],"schema":"{TREE_SCHEMA}","type":"folder"}}')
        return digest_from_hex(self._hash.hexdigest()), self._size

    def _write(self, text: str) -> None:
        data = (self._separator + text).encode()
        self._hash.update(data)
        self._size += len(data)
        self._separator = ","
