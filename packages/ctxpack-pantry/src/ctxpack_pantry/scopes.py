"""Scopes of a policy, as users write them: a registry, or the beginning of repositories on it, or a folder."""

from __future__ import annotations

import os

from ctxpack_identity import InvalidInput
from ctxpack_oci import parse_location
from ctxpack_oci.location import LayoutLocation
from ctxpack_trust import canonical_repository

__all__ = ["canonical_scope"]

_BELOW = "/a/a"  # a repository below any prefix: Docker Hub wants two parts


def canonical_scope(text: str) -> str:
    """Return the name under which a policy has the scope that text names: a prefix of repositories' names.

    ``ghcr.io/team`` is about ghcr.io/team and all below it, ``ghcr.io`` about all that is there. ``http://`` and
    ``https://`` are left out. A layout is ``oci:`` and its resolved folder.
    Raises: InvalidInput for what is no such prefix.
    """
    try:
        if text[:4].lower() == "oci:":
            location = parse_location(text)
            assert isinstance(location, LayoutLocation), "parse_location looks at the same four characters"
            return canonical_repository(f"oci:{os.path.realpath(location.folder)}")
        location = parse_location(f"{text.removesuffix('/')}{_BELOW}")
        return canonical_repository(str(location)).removesuffix(_BELOW)
    except InvalidInput as error:
        raise InvalidInput(
            f"not a scope: {error.what}".replace(_BELOW, ""),
            where=repr(text)[:160],
            expected="a registry, or the beginning of repositories on one, or a folder",
            fix="write ghcr.io, ghcr.io/team, 127.0.0.1:5000/packs or oci:/srv/packs",
            code="E_SCOPE",
        ) from error
