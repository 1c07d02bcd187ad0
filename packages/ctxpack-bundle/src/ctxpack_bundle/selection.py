"""Some of a pack's outputs: what they amount to, and which pieces of its tar stream hold them. FORMAT.md, "Reading".

Whoever has the manifest knows where the listing lies (`listing_excerpt`), and whoever has the listing knows where each
output lies (`Selection`). What is left when everything else is cut away is read like the whole stream, and by the same
code: `unpack_listing` and `unpack_entries`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ctxpack_bundle.excerpt import Excerpt, Spans
from ctxpack_bundle.folder import read_entries
from ctxpack_bundle.members import entry_size, head_parts, length_of, manifest_part
from ctxpack_bundle.outputs import Totals, checked_entries
from ctxpack_bundle.packmanifest import FILES, Outputs, PackManifest
from ctxpack_bundle.tar import END, file_header, padding
from ctxpack_identity import IntegrityError, TreeEntry

__all__ = ["Selection", "listing_excerpt"]

_LARGEST: Final = 1 << 62  # bytes; nobody has such a stream, and every position in one fits 64 bits


def listing_excerpt(manifest: PackManifest, sizes: Sequence[int]) -> Excerpt:
    """Return where files.jsonl lies in a pack whose pieces have these sizes (bytes)."""
    listing = manifest.listings[0]
    start = len(manifest_part(manifest))
    member = len(file_header(listing.path, listing.size)) + listing.size + len(padding(listing.size))
    spans = Spans()
    spans.add(start, start + member)
    return Excerpt(spans, sizes)


class Selection:
    """Those outputs of the pack in folder whose paths are wanted.

    folder: of a whole pack, or one that holds nothing but its files.jsonl. wanted: told the path of an entry.
    outputs: what they amount to; the digest is that of a folder that holds them and nothing else.
    Making one reads the listing, and checks it against manifest.
    Raises: IntegrityError for a listing that breaks the rules of the format or is not the manifest's.
    """

    outputs: Outputs

    def __init__(self, folder: str, manifest: PackManifest, wanted: Callable[[str], bool], *, where: str) -> None:
        self._folder, self._wanted, self._where = folder, wanted, where
        self._spans = Spans()
        totals = Totals()
        position = sum(map(length_of, head_parts(manifest)))
        for entry in checked_entries(read_entries(folder), manifest.outputs, where=f"{where}, {FILES}"):
            start, position = position, position + entry_size(entry)
            if position > _LARGEST:
                raise IntegrityError("no pack is that large", where=f"{where}, {FILES}", got=repr(entry.path))
            if wanted(entry.path):
                totals.add(entry)
                self._spans.add(start, position)
        self._end = position + len(END)
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
            )
        return Excerpt(self._spans, sizes)
