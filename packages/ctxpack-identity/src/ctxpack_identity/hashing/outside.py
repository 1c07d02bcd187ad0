"""Outputs may not lie in what is hashed, or the first run would change the name. SPEC.md, section 8."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.hashing.scan import Folder

__all__ = ["HashedPlace", "OutputLocations", "is_hashed"]


class HashedPlace:
    """A file or folder on disk that is hashed. what: for the message; excludes: of its patterns.

    files_only: folders without a file are not there. real: the location with links resolved.
    """

    def __init__(self, what: str, location: str, excludes: Excludes | None, *, files_only: bool = False) -> None:
        self.what, self.location, self.excludes, self.files_only = what, location, excludes, files_only
        self.real = os.path.realpath(location)

    def holds(self, real: str) -> bool:
        """Return whether what lies there, links resolved, is at or below this place, and no pattern leaves it out."""
        return _is_at_or_below(real, self.real) and not self.leaves_out("", self.real, real)

    def leaves_out(self, path: str, folder: str, real: str) -> bool:
        """Return whether patterns leave out what lies there, at or below a folder that they do not leave out.

        path: of the folder, relative to this place, with a final ``/``; "" for this place. folder, real: on disk, links
        resolved. Where nothing lies yet, a pattern for files or folders does.
        """
        if self.excludes is None or real == folder:
            return False
        start = len(os.path.join(folder, ""))
        rest = real[start:]
        for end in (index for index, char in enumerate(rest) if char == "/"):
            if self.excludes(path + rest[:end], True):
                return True
            if not self.files_only and not os.path.lexists(real[: start + end]):
                return False  # this folder would be new
        if os.path.lexists(real):
            return self.excludes(path + rest, os.path.isdir(real))
        return self.excludes(path + rest, True) or self.excludes(path + rest, False)


class OutputLocations:
    """Where outputs lie. outputs: names and paths; a name may be there more than once."""

    def __init__(self, outputs: Iterable[tuple[str, str]]) -> None:
        self._outputs = [(name, path, _locations(path)) for name, path in outputs]

    def require_outside(self, place: HashedPlace) -> None:
        """Raise InvalidInput for an output at or below place, unless patterns leave it out."""
        for name, path, locations in self._outputs:
            if any(map(place.holds, locations)):
                raise _inside(name, path, place)

    def require_not_linked(self, place: HashedPlace, folder: Folder) -> None:
        """Raise InvalidInput for an output that is reached through this folder of place, whose links are followed.

        Of the root only the files are judged: the rest is for require_outside, and the folder of a place that is a file
        is no part of it.
        """
        real = os.path.realpath(folder.location) if folder.path else ""
        for name, path, locations in self._outputs:
            for location in locations:
                below = bool(folder.path) and _is_at_or_below(location, real)
                if (below and not place.leaves_out(folder.path, real, location)) or _is_linked_file(folder, location):
                    raise _inside(name, path, place)


def is_hashed(path: str, place: HashedPlace) -> bool:
    """Return whether path is at or below place, and no pattern leaves it out; a link counts where it lies, too."""
    return any(map(place.holds, _locations(path)))


def _locations(path: str) -> tuple[str, ...]:
    """Return where path leads, and where it lies if it is a link."""
    leads = os.path.realpath(path)
    path = path.rstrip("/")  # with a slash, a link is what it leads to
    if not os.path.islink(path):
        return (leads,)
    folder, name = os.path.split(path)  # not of abspath, to which link/../f is f
    return leads, os.path.join(os.path.realpath(folder), name)


def _is_at_or_below(real: str, folder: str) -> bool:
    return real == folder or real.startswith(os.path.join(folder, ""))


def _is_linked_file(folder: Folder, location: str) -> bool:
    """Return whether a link in folder leads to the file at location."""
    try:
        output = os.stat(location)
    except OSError:
        return False
    same = (folder.location + name for name, status in folder.files if os.path.samestat(status, output))
    return any(os.path.islink(path) and os.path.realpath(path) == location for path in same)


def _inside(name: str, output: str, place: HashedPlace) -> InvalidInput:
    return InvalidInput(
        "the output lies in what is hashed, so making it would change the URI",
        where=f"output {name!r} at {output}",
        expected=f"a place outside {place.what}, {place.location}",
        fix=f'move the output, or leave it out there: "exclude" of {place.what}',
        code="E_OUTPUT_INSIDE",
    )
