"""Adopting: a cached pack gives way to the one that the registry has of the same contract, and its outputs do too."""

from __future__ import annotations

from collections.abc import Mapping

from ctxpack_bundle import OutputTree
from ctxpack_identity import CtxUri
from ctxpack_pantry.clearing import finish_killed
from ctxpack_pantry.context import Context
from ctxpack_pantry.fetch import fetch
from ctxpack_pantry.place import hold
from ctxpack_pantry.replacing import Site
from ctxpack_pantry.runnotes import RunNote, RunNotes
from ctxpack_pantry.standing import Standing

__all__ = ["adopt"]


def adopt(context: Context, uri: CtxUri, outputs: Mapping[str, OutputTree], *, force: bool) -> None:
    """Fetch the pack of uri into the cache, in place of the one there; mark what lies at the outputs as replaceable.

    outputs: where they lie, by name. What is there is marked only if it can be made again now, while the cache still
    holds it, or if force is set; a change afterwards undoes the mark.
    Raises: InvalidInput when something else is there; as fetch does. The cached pack stays then.
    """
    with hold(context, [tree.location for tree in outputs.values()]):
        sites = {name: Site(tree.location) for name, tree in outputs.items()}
        finish_killed(context, sites.values())
        standing = Standing(context, sites, {name: tree.follow for name, tree in outputs.items()})
        standing.require_held(force=force)
        for name, site in sites.items():
            if not site.is_empty:
                note = RunNote(uri, ours=True, left=standing.seen[name], made=True)
                RunNotes(context.cache).write(site.real, note)
        fetch(context, uri, replace=True)
