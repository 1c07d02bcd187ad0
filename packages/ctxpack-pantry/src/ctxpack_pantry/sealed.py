"""Sealed: the digest of a pack's manifest.json as it was published, since nothing else covers its provenance.

One note for each pack, ``sealed/<64 hex of the URI>``: the inode of the file, a space, its digest. It says nothing of a
file with another inode, such as that of the next pack of this contract.
"""

from __future__ import annotations

import os

from ctxpack_identity.digest import digest_of, hex_of
from ctxpack_identity.errors import CtxPackError, IntegrityError
from ctxpack_identity.hashing.filehash import open_regular
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.notes import Notes

if TYPE_CHECKING:
    from ctxpack_cache import Cache

__all__ = ["forget_sealed", "note_sealed", "require_sealed"]

_KIND = "sealed"
_MAX_NOTE = 128  # bytes


def note_sealed(cache: Cache, uri: CtxUri, folder: str) -> None:
    """Note the digest of the manifest of the pack in folder, which was just published."""
    try:
        Notes(cache, _KIND).write(_name(uri), _state(folder).encode())
    except (OSError, CtxPackError):
        return  # it was removed meanwhile


def require_sealed(cache: Cache, uri: CtxUri, folder: str) -> None:
    """Raise IntegrityError when the manifest of the cached pack in folder is not what was published."""
    noted = Notes(cache, _KIND).read(_name(uri), _MAX_NOTE).decode(errors="replace")
    found = _state(folder)
    same_file = noted.partition(" ")[0] == found.partition(" ")[0]
    if same_file and noted != found:
        raise IntegrityError(
            "manifest is not what was published",
            where=os.path.join(folder, "manifest.json"),
            expected=noted.partition(" ")[2],
            got=found.partition(" ")[2],
        )


def forget_sealed(cache: Cache, uri: CtxUri) -> None:
    """Remove the note about the pack of uri."""
    Notes(cache, _KIND).remove(_name(uri))


def _state(folder: str) -> str:
    with open(open_regular(os.path.join(folder, "manifest.json")), "rb") as file:
        return f"{os.fstat(file.fileno()).st_ino} {digest_of(file.read())}"


def _name(uri: CtxUri) -> str:
    return hex_of(uri_digest(uri))
