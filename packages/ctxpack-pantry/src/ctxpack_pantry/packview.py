"""What a pack says of itself: its manifest and its listings, of a cached pack, or of one that only a registry has.

A listing of an input, code or environment is a claim of whoever made the pack. It is compared with the digest that the
contract has for that root, so what it says is what was hashed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ctxpack_bundle import Listing, PackManifest, Selection, read_entries, verify_listing
from ctxpack_bundle.folder import read_lines
from ctxpack_bundle.outputs import checked_entries
from ctxpack_bundle.remedy import EITHER
from ctxpack_identity import CtxUri, FolderDigest, IntegrityError, InvalidInput, TreeEntry
from ctxpack_identity.contractview import transforms
from ctxpack_identity.tree import file_digest
from ctxpack_pantry.admission import admit_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.listings import RemoteListings
from ctxpack_pantry.looking import say_unless_admitted
from ctxpack_pantry.lookup import Admitted, Examined, Located, examine
from ctxpack_pantry.outlet import Outlet, manifest_of
from ctxpack_pantry.policy import ACCEPTED, Admission

if TYPE_CHECKING:
    from ctxpack_pantry.download import Download

__all__ = ["OUTPUTS", "PackView", "digest_in"]

OUTPUTS = "files"  # the root whose listing is that of the outputs


class PackView:
    """A pack, as a context manager: of the cache, or else of the registry, where first layer and table are fetched.

    skip_cache: ask the registry even if the cache has the pack. known: what the registry's tag was found to name, to be
    examined. examine: it is only looked at, so it need not be
    admitted; that it is not is said. manifest: its pack manifest; found_in: its folder, or the registry's name;
    located: its image manifest, None for a cached pack; admission: how it was admitted.
    To enter it raises: NotFound, IntegrityError, PolicyRefused, AccessDenied, Unavailable.
    """

    manifest: PackManifest
    found_in: str
    located: Located | None
    admission: Admission

    def __init__(
        self,
        context: Context,
        uri: CtxUri,
        *,
        skip_cache: bool = False,
        examine: bool = False,
        known: Located | None = None,
    ) -> None:
        self._context, self._uri, self._skip_cache = context, uri, skip_cache
        self._examine, self._known = examine or known is not None, known
        self._remote: RemoteListings | None = None
        self._download: Download | None = None
        self._open = ExitStack()
        self.located = None

    @property
    def cached(self) -> bool:
        """Whether the cache has the pack."""
        return self.located is None

    def __enter__(self) -> PackView:
        outlet = Outlet(self._context, self._uri, examine=self._examine)
        folder = None if self._skip_cache else outlet.cached(lambda folder: folder)
        located = None
        if folder is None:
            located = outlet.located() if self._known is None else examine(self._known)
        if self._examine:
            image = None if located is None else located.image
            say_unless_admitted(self._context, self._uri, folder=folder, image=image)
        if folder is not None:
            self.manifest, self.found_in = manifest_of(self._uri, folder), folder
            self.admission = ACCEPTED if self._examine else admit_cached(self._context, self._uri, folder)
        elif located is not None:
            self.admission = located.admission or ACCEPTED
            self._enter_remote(located)
        return self

    def _enter_remote(self, located: Admitted | Examined) -> None:
        from ctxpack_pantry.download import Download  # HTTP is loaded only when the registry is asked
        from ctxpack_pantry.holdings import NOTHING_HELD

        self._download = download = Download(self._context, located)
        self._remote = self._open.enter_context(RemoteListings(self._context.cache, download, NOTHING_HELD))
        self.located, self.manifest, self.found_in = located, download.opened.manifest, self._context.target.name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def listing(self, root: str) -> Iterator[TreeEntry] | None:
        """Return the entries of a root, in canonical order, or None when the pack does not list it.

        root: "files" for the outputs, "inputs/<name>", "code/<i>" or "environment/<i>". The entry of a root that is a
        single file has no path. The last entry is yielded only if the listing is that of the contract's digest.
        Raises: IntegrityError, AccessDenied, Unavailable, LocalFailure.
        """
        listing = self._find(f"{root}.jsonl")
        if listing is None:
            return None
        where = f"{self.found_in}, {listing.path}"
        if root == OUTPUTS:
            return checked_entries(self._entries(listing), self.manifest.outputs, where=where)
        return _of_contract(self._entries(listing), self.manifest.contract, root, where)

    def lines(self, root: str) -> Iterator[bytes] | None:
        """Return the lines of the listing of a root, or None when the pack does not list it. Nobody has parsed them.

        root, Raises: as listing does.
        """
        listing = self._find(f"{root}.jsonl")
        if listing is None:
            return None
        self._location(listing)
        return read_lines(self._folder, listing.path)

    def text(self, root: str) -> bytes | None:
        """Return the text of a lock file, or None when the pack does not have it. root: "environment/<i>".

        Raises: as listing does.
        """
        text = self._find(f"{root}.txt")
        if text is None:
            return None
        with open(self._location(text), "rb") as file:
            return file.read()

    def extract(self, wanted: Callable[[str], bool], folder: str) -> int:
        """Make folder, and write into it the outputs of a pack in the registry whose paths are wanted.

        Only chunks that hold them are fetched, and of them those that no cached pack holds. Every file is compared with
        the listing. Returns: bytes of layers that were fetched for this pack so far. Raises: as listing does.
        """
        from ctxpack_pantry.holdings import Held, Holdings

        assert self._download is not None
        assert self._remote is not None
        download, remote = self._download, self._remote
        remote.location(self.manifest.listings[0])
        selection = Selection(remote.folder, self.manifest, wanted, where=download.where)

        def attempt(held: Held) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            remote.extract(selection, folder, held)

        Holdings(self._context.cache).lend(download.table, attempt)
        return download.received

    def _find(self, path: str) -> Listing | None:
        return next((listing for listing in self.manifest.listings if listing.path == path), None)

    def _entries(self, listing: Listing) -> Iterator[TreeEntry]:
        self._location(listing)
        return read_entries(self._folder, listing.path)

    @property
    def _folder(self) -> str:
        """The folder that has the listings."""
        return self.found_in if self._remote is None else self._remote.folder

    def _location(self, listing: Listing) -> str:
        """Return the path of a listing or text whose digest is that of the manifest."""
        if self._remote is not None:
            return self._remote.location(listing)
        verify_listing(self.found_in, listing)
        return os.path.join(self.found_in, listing.path)


def digest_in(contract: Mapping[str, Any], root: str) -> object:
    """Return what a contract says of a root: a digest; None, or a word such as "opaque", when it has none."""
    kind, _, name = root.partition("/")
    if kind == "inputs":
        inputs = contract.get("inputs")
        item = inputs.get(name) if isinstance(inputs, Mapping) else None
        return item.get("digest") if isinstance(item, Mapping) else None
    found = transforms(contract)
    return found[int(name)].get(f"{kind}_hash") if int(name) < len(found) else None


def _of_contract(
    entries: Iterable[TreeEntry], contract: Mapping[str, Any], root: str, where: str
) -> Iterator[TreeEntry]:
    """Yield entries; instead of the last one, raise IntegrityError unless they have the digest that contract says."""
    folder, expected = FolderDigest(), digest_in(contract, root)
    before: TreeEntry | None = None
    for entry in entries:
        if before is not None:
            if not (before.path and entry.path):
                raise IntegrityError("an entry without a path, and others", where=where, fix=EITHER)
            yield before
        before = entry
        if entry.path:
            try:
                folder.add(entry)
            except InvalidInput as error:
                raise IntegrityError(f"unsafe listing: {error.what}", where=where, fix=EITHER) from error
    is_file = before is not None and not before.path
    digest = file_digest(before.sha256, before.size) if before is not None and is_file else folder.finish()
    if digest != expected:
        raise IntegrityError(
            "the listing is not that of the contract", where=where, expected=str(expected), got=digest, fix=EITHER
        )
    if before is not None:
        yield before
