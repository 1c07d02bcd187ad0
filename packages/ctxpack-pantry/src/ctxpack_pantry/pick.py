"""Pick: some of a pack's outputs become ordinary files, and only the chunks that hold them are fetched."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from ctxpack_bundle import (
    Excerpt,
    PackManifest,
    Selection,
    listing_excerpt,
    read_entries,
    read_pack_manifest,
    unpack_entries,
    unpack_listing,
)
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, Digest, InvalidInput, Progress
from ctxpack_identity.hashing.deephash import KnownDigests
from ctxpack_oci import Target
from ctxpack_pantry.artifact import Artifact, content_size, find_artifact
from ctxpack_pantry.holdings import Held, Holdings
from ctxpack_pantry.include import included
from ctxpack_pantry.place import all_into, copy_entries, place_made
from ctxpack_pantry.pull import Transfer, not_found

__all__ = ["Pick", "Picked"]

_MODES = 0o777  # as for every file that a user makes, the umask decides
_SHOWN = 3  # paths


class Picked(NamedTuple):
    """Outputs as ordinary files. path: their folder; files, size (bytes): how many there are of them.

    received: bytes of chunks fetched, 0 when the cache had the pack.
    """

    uri: CtxUri
    path: str
    files: int
    size: int
    received: int


class Pick:
    """What is wanted of the pack of uri, and where. patterns: see include; output: a folder; force, known: see place.

    Raises: InvalidInput when output has no name.
    """

    def __init__(
        self,
        cache: Cache,
        uri: CtxUri,
        patterns: Sequence[str],
        output: str,
        *,
        force: bool,
        progress: Progress,
        known: KnownDigests | None = None,
    ) -> None:
        self._cache, self._uri, self._patterns, self._output = cache, uri, patterns, output
        [self._placing] = all_into(output)
        self._force, self._progress, self._known = force, progress, known

    def from_cache(self, folder: str) -> Picked:
        """Copy it from the pack in folder, which the cache has. Raises: as from_target does."""
        selection = self._select(folder, read_pack_manifest(folder), folder)
        self._place(selection, lambda fresh: copy_entries(folder, selection.entries(), fresh, self._progress))
        return self._picked(selection, 0)

    def from_target(self, target: Target) -> Picked:
        """Fetch it; chunks that packs in the cache hold are not fetched. Every file is checked before any is visible.

        Raises: NotFound when target has no such pack; InvalidInput when nothing in it matches, or output is taken;
        IntegrityError, AccessDenied, Unavailable, LocalFailure, and then nothing has changed.
        """
        artifact = find_artifact(target, self._uri)
        if artifact is None:
            raise not_found(self._uri, target.name)
        transfer = Transfer(target, self._uri, self._progress)

        def attempt(held: Held) -> Selection:
            chunks = _Chunks(artifact, transfer, held)
            with self._cache.staging() as staging:
                chunks.unpack_listing(staging)
                selection = self._select(staging, artifact.pack, transfer.where)
                self._place(selection, lambda fresh: chunks.unpack_entries(selection, fresh))
            return selection

        selection = Holdings(self._cache).lend(artifact.chunks, attempt)
        return self._picked(selection, artifact.chunks[0].size + transfer.received)

    def _select(self, folder: str, manifest: PackManifest, where: str) -> Selection:
        selection = Selection(folder, manifest, included(self._patterns), where=where)
        if not selection.outputs.files and not selection.outputs.empty_folders:
            paths = [entry.path for entry in islice(read_entries(folder), _SHOWN + 1)]
            raise InvalidInput(
                "nothing in the pack matches",
                where=", ".join(self._patterns),
                got=f"a pack of {', '.join(paths[:_SHOWN])}{', …' * (len(paths) > _SHOWN)}"
                if paths
                else "an empty pack",
                fix="name what it holds, as in .gitignore",
                code="E_NO_MATCH",
            )
        return selection

    def _place(self, selection: Selection, make: Callable[[str], None]) -> None:
        digest = Digest(selection.outputs.digest)
        place_made(
            self._cache, self._placing, digest, make, force=self._force, progress=self._progress, known=self._known
        )

    def _picked(self, selection: Selection, received: int) -> Picked:
        return Picked(self._uri, self._output, selection.outputs.files, selection.outputs.size, received)


class _Chunks:
    """An artifact of which only some chunks are fetched, in one attempt."""

    def __init__(self, artifact: Artifact, transfer: Transfer, held: Held) -> None:
        self._artifact, self._transfer, self._held = artifact, transfer, held
        self._sizes = [content_size(chunk, where=transfer.where) for chunk in artifact.chunks]
        self._done = 0

    def unpack_listing(self, folder: str) -> None:
        """Write files.jsonl into folder."""
        excerpt, [listing, *_] = listing_excerpt(self._artifact.pack, self._sizes), self._artifact.pack.listings
        with closing(self._pieces(excerpt)) as pieces:
            unpack_listing(excerpt.cut(pieces), folder, listing, where=self._transfer.where)

    def unpack_entries(self, selection: Selection, folder: str) -> None:
        """Make folder, and write what is selected into it."""
        excerpt = selection.excerpt(self._sizes)
        os.mkdir(folder)
        with closing(self._pieces(excerpt)) as pieces:
            unpack_entries(excerpt.cut(pieces), folder, selection.entries(), modes=_MODES, where=self._transfer.where)

    def _pieces(self, excerpt: Excerpt) -> Generator[bytes, None, None]:
        chunks = [self._artifact.chunks[number] for number in excerpt.needed]
        done = self._done
        self._done += sum(chunk.size for chunk in chunks)
        return self._transfer.pieces(chunks, self._held, total=self._done, done=done)
