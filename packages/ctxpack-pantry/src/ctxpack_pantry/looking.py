"""Looking: what is only looked at need not be admitted. That it is not, is said."""

from __future__ import annotations

from ctxpack_identity.errors import PolicyRefused
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_pantry.admission import admit_cached

if TYPE_CHECKING:
    from ctxpack_identity import CtxUri, Digest
    from ctxpack_pantry.context import Context

__all__ = ["say_unless_admitted"]


def say_unless_admitted(context: Context, uri: CtxUri, *, folder: str | None, image: Digest | None) -> None:
    """Give a notice if the policy does not admit a pack: the cached one in folder, or the registry's under image.

    Raises: as admission.admit_cached and deciding.refusal do, but not PolicyRefused.
    """
    refused = None
    if folder is not None:
        try:
            admit_cached(context, uri, folder)
        except PolicyRefused as error:
            refused = error
    elif image is not None:
        from ctxpack_pantry.deciding import refusal  # HTTP is loaded only when the registry is asked

        refused = refusal(context, uri, image)
    if refused is not None:
        context.notice(f"only looked at, since the policy does not admit it: {refused}")
