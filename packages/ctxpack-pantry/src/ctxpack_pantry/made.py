"""Made: the record of the packs that this user's own run, map, rebuild or seed made, in the user's state folder.

One small file for each URI, ``made/<2 hex>/<64 hex of the URI>``, one line for each pack::

    <64 hex: SHA-256 of manifest.json> <run, rebuild or seed>

The record exempts packs from the trust policy, so it fails closed. What is not a whole line does not count; nothing
counts below a folder, or in a file, that is a symbolic link, belongs to another user, or that others may write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from ctxpack_identity.digest import Digest, hex_of, parse_digest
from ctxpack_identity.uri import CtxUri, uri_digest

__all__ = ["MADE_KINDS", "Made"]

MADE_KINDS = ("seed", "rebuild", "run")  # weakest first
_FOLDER = "made"
_NEWEST = 1 << 18  # bytes that are read of a file: some 3,600 packs of one URI
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # never waits for the other end of a FIFO


class Made:
    """What is one's own. state: the user's state folder; "" when it is not known: then nothing is one's own."""

    def __init__(self, state: str) -> None:
        self._state = state

    def add(self, uri: CtxUri, pack_manifest: Digest, kind: str) -> bool:
        """Note that this user made the pack. pack_manifest: digest of manifest.json. kind: one of MADE_KINDS.

        A weaker kind than the noted one changes nothing. Returns whether the pack is one's own from now on: it is not
        when the folder cannot be written, or is not only this user's. Raises: ValueError for another kind.
        """
        rank = MADE_KINDS.index(kind)
        noted = self.kind_of(uri, pack_manifest)
        if noted is not None and MADE_KINDS.index(noted) >= rank:
            return True
        if not self._state:
            return False
        # The line feed before it ends a line that a kill or a full disk cut.
        line = f"\n{hex_of(parse_digest(pack_manifest))} {kind}\n".encode()
        try:
            os.makedirs(os.path.dirname(self._state), mode=0o700, exist_ok=True)
            _append(self._state, hex_of(uri_digest(uri)), line)
        except OSError:
            return False
        return self.kind_of(uri, pack_manifest) == kind

    def kind_of(self, uri: CtxUri, pack_manifest: Digest) -> str | None:
        """Return how this user made the pack, the strongest kind that was noted; None when it is not one's own."""
        if not self._state:
            return None
        try:
            data = _read(self._state, hex_of(uri_digest(uri)))
        except OSError:
            return None
        lines = set(data.split(b"\n"))
        made = hex_of(parse_digest(pack_manifest))
        return next((kind for kind in reversed(MADE_KINDS) if f"{made} {kind}".encode() in lines), None)


def _append(state: str, name: str, line: bytes) -> None:
    """Append a line to the file of a URI. One call of write: two processes never mix their lines."""
    folder = _made_folder(state)
    try:
        below = _enter(name[:2], folder)
    finally:
        os.close(folder)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _OPEN_FILE
        file = _checked(os.open(name, flags, 0o600, dir_fd=below), stat.S_ISREG)
    finally:
        os.close(below)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def _made_folder(state: str) -> int:
    """Return the folder of the record, open; it is made where it is missing."""
    _make(state, None)
    parent = os.open(state, _OPEN_FOLDER)
    try:
        if _make(_FOLDER, parent) and os.fstat(parent).st_uid == os.geteuid():
            # Others may have been allowed to write it, by the umask of whoever made it; nothing is in the record yet.
            os.fchmod(parent, stat.S_IMODE(os.fstat(parent).st_mode) & ~_OTHERS_WRITE)
        return _checked(os.open(_FOLDER, _OPEN_FOLDER, dir_fd=parent), stat.S_ISDIR)
    finally:
        os.close(parent)


def _enter(name: str, parent: int) -> int:
    _make(name, parent)
    return _checked(os.open(name, _OPEN_FOLDER, dir_fd=parent), stat.S_ISDIR)


def _make(name: str, parent: int | None) -> bool:
    """Make a folder, and return whether it was missing."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _read(state: str, name: str) -> bytes:
    """Return the newest lines of the file of a URI. Raises: OSError when there is none that can be trusted."""
    held: list[int] = []

    def enter(part: str, flags: int, is_kind: Callable[[int], bool]) -> int:
        held.append(_checked(os.open(part, flags, dir_fd=held[-1] if held else None), is_kind))
        return held[-1]

    try:
        for folder in (state, _FOLDER, name[:2]):
            enter(folder, _OPEN_FOLDER, stat.S_ISDIR)
        file = enter(name, os.O_RDONLY | _OPEN_FILE, stat.S_ISREG)
        data = os.pread(file, _NEWEST, max(0, os.fstat(file).st_size - _NEWEST))
    finally:
        for fd in held:
            os.close(fd)
    return data[: data.rfind(b"\n") + 1]


def _checked(fd: int, is_kind: Callable[[int], bool]) -> int:
    """Return fd. Close it and raise OSError, unless it is of the kind, this user's, and nobody else may write it."""
    found = os.fstat(fd)
    if is_kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE:
        return fd
    os.close(fd)
    raise PermissionError("not only this user's")
