"""Some of a pack's outputs: their totals, and where they are in its tar stream. FORMAT.md, "Reading".

The manifest is enough to find a listing (`listing_excerpt`); files.jsonl is enough to find outputs (`Selection`) or the
content of one file (`content_span`). `unpack_listing` and `unpack_entries` read what an excerpt cuts out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ctxpack_bundle.excerpt import Excerpt, Span, Spans
from ctxpack_bundle.folder import read_entries
from ctxpack_bundle.members import entry_parts, entry_size, head_parts, length_of, listing_size, manifest_part
from ctxpack_bundle.outputs import Totals, checked_entries
from ctxpack_bundle.packmanifest import FILES, Listing, Outputs, PackManifest
from ctxpack_bundle.remedy import EITHER, IN_REGISTRY
from ctxpack_bundle.tar import END
from ctxpack_identity import IntegrityError, TreeEntry

__all__ = ["Selection", "content_span", "listing_excerpt"]

_LARGEST: Final = 1 << 62  # bytes; no real stream is that large, and every position below it fits 64 bits


def listing_excerpt(manifest: PackManifest, sizes: Sequence[int], *, listing: Listing | None = None) -> Excerpt:
    """Return where the member of a listing lies in a pack whose pieces have these sizes (bytes).

    listing: one of the manifest's; files.jsonl if not given.
    """
    number = 0 if listing is None else manifest.listings.index(listing)
    start = len(manifest_part(manifest)) + sum(map(listing_size, manifest.listings[:number]))
    spans = Spans()
    spans.add(start, start + listing_size(manifest.listings[number]))
    return Excerpt(spans, sizes)


def content_span(folder: str, manifest: PackManifest, path: str, *, where: str) -> Span | None:
    """Return where the content of the output file at path lies in the tar stream, or None if no file has that path.

    folder: of a whole pack, or one that holds nothing but its files.jsonl. Reads the listing to its end, and checks it
    against manifest. path: relative to ``artifacts/``. Whether the pieces hold that content is the caller's to check.
    Raises: IntegrityError for a listing that breaks the rules of the format or is not the manifest's.
    """
    span = None
    for entry, start, _ in _located_entries(folder, manifest, _head_size(manifest), where):
        if entry.path == path and not entry.is_empty_folder:
            header, *_ = entry_parts(entry)
            span = Span(start + length_of(header), entry.size)
    return span


class Selection:
    """The outputs of the pack in folder whose paths are wanted.

    folder: of a whole pack, or one that holds nothing but its files.jsonl. wanted: called with the path of each entry.
    outputs: their totals; the digest is that of a folder that holds them and nothing else.
    The constructor reads the listing, and checks it against manifest.
    Raises: IntegrityError for a listing that breaks the rules of the format or is not the manifest's.
    """

    outputs: Outputs

    def __init__(self, folder: str, manifest: PackManifest, wanted: Callable[[str], bool], *, where: str) -> None:
        self._folder, self._wanted, self._where = folder, wanted, where
        self._spans = Spans()
        totals = Totals()
        head = stop = _head_size(manifest)
        for entry, start, stop in _located_entries(folder, manifest, head, where):
            if wanted(entry.path):
                totals.add(entry)
                self._spans.add(start, stop)
        self._end = stop + len(END)
        self.outputs = totals.finish(())

    def entries(self) -> Iterator[TreeEntry]:
        """Yield the wanted entries, in canonical order."""
        return (entry for entry in read_entries(self._folder) if self._wanted(entry.path))

    def excerpt(self, sizes: Sequence[int]) -> Excerpt:
        """Return where the members of the wanted entries lie in the pack, whose pieces have these sizes (bytes).

        Raises: IntegrityError when pieces of these sizes do not make up the pack.
        """
        if sum(sizes) != self._end:
            raise IntegrityError(
                "pieces do not make up the pack",
                where=self._where,
                expected=f"{self._end} bytes",
                got=str(sum(sizes)),
                fix=IN_REGISTRY,
            )
        return Excerpt(self._spans, sizes)


def _head_size(manifest: PackManifest) -> int:
    """Return how many bytes of the stream come before the members of the outputs."""
    return sum(map(length_of, head_parts(manifest)))


def _located_entries(
    folder: str, manifest: PackManifest, head: int, where: str
) -> Iterator[tuple[TreeEntry, int, int]]:
    """Yield each entry of the outputs, checked, and where its member starts and stops. head: size of what precedes."""
    where = f"{where}, {FILES}"
    stop = head
    for entry in checked_entries(read_entries(folder), manifest.outputs, where=where):
        start, stop = stop, stop + entry_size(entry)
        if stop > _LARGEST:
            raise IntegrityError("no pack is that large", where=where, got=repr(entry.path), fix=EITHER)
        yield entry, start, stop
