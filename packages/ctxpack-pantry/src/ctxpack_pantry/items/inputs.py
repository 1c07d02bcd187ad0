"""Where the input lies that a map goes over: on disk, in a cached pack, or, for a URL, in a copy that is made first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing

from ctxpack_bundle import ARTIFACTS
from ctxpack_identity import HashedRoot, TreeEntry, uri_digest
from ctxpack_identity.hashing.filehash import changed
from ctxpack_identity.hashing.urls.store import Store
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.items.looks import ItemLooks
from ctxpack_pantry.items.table import ItemTable
from ctxpack_pantry.items.texts import within
from ctxpack_pantry.items.workplace import InputFolder
from ctxpack_pantry.outlet import removed_meanwhile
from ctxpack_pantry.transfer import in_order

__all__ = ["input_folder"]


def input_folder(
    context: Context,
    contract_file: LoadedContractFile,
    root: HashedRoot | None,
    looks: ItemLooks | None,
    table: ItemTable,
    entries: Iterable[TreeEntry],
    fresh: str,
) -> InputFolder:
    """Return the folder whose items a map goes over.

    root, looks: of the input, None where it is a pack. entries: its listing. fresh: a path where nothing is, for copies
    of the items that are missing, if the input is a URL.
    Raises: AccessDenied, Unavailable, InvalidInput when a store has other content now; LocalFailure.
    """
    each = contract_file.file.each
    assert each is not None
    [given] = [one for one in contract_file.file.inputs if one.name == each.input]
    if root is not None and looks is not None:
        return InputFolder(root.source.path, root.location, root.excludes, root.source.follow, looks.is_same)
    if root is not None:
        missing = within(table.paths[number] for number in table.missing())
        _download(context, root.location, (entry for entry in entries if missing(entry.path)), fresh)
        place = fresh
    else:
        assert given.uri is not None
        folder = context.cache.find(uri_digest(given.uri))
        if folder is None:
            raise removed_meanwhile(given.uri, context.cache.root)
        place = os.path.abspath(os.path.join(folder, ARTIFACTS))
    return InputFolder(place, place, None, False, lambda path: True)  # nobody changes it


def _download(context: Context, url: str, entries: Iterator[TreeEntry], folder: str) -> None:
    """Copy what entries name from a store into folder, which is made; each file is compared with its entry."""
    os.mkdir(folder)

    def copy(entry: TreeEntry) -> int:
        place = os.path.join(folder, entry.path)
        if entry.is_empty_folder:
            os.makedirs(place, exist_ok=True)
            return 0
        os.makedirs(os.path.dirname(place), exist_ok=True)
        sha256, size = hashlib.sha256(), 0
        with open(place, "xb") as file:
            for block in Store(url).blocks(entry.path):
                file.write(block)
                sha256.update(block)
                size += len(block)
                if size > entry.size:
                    break
        if (size, sha256.hexdigest()) != (entry.size, entry.sha256):
            raise changed(Store(url).shown(entry.path))
        return size

    with closing(in_order(copy, entries)) as copied:
        for size in copied:
            context.progress("pull", size, None)
