"""Outputs may not lie in what is hashed, or the first run would change the name. SPEC.md, section 8."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["HashedPlace", "is_hashed", "require_outside"]


class HashedPlace(NamedTuple):
    """A file or folder on disk that is hashed. what: for the message; excludes: of its patterns.

    files_only: folders without a file are not there.
    """

    what: str
    location: str
    excludes: Excludes | None
    files_only: bool = False


def require_outside(outputs: Mapping[str, str], places: Sequence[HashedPlace]) -> None:
    """Raise InvalidInput for an output at or below one of these places, unless patterns leave it out.

    outputs: their locations, by name.
    """
    for name, output in outputs.items():
        for place in places:
            if is_hashed(output, place):
                raise _inside(name, output, place)


def is_hashed(path: str, place: HashedPlace) -> bool:
    """Return whether path is at or below place, and no pattern leaves it out.

    Links are resolved; a link counts where it lies, too. Where nothing lies yet, a pattern for files or folders does.
    """
    root = os.path.realpath(place.location)
    for location in _locations(path):
        if location == root:
            return True
        if location.startswith(os.path.join(root, "")) and not _is_left_out(location, root, place):
            return True
    return False


def _locations(path: str) -> Iterator[str]:
    """Yield where path leads, and where it lies if it is a link."""
    yield os.path.realpath(path)
    path = path.rstrip("/")  # with a slash, a link is what it leads to
    if os.path.islink(path):
        folder, name = os.path.split(path)  # not of abspath, to which link/../f is f
        yield os.path.join(os.path.realpath(folder), name)


def _is_left_out(location: str, root: str, place: HashedPlace) -> bool:
    """Return whether patterns leave out location, which is below root."""
    excludes = place.excludes
    if excludes is None:
        return False
    top = len(os.path.join(root, ""))
    path = location[top:]
    for end in (index for index, char in enumerate(path) if char == "/"):
        if excludes(path[:end], True):
            return True
        if not place.files_only and not os.path.lexists(location[: top + end]):
            return False  # this folder would be new
    if os.path.lexists(location):
        return excludes(path, os.path.isdir(location))
    return excludes(path, True) or excludes(path, False)


def _inside(name: str, output: str, place: HashedPlace) -> InvalidInput:
    return InvalidInput(
        "the output lies in what is hashed, so making it would change the URI",
        where=f"output {name!r} at {output}",
        expected=f"a place outside {place.what}, {place.location}",
        fix=f'move the output, or leave it out there: "exclude" of {place.what}',
        code="E_OUTPUT_INSIDE",
    )
