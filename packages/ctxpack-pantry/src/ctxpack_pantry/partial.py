"""Partial reading: outputs of a pack are listed, read and extracted, and only chunks that hold them are fetched."""

from __future__ import annotations

import os
from array import array
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing

from ctxpack_bundle import (
    Excerpt,
    Selection,
    Spans,
    content_span,
    listing_excerpt,
    read_entries,
    unpack_entries,
    unpack_listing,
)
from ctxpack_cache import Cache
from ctxpack_identity import InvalidInput, TreeEntry
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import Held

__all__ = ["PartialPack"]

_MODES = 0o777  # less the umask, as for every file that a user makes


class PartialPack:
    """The outputs of a pack, as a context manager. Entering it fetches their listing; leaving it removes that.

    folder: holds the listing. held: pieces that need not be fetched.
    Raises, here and below: IntegrityError, AccessDenied, Unavailable, LocalFailure.
    """

    folder: str

    def __init__(self, cache: Cache, download: Download, held: Held) -> None:
        self._cache, self._download, self._held = cache, download, held
        self._manifest = download.opened.manifest
        self._sizes = array("I", [len(download.opened.first), *(record.size for record in download.table)])
        self._open = ExitStack()

    def __enter__(self) -> PartialPack:
        with ExitStack() as opening:
            self.folder = opening.enter_context(self._cache.staging())
            self._unpack_listing()
            self._require_sizes()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def entries(self) -> Iterator[TreeEntry]:
        """Yield the outputs in canonical order."""
        return read_entries(self.folder)

    def extract(self, selection: Selection, folder: str) -> None:
        """Make folder, and write what is selected into it; every file is checked against the listing."""
        excerpt = selection.excerpt(self._sizes)
        os.mkdir(folder)
        with closing(self._pieces(excerpt)) as pieces:
            unpack_entries(excerpt.cut(pieces), folder, selection.entries(), modes=_MODES, where=self._download.where)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return size bytes (fewer at the end) of the file at path from offset on.

        Raises: InvalidInput when the pack holds no such file.
        """
        where = self._download.where
        span = content_span(self.folder, self._manifest, path, where=where)
        if span is None:
            raise InvalidInput(
                "no such file among the outputs", where=where, got=repr(path), fix="list the outputs", code="E_NO_MATCH"
            )
        spans = Spans()
        start = span.start + min(max(offset, 0), span.size)
        spans.add(start, min(start + max(size, 0), span.start + span.size))
        excerpt = Excerpt(spans, self._sizes)
        with closing(self._pieces(excerpt)) as pieces:
            return b"".join(excerpt.cut(pieces))

    def _unpack_listing(self) -> None:
        excerpt = listing_excerpt(self._manifest, self._sizes)
        listing = self._manifest.listings[0]
        with closing(self._pieces(excerpt)) as pieces:
            unpack_listing(excerpt.cut(pieces), self.folder, listing, where=self._download.where)

    def _require_sizes(self) -> None:
        """Raise IntegrityError unless the sizes of all pieces add up to the size of the pack."""
        nothing = Selection(self.folder, self._manifest, lambda path: False, where=self._download.where)
        nothing.excerpt(self._sizes)

    def _pieces(self, excerpt: Excerpt) -> Generator[bytes, None, None]:
        records = [number - 1 for number in excerpt.needed]  # the first piece is in no record, and never needed
        return self._download.pieces(records, self._held, self.folder)
