"""Partial reading: outputs of a pack are listed, read and extracted, and only chunks that hold them are fetched."""

from __future__ import annotations

import os
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
from ctxpack_pantry.artifact import content_size
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import NOTHING_HELD, Held
from ctxpack_pantry.lookup import OpenedPack

__all__ = ["PartialPack"]

_MODES = 0o777  # less the umask, as for every file that a user makes


class PartialPack:
    """The outputs of an opened pack, as a context manager. Entering it fetches their listing; leaving it removes that.

    folder: holds the listing. held: chunks that need not be fetched; they are used only for whole files, whose digests
    check them. Raises, here and below: IntegrityError, AccessDenied, Unavailable, LocalFailure.
    """

    folder: str

    def __init__(self, cache: Cache, opened: OpenedPack, download: Download, held: Held) -> None:
        self._cache, self._opened, self._download, self._held = cache, opened, download, held
        self._sizes = [content_size(chunk, where=download.where) for chunk in opened.located.chunks]
        self._done = 0
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
        with closing(self._pieces(excerpt, self._held)) as pieces:
            unpack_entries(excerpt.cut(pieces), folder, selection.entries(), modes=_MODES, where=self._download.where)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return size bytes (fewer at the end) of the file at path from offset on.

        The chunks are checked by their digests; in which chunk the range is, the image manifest says.
        Raises: InvalidInput when the pack holds no such file.
        """
        where = self._download.where
        span = content_span(self.folder, self._opened.manifest, path, where=where)
        if span is None:
            raise InvalidInput(
                "no such file among the outputs", where=where, got=repr(path), fix="list the outputs", code="E_NO_MATCH"
            )
        spans = Spans()
        start = span.start + min(max(offset, 0), span.size)
        spans.add(start, min(start + max(size, 0), span.start + span.size))
        excerpt = Excerpt(spans, self._sizes)
        # Only the digest of a whole file checks held pieces, and a range is not a whole file.
        with closing(self._pieces(excerpt, NOTHING_HELD)) as pieces:
            return b"".join(excerpt.cut(pieces))

    def _unpack_listing(self) -> None:
        manifest = self._opened.manifest
        listing = manifest.listings[0]
        excerpt = listing_excerpt(manifest, self._sizes)
        with closing(self._pieces(excerpt, self._held)) as pieces:
            unpack_listing(excerpt.cut(pieces), self.folder, listing, where=self._download.where)

    def _require_sizes(self) -> None:
        """Raise IntegrityError unless the sizes of all pieces add up to the size of the pack."""
        nothing = Selection(self.folder, self._opened.manifest, lambda path: False, where=self._download.where)
        nothing.excerpt(self._sizes)

    def _pieces(self, excerpt: Excerpt, held: Held) -> Generator[bytes, None, None]:
        chunks = [self._opened.located.chunks[number] for number in excerpt.needed]
        done = self._done
        self._done += sum(chunk.size for chunk in chunks)
        return self._download.pieces(chunks, held, total=self._done, done=done)
