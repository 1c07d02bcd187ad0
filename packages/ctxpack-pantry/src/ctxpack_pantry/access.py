"""The registry that settings name, opened with the credentials that are meant for it.

The credentials of the environment name no host: they are for the registry that the user named. A folder's ctxpack.toml
may be somebody else's, as in a clone or in a pack, and would get the password of whoever works there.
"""

from __future__ import annotations

from collections.abc import Mapping

from ctxpack_identity import InvalidInput
from ctxpack_oci import Target, open_target, parse_location
from ctxpack_oci.location import Location, RegistryLocation
from ctxpack_pantry.context import Notice
from ctxpack_pantry.settings import Settings

__all__ = ["is_in_clear", "open_registry"]


def open_registry(settings: Settings, environ: Mapping[str, str], notice: Notice) -> Target:
    """Return the registry that settings name. environ: for credentials and proxies.

    notice: told the registry when a folder's ctxpack.toml names it. CTXPACK_USERNAME and CTXPACK_PASSWORD are used for
    it only if the user's own settings file names the same server.
    Raises: InvalidInput when the setting is not a registry's name, and when what environ names is malformed.
    """
    location, named_by = parse_location(settings.registry.value), ""
    if settings.registry.from_folder:
        how = "http://" if is_in_clear(settings.registry.value) else ""
        notice(f"registry {how}{location}, which {settings.registry.origin} names")
        if not _same_server(location, settings.users_registry):
            named_by = settings.registry.origin
    return open_target(location, environ=environ, named_by=named_by)


def is_in_clear(registry: str) -> bool:
    """Return whether others can read and change what goes to and from a registry: over plain HTTP, not on this machine.

    registry: its name, as it was set; of what is none: False.

    >>> is_in_clear("http://reg.example.test/a"), is_in_clear("reg.example.test/a"), is_in_clear("http://localhost/a")
    (True, False, False)
    """
    try:
        location = parse_location(registry)
    except InvalidInput:
        return False
    return isinstance(location, RegistryLocation) and not location.origin.is_confidential


def _same_server(location: Location, users: str) -> bool:
    """Whether the text users names the same scheme, host and port: a password meant for https is not sent by http."""
    try:
        other = parse_location(users)
    except InvalidInput:
        return False
    if not isinstance(location, RegistryLocation) or not isinstance(other, RegistryLocation):
        return False
    return location.origin == other.origin
