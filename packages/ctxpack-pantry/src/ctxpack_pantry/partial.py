"""Partial reading: outputs of a pack are listed, read and extracted, and only chunks that hold them are fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

from ctxpack_bundle import Excerpt, Selection, Spans, content_span, read_entries
from ctxpack_cache import Cache
from ctxpack_identity import InvalidInput, TreeEntry
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import Held
from ctxpack_pantry.listings import RemoteListings

__all__ = ["PartialPack"]


class PartialPack:
    """The outputs of a pack, as a context manager. Entering it fetches their listing; leaving it removes that.

    folder: holds the listing. held: pieces that need not be fetched.
    Raises, here and below: IntegrityError, AccessDenied, Unavailable, LocalFailure.
    """

    def __init__(self, cache: Cache, download: Download, held: Held) -> None:
        self._download = download
        self._manifest = download.opened.manifest
        self._listings = RemoteListings(cache, download, held)
        self._open = ExitStack()

    def __enter__(self) -> PartialPack:
        with ExitStack() as opening:
            opening.enter_context(self._listings)
            self._listings.location(self._manifest.listings[0])
            self._require_sizes()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def folder(self) -> str:
        return self._listings.folder

    def entries(self) -> Iterator[TreeEntry]:
        """Yield the outputs in canonical order."""
        return read_entries(self.folder)

    def extract(self, selection: Selection, folder: str) -> None:
        """Make folder, and write what is selected into it; every file is checked against the listing."""
        self._listings.extract(selection, folder)

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
        excerpt = Excerpt(spans, self._listings.sizes)
        with closing(self._listings.pieces(excerpt)) as pieces:
            return b"".join(excerpt.cut(pieces))

    def _require_sizes(self) -> None:
        """Raise IntegrityError unless the sizes of all pieces add up to the size of the pack."""
        nothing = Selection(self.folder, self._manifest, lambda path: False, where=self._download.where)
        nothing.excerpt(self._listings.sizes)
