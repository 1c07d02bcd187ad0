"""The image of a pack in a registry, taken apart, and put together again with changes, all digests right."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from pantry_target import FaultyTarget

from ctxpack_bundle import (
    FIRST_DATA_LAYER,
    Outputs,
    PackManifest,
    Record,
    Root,
    Table,
    encode_table,
    inflate_chunk,
    inflate_first,
    make_chunk,
    parse_table,
)
from ctxpack_identity import CtxUri, Digest
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    Descriptor,
    ImageManifest,
    describe,
    encode_image_manifest,
    parse_image_manifest,
)
from ctxpack_pantry.artifact import describe_layer, describe_table, tag_of


class Image:
    """The image that the tag of uri names. Asking it is no call of target.

    descriptor: of the image manifest; layers: descriptors; table: its records are numbered from 0, for the pieces after
    the first.
    """

    def __init__(self, target: FaultyTarget, uri: CtxUri) -> None:
        tagged = target.layout.fetch_tag(tag_of(uri))
        assert tagged is not None
        self.target, self.uri, self.descriptor = target, uri, tagged.descriptor
        self.manifest = parse_image_manifest(tagged.data, tagged.descriptor)
        self.layers = self.manifest.layers

    @cached_property
    def table(self) -> Table:
        return parse_table(self.layer(1), self.sizes, where="test")

    @property
    def sizes(self) -> list[int]:
        """Bytes of each layer."""
        return [layer.size for layer in self.layers]

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(self.sizes)

    def layer(self, number: int) -> bytes:
        return self.target.layout.fetch(self.layers[number])

    def first_piece(self) -> bytes:
        return inflate_first(self.layer(0), where="test")

    def chunk(self, number: int) -> bytes:
        """Return the chunk of a record."""
        record = self.table[number]
        return self.target.layout.fetch_range(self.layers[record.layer], record.offset, record.chunk_size)

    def piece(self, number: int) -> bytes:
        """Return the piece of a record."""
        return inflate_chunk(self.chunk(number), self.table[number].size, where="test")

    def pieces(self) -> list[bytes]:
        """Return all pieces but the first, in stream order."""
        return [self.piece(number) for number in range(len(self.table))]

    def holding(self, start: int, stop: int) -> list[int]:
        """Return the numbers of the records whose pieces have bytes of this range of the tar stream."""
        ends = [*accumulate((record.size for record in self.table), initial=len(self.first_piece()))]
        return [number for number, end in enumerate(ends[1:]) if end > start and ends[number] < stop]

    def find(self, content: bytes) -> int:
        """Return the number of the first record whose piece contains content."""
        return next(number for number in range(len(self.table)) if content in self.piece(number))

    def cost(self, numbers: Iterable[int]) -> int:
        """Return the bytes that are fetched for these records, without gaps: the whole layer for more than half."""
        chunks = {self.table[number] for number in numbers}
        wanted = Counter[int]()
        for record in chunks:
            wanted[record.layer] += record.chunk_size
        sizes = self.sizes
        return sum(sizes[layer] if size > sizes[layer] // 2 else size for layer, size in wanted.items())

    @property
    def head(self) -> int:
        """Bytes of the first layer and the table."""
        return sum(self.sizes[:2])

    def data_layers(self) -> range:
        """Return the numbers of the layers of chunks."""
        return range(FIRST_DATA_LAYER, len(self.layers))


class Laid(NamedTuple):
    """What republish takes: layers of chunks, from layer 2 on, and the records of the table."""

    layers: list[bytes]
    records: list[Record]


def bare_pack(contract: Mapping[str, Any] = {}, provenance: Mapping[str, Any] = {}, *names: str) -> PackManifest:
    """Return a pack manifest that says just this of its contract and provenance. names: of its outputs, files."""
    outputs = Outputs(
        digest=Digest("sha256:" + "0" * 64),
        empty_folders=0,
        files=0,
        roots=tuple(Root(name=name, type="file") for name in names),
        size=0,
    )
    return PackManifest(
        contract=dict(contract),
        listings=(),
        outputs=outputs,
        provenance=dict(provenance),
        schema="ctxpack/pack/v1",
        uri=CtxUri("ctx://sha256:" + "0" * 64),
    )


def image_of(target: FaultyTarget, uri: CtxUri) -> Image:
    return Image(target, uri)


def table_of(target: FaultyTarget, uri: CtxUri) -> Table:
    return Image(target, uri).table


def laid_of(image: Image) -> Laid:
    """Return the layers and records of image as they are."""
    return Laid([image.layer(number) for number in image.data_layers()], list(image.table))


def lay_out(layers: Sequence[Sequence[bytes]], order: Iterable[tuple[int, int]] | None = None) -> Laid:
    """Return layers with these pieces, one chunk for each.

    order: the pieces in stream order, as pairs (layer, number in it), from 0; by default as they lie.
    """
    contents: list[bytes] = []
    placed: dict[tuple[int, int], Record] = {}
    for layer, pieces in enumerate(layers):
        content = b""
        for number, piece in enumerate(pieces):
            chunk = make_chunk(piece)
            placed[layer, number] = record_of(piece, chunk, FIRST_DATA_LAYER + layer, len(content))
            content += chunk
        contents.append(content)
    return Laid(contents, [placed[place] for place in (placed if order is None else order)])


def record_of(piece: bytes, chunk: bytes, layer: int, offset: int) -> Record:
    return Record(hashlib.sha256(piece).digest(), len(piece), len(chunk), layer, offset)


def with_pieces(image: Image, changed: Mapping[int, bytes]) -> Laid:
    """Return the layers and records of image with other pieces for these records; all else is consistent."""
    chunks = [make_chunk(changed[n]) if n in changed else image.chunk(n) for n in range(len(image.table))]
    layers: list[bytes] = [b"" for _ in image.data_layers()]
    records: list[Record] = []
    for number, record in enumerate(image.table):
        piece = changed.get(number, image.piece(number))
        place = record.layer - FIRST_DATA_LAYER
        records.append(record_of(piece, chunks[number], record.layer, len(layers[place])))
        layers[place] += chunks[number]
    return Laid(layers, records)


def republish(
    target: FaultyTarget,
    uri: CtxUri,
    layers: Sequence[bytes | Descriptor],
    table: bytes | Iterable[Record],
    *,
    first: bytes | None = None,
) -> Image:
    """Let the tag of uri name an image of these layers of chunks and this table, as anybody who can push may do.

    layers: from layer 2 on; a descriptor is named as it is. first: layer 0, by default the one that is there.
    """
    before = image_of(target, uri)
    data = table if isinstance(table, bytes) else encode_table(table)
    head = before.layers[0] if first is None else _pushed(target, first)
    others = [layer if isinstance(layer, Descriptor) else _pushed(target, layer) for layer in layers]
    described = describe_table(data)
    if not target.layout.exists(described):
        target.layout.push(described, data)
    return relabel(target, uri, [head, described, *others])


def relabel(target: FaultyTarget, uri: CtxUri, layers: Sequence[Descriptor]) -> Image:
    """Let the tag of uri name an image of exactly these layers, which need not be there."""
    manifest = image_of(target, uri).manifest
    data = encode_image_manifest(
        ImageManifest(artifact_type=manifest.artifact_type, config=manifest.config, layers=tuple(layers))
    )
    descriptor = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    target.blob(descriptor.digest).write_bytes(data)  # not push, which wants all layers
    target.layout.tag(descriptor, tag_of(uri))
    return image_of(target, uri)


def _pushed(target: FaultyTarget, content: bytes) -> Descriptor:
    data = describe(content, "application/octet-stream")
    descriptor = describe_layer(data.digest, data.size)
    if not target.layout.exists(descriptor):
        target.layout.push(descriptor, content)
    return descriptor
