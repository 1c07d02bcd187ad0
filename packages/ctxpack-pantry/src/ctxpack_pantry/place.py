"""Place: a pack's outputs become ordinary files where the user wants them, each output whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from ctxpack_bundle import ARTIFACTS, PackManifest, outputs_digest, read_pack_manifest
from ctxpack_bundle.folder import ParentFolders
from ctxpack_cache import Cache
from ctxpack_cache.tree import remove_tree
from ctxpack_identity import Digest, IntegrityError, InvalidInput, LocalFailure, Progress, TreeEntry
from ctxpack_pantry.context import Context

__all__ = ["Placing", "all_into", "copy_entries", "each_to", "place", "place_made", "replace_whole"]


class Placing(NamedTuple):
    """One output and where it goes. name: in the pack; source: below ``artifacts/``; destination: a path."""

    name: str
    source: str
    destination: str


def place(context: Context, folder: str, placings: Sequence[Placing], *, force: bool) -> bool:
    """Copy outputs of the pack in folder to their destinations; return whether anything had to be written.

    What is at a destination is kept when it is the same. It is replaced when it is an empty folder or the outputs of a
    pack in the cache (so nothing is lost), or when force is set.
    Raises: InvalidInput when something else is there; LocalFailure when it cannot be read or written.
    """
    placings = [_normalised(placing) for placing in placings]
    if not force and _are_in_place(context, placings, lambda: read_pack_manifest(folder).outputs_digest):
        return False
    for placing in placings:
        source = os.path.join(folder, ARTIFACTS, placing.source)
        replace_whole(placing.destination, partial(_copy, source, progress=context.progress))
    return True


def place_made(context: Context, placing: Placing, digest: Digest, make: Callable[[str], None], *, force: bool) -> bool:
    """Call make with a fresh path, where it writes outputs of this tree digest, then move them to their destination.

    What is at the destination is treated as by place. Errors of make pass through, and then nothing has changed.
    Raises: as place does.
    """
    placing = _normalised(placing)
    if not force and _are_in_place(context, [placing], lambda: digest):
        return False
    replace_whole(placing.destination, make)
    return True


def copy_entries(folder: str, entries: Iterable[TreeEntry], destination: str, progress: Progress) -> None:
    """Copy these outputs of the pack in folder, given in canonical order, into destination, which is made."""
    os.mkdir(destination)
    parents = ParentFolders(destination)
    for entry in entries:
        location = parents.make(entry.path)
        if entry.is_empty_folder:
            os.mkdir(location)
        else:
            _copy_file(os.path.join(folder, ARTIFACTS, entry.path), location, progress)


def all_into(destination: str) -> list[Placing]:
    """Return the placing of everything a pack holds into one folder. Raises: InvalidInput for an empty name."""
    if not destination:
        raise InvalidInput("the name of the folder is empty", where="output", fix="name one, or leave it out")
    return [Placing("outputs", "", destination)]  # in no digest: a folder is hashed without its own name


def each_to(manifest: PackManifest, destinations: Mapping[str, str]) -> list[Placing]:
    """Return the placing of each root of a pack. destinations: by the names that its contract declares."""
    nested = manifest.outputs.nested
    return [Placing(root.name, root.name if nested else "", destinations[root.name]) for root in manifest.outputs.roots]


def _normalised(placing: Placing) -> Placing:
    # lexists("") and lexists("file/") are False although writing there would overwrite something.
    return placing._replace(destination=os.path.normpath(placing.destination))


def _are_in_place(context: Context, placings: Sequence[Placing], digest: Callable[[], Digest]) -> bool:
    """Return whether outputs of this digest are at the destinations. Raises: InvalidInput, as place does."""
    occupied = [placing.destination for placing in placings if _is_occupied(placing.destination)]
    if not occupied:
        return False
    found = _digest_of(context, placings)
    if found == digest():
        return True
    if found is None or not _is_in_cache(context.cache, found):
        raise InvalidInput(
            "something else is there already",
            where=occupied[0],
            expected="nothing, an empty folder, or outputs that a pack in the cache holds",
            fix="move it away, choose another place, or replace it with --force",
            code="E_OCCUPIED",
        )
    return False


def _is_occupied(path: str) -> bool:
    if not os.path.lexists(path):
        return False
    try:
        return os.path.islink(path) or not os.path.isdir(path) or bool(os.listdir(path))
    except OSError as error:
        raise LocalFailure(f"cannot be read: {error.strerror}", where=path, fix="check its permissions") from error


def _digest_of(context: Context, placings: Sequence[Placing]) -> Digest | None:
    """Return the digest of the destinations; None when one is missing, or no pack can hold it (links, devices)."""
    if not all(os.path.lexists(placing.destination) for placing in placings):
        return None
    try:
        return outputs_digest({placing.name: placing.destination for placing in placings}, hashing=context.hashing)
    except InvalidInput:
        return None


def _is_in_cache(cache: Cache, digest: Digest) -> bool:
    for pack in cache.packs():
        try:
            if read_pack_manifest(pack.path).outputs_digest == digest:
                return True
        except IntegrityError:  # its outputs may be damaged too
            continue
    return False


def replace_whole(destination: str, make: Callable[[str], None]) -> None:
    """Make the new content in the same folder, then rename. A kill in between leaves the old one under another name."""
    destination = os.path.abspath(destination)
    parent, name = os.path.split(destination)
    unique = f".{name}.{os.urandom(4).hex()}"
    fresh, old = os.path.join(parent, f"{unique}.new"), os.path.join(parent, f"{unique}.old")
    try:
        os.makedirs(parent, exist_ok=True)
        try:
            make(fresh)
            if os.path.lexists(destination):
                os.rename(destination, old)
            os.rename(fresh, destination)
        finally:
            _tidy(destination, fresh, old)
    except OSError as error:
        fix = (
            f"the old content, or the rest of it, is in {old}" if os.path.lexists(old) else "nothing was changed there"
        )
        raise LocalFailure(f"cannot be written: {error.strerror}", where=destination, fix=fix) from error


def _tidy(destination: str, fresh: str, old: str) -> None:
    """Leave one of the three. A first Ctrl-C during this does not stop it; a second one does, and loses nothing."""
    replaced = not os.path.lexists(fresh)
    try:
        _leave_one(destination, fresh, old, replaced)
    except OSError:
        raise
    except BaseException:
        _leave_one(destination, fresh, old, replaced)
        raise


def _leave_one(destination: str, fresh: str, old: str, replaced: bool) -> None:
    if os.path.lexists(old):
        if not os.path.lexists(destination):
            os.rename(old, destination)
        elif replaced:  # otherwise another process wrote to destination, and the old content stays in old
            _remove(old)
    _remove(fresh)


def _copy(source: str, destination: str, *, progress: Progress) -> None:
    if not os.path.isdir(source):
        _copy_file(source, destination, progress)
        return
    os.mkdir(destination)
    with os.scandir(source) as entries:
        for entry in entries:
            _copy(entry.path, os.path.join(destination, entry.name), progress=progress)


def _copy_file(source: str, destination: str, progress: Progress) -> None:
    """Copy content and the executable bit; the umask decides the rest of the mode."""
    with open(source, "rb") as original:
        status = os.fstat(original.fileno())
        mode = 0o777 if status.st_mode & 0o100 else 0o666
        with open(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as copy:
            shutil.copyfileobj(original, copy, 1 << 20)
    progress("place", status.st_size, None)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)  # the user's own folders may be read-only, as copies of a pack in the cache are
    elif os.path.lexists(path):
        os.unlink(path)
