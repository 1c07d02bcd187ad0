"""Pick: some of a pack's outputs become ordinary files, and only the chunks that hold them are fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from ctxpack_bundle import PackManifest, Selection, copy_out, read_entries
from ctxpack_identity import CtxUri, Digest, InvalidInput
from ctxpack_pantry.context import Context
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import Held, Holdings
from ctxpack_pantry.include import included
from ctxpack_pantry.outlet import Outlet, manifest_of
from ctxpack_pantry.partial import PartialPack
from ctxpack_pantry.place import hold, into_folder, place_made
from ctxpack_pantry.results import Pulled

__all__ = ["pick"]

_SHOWN = 3  # paths


def pick(
    context: Context,
    uri: CtxUri,
    patterns: Sequence[str],
    output: str,
    *,
    force: bool,
    look: Callable[[Digest], None] | None = None,
) -> Pulled:
    """Put the outputs that patterns select into the folder output, as ordinary copies. The cache gets nothing.

    Unless the cache has the pack, only the chunks that hold these outputs are fetched, and of them only those that no
    cached pack holds. Every file is checked before any is visible. look: called with the digest of all outputs of the
    pack before anything is placed; what it raises passes through.
    Raises: NotFound when there is no such pack; InvalidInput when nothing in it matches, or when something else is at
    output; IntegrityError, PolicyRefused, AccessDenied, Unavailable, LocalFailure, and then nothing has changed.
    """
    placing = into_folder(output)
    outlet = Outlet(context, uri)

    def manifest_seen(manifest: PackManifest) -> PackManifest:
        if look is not None:
            look(manifest.outputs_digest)
        return manifest

    def put(selection: Selection, make: Callable[[str], None]) -> Selection:
        with hold(context, [output]):
            place_made(context, uri, placing, selection, make, force=force)
        return selection

    def copy(folder: str) -> Selection:
        selection = _select(folder, manifest_seen(manifest_of(uri, folder)), patterns, folder)
        total = selection.outputs.size

        def make(fresh: str) -> None:
            copy_out(folder, selection.entries(), fresh, progress=context.progress, total=total)

        return put(selection, make)

    selection, received, registry = outlet.cached(copy), 0, None
    if selection is None:
        download = Download(context, outlet.located())
        manifest_seen(download.opened.manifest)

        def attempt(held: Held) -> Selection:
            with PartialPack(context.cache, download, held) as pack:
                selection = _select(pack.folder, download.opened.manifest, patterns, download.where)
                return put(selection, lambda fresh: pack.extract(selection, fresh))

        selection = Holdings(context.cache).lend(download.table, attempt)
        received, registry = download.received, context.target.name
    return Pulled(uri, output, received, selection.outputs.files, selection.outputs.size, registry)


def _select(folder: str, manifest: PackManifest, patterns: Sequence[str], where: str) -> Selection:
    selection = Selection(folder, manifest, included(patterns), where=where)
    if not selection.outputs.files and not selection.outputs.empty_folders:
        paths = [entry.path for entry in islice(read_entries(folder), _SHOWN + 1)]
        raise InvalidInput(
            "nothing in the pack matches",
            where=", ".join(patterns),
            got=f"a pack of {', '.join(paths[:_SHOWN])}{', …' * (len(paths) > _SHOWN)}" if paths else "an empty pack",
            fix="name what it holds, as in .gitignore",
            code="E_NO_MATCH",
        )
    return selection
