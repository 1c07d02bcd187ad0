"""Open the target at a location."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ctxpack_oci.layout import Layout
from ctxpack_oci.location import LayoutLocation, Location
from ctxpack_oci.target import Target

__all__ = ["open_target"]


def open_target(location: Location, *, environ: Mapping[str, str] | None = None, named_by: str = "") -> Target:
    """Return the target at location; nothing is read, sent or created before it is used.

    environ: for credentials, proxies and certificate authorities; os.environ if None. named_by: a file that names
    location and that somebody else may have written, "" when the user named it. CTXPACK_USERNAME and CTXPACK_PASSWORD
    are for the registry that the user named, so they are not used then. Those of `docker login` belong to a host. None
    are sent over plain HTTP, except to this machine.
    Raises: InvalidInput, when what environ names is malformed.
    """
    if isinstance(location, LayoutLocation):
        return Layout(location.folder)
    from ctxpack_oci.registry import open_registry  # to load requests takes longer than many a command takes to run

    return open_registry(location, os.environ if environ is None else environ, named_by=named_by)
