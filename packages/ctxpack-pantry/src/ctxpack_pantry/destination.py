"""Destination: where the outputs of one contract go, from a cached pack, from a fetched one, or from one just made."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ctxpack_identity.errors import PolicyRefused
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.misses import cached_if_admitted, fetched_if_there, not_within
from ctxpack_pantry.outlet import Outlet, manifest_of
from ctxpack_pantry.place import each_to, hold, place
from ctxpack_pantry.policy import DENIED, DENIED_URI

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ctxpack_bundle import OutputTree
    from ctxpack_cache.pathlock import PathLocks
    from ctxpack_identity import CtxUri
    from ctxpack_pantry.context import Context

__all__ = ["Destination"]


class Destination:
    """The places of the declared outputs of uri, and the packs that may fill them.

    outputs: where they lie, by name. force: replace what is there, also if it cannot be made again. outlet: what packs
    come through. What fills a place raises as place.place and Outlet do.
    """

    def __init__(self, context: Context, uri: CtxUri, outputs: Mapping[str, OutputTree], *, force: bool) -> None:
        self._context, self._uri, self._outputs, self._force = context, uri, outputs, force
        self._places = [tree.location for tree in outputs.values()]
        self.outlet = Outlet(context, uri)

    def reserved(self) -> AbstractContextManager[None]:
        """Return a context in which this thread makes the outputs. Raises: InvalidInput when it does so already."""
        return not_within(self._uri, *map(os.path.realpath, self._places))

    def held(self) -> PathLocks:
        """Return a context in which no other process of this user places or runs there."""
        return hold(self._context, self._places)

    def from_cache(self) -> bool:
        """Fill the places from the cached pack; return whether there is one, and it is admitted."""
        return bool(cached_if_admitted(self.outlet, self._fill))

    def from_anywhere(self) -> bool:
        """Fill the places from the cached pack, else, unless offline, from the registry's; return whether there is one.

        Raises: AccessDenied, Unavailable when the registry's answer is not known.
        """
        return self.from_cache() or bool(fetched_if_there(self.outlet, self._fill))

    def fill(self) -> None:
        """Fill the places from the pack, which there is. Raises: NotFound when there is none after all."""
        self.outlet.take(self._fill)

    def require_not_denied(self) -> None:
        """Raise PolicyRefused when what was just made is denied, which beats that it is one's own."""
        try:
            find_cached(self._context, self._uri)
        except PolicyRefused as refused:
            if refused.code in (DENIED, DENIED_URI):
                self._context.notice(
                    f"what was just made is denied, and lies in {', '.join(self._places)}: do not use it"
                )
                raise

    def adopt(self) -> None:
        """Let the registry's pack take the place of the cached one, and fill the places from it."""
        from ctxpack_pantry.adopting import adopt  # a race of two results is rare

        adopt(self._context, self._uri, self._outputs, force=self._force)
        self.fill()

    def _fill(self, folder: str) -> bool:
        manifest = manifest_of(self._uri, folder)
        with self.held():
            place(self._context, folder, manifest, each_to(manifest, self._outputs), force=self._force)
        return True
