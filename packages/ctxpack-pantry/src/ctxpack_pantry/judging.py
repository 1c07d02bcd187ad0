"""Judge: what the user's policy says of a pack, to look at: nothing is admitted, remembered or refused here."""

from __future__ import annotations

from ctxpack_identity import CtxUri, uri_digest
from ctxpack_pantry.context import Context
from ctxpack_pantry.deciding import Deciding, Judgement
from ctxpack_pantry.lookup import examine, open_pack, require_located

__all__ = ["Judgement", "judge"]


def judge(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> Judgement:
    """Return what the policy says of the cached pack, else of the registry's, with all claims that there are.

    skip_cache: ask the registry even if the cache has the pack. Of a pack there the first layer is fetched, since it
    decides, too.
    Raises: NotFound when neither has it; IntegrityError, AccessDenied, Unavailable, InvalidInput, LocalFailure.
    """
    folder = None if skip_cache else context.cache.find(uri_digest(uri))
    if folder is not None:
        return Deciding(context).cached(uri, folder)
    located, manifest, _ = open_pack(context.target, examine(require_located(context, uri)))
    return Deciding(context).examined(uri, located.image, manifest)
