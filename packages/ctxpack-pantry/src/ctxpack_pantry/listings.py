"""Listings of a pack in a registry, and what they list: fetched when asked for, with only the chunks that hold it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Generator
from contextlib import ExitStack, closing
from types import TracebackType

from ctxpack_bundle import Excerpt, Listing, Selection, listing_excerpt, unpack_entries, unpack_listing
from ctxpack_cache import Cache
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import Held

__all__ = ["RemoteListings"]

_MODES = 0o777  # less the umask, as for every file that a user makes


class RemoteListings:
    """The listings of a pack, as a context manager. Leaving it removes those that were fetched.

    folder: holds them. sizes: bytes of each piece of the pack. held: pieces that need not be fetched.
    Raises, here and below: IntegrityError, AccessDenied, Unavailable, LocalFailure.
    """

    folder: str

    def __init__(self, cache: Cache, download: Download, held: Held) -> None:
        self._cache, self._download, self._held = cache, download, held
        self._manifest = download.opened.manifest
        self.sizes = array("I", [len(download.opened.first), *(record.size for record in download.table)])
        self._open = ExitStack()

    def __enter__(self) -> RemoteListings:
        self.folder = self._open.enter_context(self._cache.staging())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)  # staging translates the error of a full disk

    def location(self, listing: Listing) -> str:
        """Return the path of a listing or text of the manifest's, which is fetched the first time."""
        location = os.path.join(self.folder, listing.path)
        if not os.path.lexists(location):
            excerpt = listing_excerpt(self._manifest, self.sizes, listing=listing)
            with closing(self.pieces(excerpt)) as pieces:
                unpack_listing(excerpt.cut(pieces), self.folder, listing, where=self._download.where)
        return location

    def extract(self, selection: Selection, folder: str, held: Held | None = None) -> None:
        """Make folder, and write what is selected of the outputs into it; every file is checked against the listing.

        selection: made of the listing of the outputs here. held: pieces that need not be fetched, if others than those
        of the listings.
        """
        excerpt = selection.excerpt(self.sizes)
        os.mkdir(folder)
        with closing(self.pieces(excerpt, held)) as pieces:
            unpack_entries(excerpt.cut(pieces), folder, selection.entries(), modes=_MODES, where=self._download.where)

    def pieces(self, excerpt: Excerpt, held: Held | None = None) -> Generator[bytes, None, None]:
        """Yield the pieces that an excerpt needs. Close the generator. held: as for extract."""
        records = [number - 1 for number in excerpt.needed]  # the first piece is in no record, and never needed
        return self._download.pieces(records, held or self._held, self.folder)
