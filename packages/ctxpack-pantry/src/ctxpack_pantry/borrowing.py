"""Borrowing: an earlier pack in the same repository whose layers a push may name in its own image manifest.

The registry keeps those layers because they are named. Which of them a push keeps, `plan_borrowing` of ctxpack_bundle
says.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from random import SystemRandom
from typing import Final, NamedTuple

from ctxpack_bundle import PackManifest, PieceIndex, Table, average_like, average_of, pack, read_chunk, stream_size
from ctxpack_identity import IntegrityError, NotFound, PolicyRefused, Progress, silent
from ctxpack_oci import Target
from ctxpack_pantry.context import Context
from ctxpack_pantry.kin import KinList
from ctxpack_pantry.lookup import Located, admit, locate, open_table
from ctxpack_pantry.share import Share
from ctxpack_pantry.tables import Base, Tables
from ctxpack_pantry.transfer import at_once

__all__ = ["Survey", "known_bases", "listed_bases", "survey"]

_BASES: Final = 4  # packs that are compared
_TABLE_BYTES: Final = 16 << 20  # of all their tables but the first, in memory
_SAMPLE: Final = 16  # chunks of somebody else's pack that are compared with its table
_UNRELATED: Final = 16 << 20  # bytes of the outputs without pieces of any earlier pack, after which none is expected
_TRIFLE: Final = 4 << 10  # bytes that any two packs can share: headers, and the zeros at the end


class Survey(NamedTuple):
    """The pieces of a pack, and which of them base has.

    sha256: of all pieces, 32 bytes each; sizes: bytes; found: numbers of the records of base, or -1.
    """

    base: Base
    sha256: bytes
    sizes: array[int]
    found: array[int]


def known_bases(tables: Tables, repository: str, kin: str, *, whole: bool = False) -> list[Base]:
    """Return the newest packs of a kin in repository whose tables are known.

    whole: only those of which this cache sent each layer, or fetched and verified it.
    """
    bases: list[Base] = []
    size = 0
    for known in islice(tables.of_kin(repository, kin), _BASES):
        base = known.read()
        if base is None or (whole and not base.whole):
            continue
        if not bases or size + len(base.table.data) <= _TABLE_BYTES:
            bases.append(base)
            size += len(base.table.data)
    return bases


def listed_bases(context: Context, kin: str) -> list[Base]:
    """Return the newest packs that the registry's list of this kin names, as far as what they say proves true.

    Their tables are somebody else's work: the policy must ask for signatures, and each pack have them, unless it is
    one's own; and some of its chunks, anywhere, must be what the table says.
    """
    bases: list[Base] = []
    for listed in KinList(context.target, kin).read()[:_BASES]:
        with suppress(IntegrityError, NotFound, PolicyRefused):  # nothing depends on another pack
            located = locate(context.target, listed.uri)
            if located is not None and located.image == listed.image:
                admitted = admit(context, located)
                if admitted.admission is None or not admitted.admission.is_sure:
                    continue
                table = open_table(context.target, admitted)
                _require_true(context.target, located, table)
                bases.append(Base(located.descriptor, located.manifest, table))
                break
    return bases


def _require_true(target: Target, located: Located, table: Table) -> None:
    """Fetch some chunks, at random, and check that they are what table says. Raises: IntegrityError, NotFound."""

    def check(number: int) -> None:
        record = table[number]
        layer = located.layers[record.layer]
        data = target.fetch_range(layer, record.offset, record.chunk_size)
        if data is None:
            raise NotFound("no ranges of layers are served", where=target.name)
        if len(data) > record.chunk_size:  # the whole layer
            data = data[record.offset : record.stop]
        read_chunk(data, record, where=f"{located.where}, layer {record.layer}")

    numbers = SystemRandom().sample(range(len(table)), min(_SAMPLE, len(table)))
    at_once(*(partial(check, number) for number in sorted(numbers)))


def survey(folder: str, manifest: PackManifest, bases: Sequence[Base], progress: Progress = silent) -> Survey | None:
    """Read the pack in folder once; return its pieces and the base that has most of them, or None if none has many."""
    if not bases:
        return None
    average = average_like(bases[0].table, average_of(manifest))
    indexes = [PieceIndex(base.table) for base in bases]
    found = [array("i") for _ in bases]
    digests, sizes, have = bytearray(), array("I"), [0] * len(bases)
    last = [-1] * len(bases)
    seen, share = 0, Share(progress, stream_size(manifest))
    listings = sum(listing.size for listing in manifest.listings)  # of the same inputs they are the same anyway
    with closing(pack(folder, average)) as pieces:
        for piece in islice(pieces, 1, None):
            sha256 = hashlib.sha256(piece).digest()
            digests += sha256
            sizes.append(len(piece))
            seen += len(piece)
            share.report("compare", len(piece))
            for number, index in enumerate(indexes):
                record = index.find(sha256, last[number])
                found[number].append(record)
                if record >= 0:
                    have[number] += len(piece) if seen > listings else 0
                    last[number] = record
            if seen - listings > _UNRELATED and max(have) <= _TRIFLE:
                share.finish("compare")
                return None
    share.finish("compare")
    best = max(range(len(bases)), key=have.__getitem__)
    return Survey(bases[best], bytes(digests), sizes, found[best]) if have[best] > _TRIFLE else None
