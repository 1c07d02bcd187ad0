"""The pack format: a deterministic ``.tar.gz`` of independent, content-defined chunks. FORMAT.md is normative."""

from __future__ import annotations

from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_bundle.assembly import RootListings, assemble
    from ctxpack_bundle.chunk import Piece, both_chunks, inflate_chunk, inflate_first, make_chunk, make_chunks, runs
    from ctxpack_bundle.copyout import copy_out
    from ctxpack_bundle.excerpt import Excerpt, Span, Spans
    from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, read_entries, read_pack_manifest
    from ctxpack_bundle.layering import Borrowed, Layering, Own, plan_borrowing, usage
    from ctxpack_bundle.listing import listing_line
    from ctxpack_bundle.members import manifest_part
    from ctxpack_bundle.outputs import root_digest
    from ctxpack_bundle.outputtree import OutputTree, outputs_digest, scan_branch
    from ctxpack_bundle.packing import average_like, average_of, pack, stream_size
    from ctxpack_bundle.packmanifest import (
        Listing,
        Outputs,
        PackManifest,
        Root,
        encode_pack_manifest,
        parse_pack_manifest,
    )
    from ctxpack_bundle.pieceindex import PieceIndex
    from ctxpack_bundle.selection import Selection, content_span, listing_excerpt
    from ctxpack_bundle.stream import PackStream
    from ctxpack_bundle.table import (
        FIRST_DATA_LAYER,
        MAX_LAYERS,
        Record,
        Table,
        TableDraft,
        encode_table,
        parse_table,
        read_chunk,
    )
    from ctxpack_bundle.unpacking import pack_manifest_of, unpack, unpack_entries, unpack_listing
    from ctxpack_bundle.verifying import folder_size, verify_listing, verify_pack
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "assembly": "RootListings assemble",
            "chunk": "Piece both_chunks inflate_chunk inflate_first make_chunk make_chunks runs",
            "copyout": "copy_out",
            "excerpt": "Excerpt Span Spans",
            "folder": "ARTIFACTS MANIFEST read_entries read_pack_manifest",
            "layering": "Borrowed Layering Own plan_borrowing usage",
            "listing": "listing_line",
            "members": "manifest_part",
            "outputs": "root_digest",
            "outputtree": "OutputTree outputs_digest scan_branch",
            "packing": "average_like average_of pack stream_size",
            "packmanifest": "Listing Outputs PackManifest Root encode_pack_manifest parse_pack_manifest",
            "pieceindex": "PieceIndex",
            "selection": "Selection content_span listing_excerpt",
            "stream": "PackStream",
            "table": "FIRST_DATA_LAYER MAX_LAYERS Record Table TableDraft encode_table parse_table read_chunk",
            "unpacking": "pack_manifest_of unpack unpack_entries unpack_listing",
            "verifying": "folder_size verify_listing verify_pack",
        },
    )

__all__ = [
    "ARTIFACTS",
    "FIRST_DATA_LAYER",
    "MANIFEST",
    "MAX_LAYERS",
    "Borrowed",
    "Excerpt",
    "Layering",
    "Listing",
    "OutputTree",
    "Outputs",
    "Own",
    "PackManifest",
    "PackStream",
    "Piece",
    "PieceIndex",
    "Record",
    "Root",
    "RootListings",
    "Selection",
    "Span",
    "Spans",
    "Table",
    "TableDraft",
    "assemble",
    "average_like",
    "average_of",
    "both_chunks",
    "content_span",
    "copy_out",
    "encode_pack_manifest",
    "encode_table",
    "folder_size",
    "inflate_chunk",
    "inflate_first",
    "listing_excerpt",
    "listing_line",
    "make_chunk",
    "make_chunks",
    "manifest_part",
    "outputs_digest",
    "pack",
    "pack_manifest_of",
    "parse_pack_manifest",
    "parse_table",
    "plan_borrowing",
    "read_chunk",
    "read_entries",
    "read_pack_manifest",
    "root_digest",
    "runs",
    "scan_branch",
    "stream_size",
    "unpack",
    "unpack_entries",
    "unpack_listing",
    "usage",
    "verify_listing",
    "verify_pack",
]
