"""Copies of a pack's files out of its folder: each is compared with its digest while it is copied."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ctxpack_bundle.copying import Copier
from ctxpack_bundle.folder import (
    ARTIFACTS,
    ParentFolders,
    content_differs,
    create_member,
    open_member,
    unreadable_member,
)
from ctxpack_identity import LocalFailure, Progress, TreeEntry, silent
from ctxpack_identity.progress import OnBytes

__all__ = ["copy_out"]

_MODES = 0o777  # less the umask, as for every file that a user makes

Link = Callable[[str, TreeEntry, str], bool]
"""(path below the destination, entry, target) -> whether the target is a link to a file with the entry's content."""


def copy_out(
    folder: str,
    entries: Iterable[TreeEntry],
    destination: str,
    *,
    prefix: str = "",
    progress: Progress = silent,
    total: int | None = None,
    link: Link | None = None,
) -> None:
    """Copy outputs of the pack in folder to destination, a path where nothing is yet.

    entries: the outputs, known to be safe, in canonical order; all paths begin with prefix. What follows prefix is the
    path below destination; if nothing does, destination itself is that file or empty folder. Without entries,
    destination is an empty folder. After an error the caller removes what is there. total: bytes of all that is placed,
    here and elsewhere, for progress. link: asked for each file below destination; it may link one that is the same.
    Raises: IntegrityError for a file that is missing or differs from its entry; LocalFailure when the pack cannot be
    read; OSError when destination cannot be written, FileExistsError when something is there.
    """

    def report(count: int) -> None:
        progress("place", count, total)

    parents: ParentFolders | None = None
    location = ""
    with Copier() as copier:
        for entry in entries:
            if not entry.path.startswith(prefix):
                raise ValueError(f"{entry.path!r} does not begin with {prefix!r}")
            path = entry.path[len(prefix) :]
            if parents is None and path:
                os.mkdir(destination)
                parents = ParentFolders(destination)
            location = parents.make(path) if parents is not None else destination
            if entry.is_empty_folder:
                os.mkdir(location)
            elif path and link is not None and link(path, entry, location):
                report(entry.size)
            else:
                _copy(folder, entry, location, copier, report)
    if not location:
        os.mkdir(destination)


def _copy(folder: str, entry: TreeEntry, location: str, copier: Copier, report: OnBytes) -> None:
    path = f"{ARTIFACTS}/{entry.path}"
    source = open_member(folder, path, entry.size, executable=entry.executable)
    try:
        copy = create_member(location, executable=entry.executable, modes=_MODES)
        try:
            sha256, _ = copier.copy(source, copy, entry.size, where=path, on_bytes=report)
        except LocalFailure as error:
            if isinstance(error.__cause__, OSError):
                raise unreadable_member(os.path.join(folder, path), error.__cause__) from error
            raise
        finally:
            os.close(copy)
    finally:
        os.close(source)
    if sha256 != entry.sha256:
        raise content_differs(os.path.join(folder, path), entry.sha256, sha256)
