"""Open the target at a location."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ctxpack_oci.layout import Layout
from ctxpack_oci.location import LayoutLocation, Location
from ctxpack_oci.target import Target

__all__ = ["open_target"]


def open_target(location: Location, *, environ: Mapping[str, str] = os.environ) -> Target:
    """Return the target at location; nothing is read, sent or created before it is used.

    environ: for credentials, proxies and certificate authorities.
    Raises: InvalidInput, when what environ names is malformed.
    """
    if isinstance(location, LayoutLocation):
        return Layout(location.folder)
    from ctxpack_oci.registry import open_registry  # to load requests takes longer than many a command takes to run

    return open_registry(location, environ)
