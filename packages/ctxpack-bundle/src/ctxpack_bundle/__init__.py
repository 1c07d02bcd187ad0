"""The pack format: a deterministic ``.tar.gz`` of independent, content-defined chunks. FORMAT.md is normative."""

from ctxpack_bundle.assemble import InputListings, assemble, outputs_digest
from ctxpack_bundle.chunk import MAX_CHUNK_BYTES, Chunk, inflate_chunk, make_chunk
from ctxpack_bundle.excerpt import Excerpt
from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, read_entries, read_manifest
from ctxpack_bundle.manifest import Listing, Outputs, PackManifest, Root, encode_manifest, parse_manifest
from ctxpack_bundle.pack import pack, stream_size
from ctxpack_bundle.selection import Selection, listing_excerpt
from ctxpack_bundle.stream import PackStream
from ctxpack_bundle.unpack import manifest_of, unpack, unpack_entries, unpack_listing

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
    "assemble",
    "encode_manifest",
    "inflate_chunk",
    "listing_excerpt",
    "make_chunk",
    "manifest_of",
    "outputs_digest",
    "pack",
    "parse_manifest",
    "read_entries",
    "read_manifest",
    "stream_size",
    "unpack",
    "unpack_entries",
    "unpack_listing",
]
