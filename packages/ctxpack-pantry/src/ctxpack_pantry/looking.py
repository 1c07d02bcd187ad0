"""Looking: a pack is found only to be looked at, admitted or not; what is looked at is neither placed nor cached."""

from __future__ import annotations

from ctxpack_identity.errors import IntegrityError, NotFound, PolicyRefused
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.admission import admit_cached
from ctxpack_pantry.outlet import damage_of, require_intact

if TYPE_CHECKING:
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.lookup import Examined

__all__ = ["find_to_look", "look_at"]


def look_at(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> tuple[str | None, Examined | None]:
    """Return the folder of the cached pack, or else the pack that the registry has. That it is not admitted is said.

    skip_cache: ask the registry even if the cache has the pack.
    Raises: NotFound when neither has it; IntegrityError, AccessDenied, Unavailable, LocalFailure.
    """
    folder = None if skip_cache else context.cache.find(uri_digest(uri))
    if folder is None:
        examined = _in_registry(context, uri)
        from ctxpack_pantry.deciding import refusal  # HTTP is loaded only when the registry is asked

        refusing = refusal(context, uri, examined.image)
        if refusing is not None:
            _say(context, refusing)
        return None, examined
    try:
        admit_cached(context, uri, folder)
    except PolicyRefused as refused:
        _say(context, refused)
    context.cache.note_use(uri_digest(uri))
    return folder, None


def find_to_look(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> tuple[str | None, Examined | None]:
    """Return what look_at does, without asking whether it is admitted. A damaged cached pack is set aside, and said.

    Parameters, Raises: as look_at; the damage of the cached pack, when the registry has none.
    """
    folder = None if skip_cache else context.cache.find(uri_digest(uri))
    damage: IntegrityError | None = None
    if folder is not None:
        damage = damage_of(context, uri, folder, require_intact)
        if damage is None:
            context.cache.note_use(uri_digest(uri))
            return folder, None
    try:
        return None, _in_registry(context, uri)
    except NotFound as error:
        raise (damage or error) from error


def _in_registry(context: Context, uri: CtxUri) -> Examined:
    from ctxpack_pantry.lookup import examine, require_located  # as above

    return examine(require_located(context, uri))


def _say(context: Context, refused: PolicyRefused) -> None:
    context.notice(f"only looked at, since the policy does not admit it: {refused}")
