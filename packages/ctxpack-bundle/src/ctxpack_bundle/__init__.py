"""The pack format: a deterministic ``.tar.gz`` of independent, content-defined chunks. FORMAT.md is normative."""

from __future__ import annotations

from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_bundle.assembly import InputListings, assemble, outputs_digest
    from ctxpack_bundle.chunk import MAX_CHUNK_BYTES, Chunk, inflate_chunk, make_chunk
    from ctxpack_bundle.excerpt import Excerpt, Span, Spans
    from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, read_entries, read_pack_manifest
    from ctxpack_bundle.packing import pack, stream_size
    from ctxpack_bundle.packmanifest import (
        Listing,
        Outputs,
        PackManifest,
        Root,
        encode_pack_manifest,
        parse_pack_manifest,
    )
    from ctxpack_bundle.selection import Selection, content_span, listing_excerpt
    from ctxpack_bundle.stream import PackStream
    from ctxpack_bundle.unpacking import pack_manifest_of, unpack, unpack_entries, unpack_listing
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "assembly": "InputListings assemble outputs_digest",
            "chunk": "Chunk MAX_CHUNK_BYTES inflate_chunk make_chunk",
            "excerpt": "Excerpt Span Spans",
            "folder": "ARTIFACTS MANIFEST read_entries read_pack_manifest",
            "packing": "pack stream_size",
            "packmanifest": "Listing Outputs PackManifest Root encode_pack_manifest parse_pack_manifest",
            "selection": "Selection content_span listing_excerpt",
            "stream": "PackStream",
            "unpacking": "pack_manifest_of unpack unpack_entries unpack_listing",
        },
    )

__all__ = [
    "ARTIFACTS",
    "MANIFEST",
    "MAX_CHUNK_BYTES",
    "Chunk",
    "Excerpt",
    "InputListings",
    "Listing",
    "Outputs",
    "PackManifest",
    "PackStream",
    "Root",
    "Selection",
    "Span",
    "Spans",
    "assemble",
    "content_span",
    "encode_pack_manifest",
    "inflate_chunk",
    "listing_excerpt",
    "make_chunk",
    "outputs_digest",
    "pack",
    "pack_manifest_of",
    "parse_pack_manifest",
    "read_entries",
    "read_pack_manifest",
    "stream_size",
    "unpack",
    "unpack_entries",
    "unpack_listing",
]
