"""Export: a pack as one ordinary ``.tar.gz``, for tools that know nothing of packs."""

from __future__ import annotations

import os
from contextlib import closing

from ctxpack_bundle import make_chunk, pack, read_pack_manifest, stream_size
from ctxpack_identity import CtxUri, InvalidInput
from ctxpack_pantry.context import Context
from ctxpack_pantry.outlet import Outlet
from ctxpack_pantry.replacing import replace_whole
from ctxpack_pantry.results import Exported
from ctxpack_pantry.share import Share
from ctxpack_pantry.squeezing import squeezed

__all__ = ["export"]


def export(context: Context, uri: CtxUri, tar: str, *, force: bool = False) -> Exported:
    """Write the pack's chunks, in the order of its stream, to the file tar. The pack is fetched first if need be.

    force: replace what is there. Raises: NotFound, IntegrityError, PolicyRefused, AccessDenied, Unavailable,
    LocalFailure; InvalidInput when something is there.
    """
    if not tar:
        raise InvalidInput("no file is named", where="export", fix="name the .tar.gz with --tar", code="E_USAGE")
    if os.path.isdir(tar) or (os.path.lexists(tar) and not force):
        raise InvalidInput(
            "something else is there already",
            where=tar,
            expected="nothing, or a file and --force",
            fix="choose another name, or replace a file with --force",
            code="E_OCCUPIED",
        )
    outlet = Outlet(context, uri)

    def write(folder: str) -> int:
        replace_whole(tar, lambda fresh: _write(context, folder, fresh))
        return os.path.getsize(tar)

    size = outlet.take(write)
    return Exported(uri, tar, size, outlet.received)


def _write(context: Context, folder: str, path: str) -> None:
    share = Share(context.progress, stream_size(read_pack_manifest(folder)))
    with open(path, "xb") as file, closing(pack(folder)) as pieces:
        file.write(make_chunk(next(pieces)))
        with closing(squeezed(pieces)) as chunks:
            for size, _, chunk in chunks:
                file.write(chunk)
                share.report("export", size)
        file.flush()
        os.fsync(file.fileno())
    share.finish("export")
