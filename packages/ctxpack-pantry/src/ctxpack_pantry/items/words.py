"""The words of a map's command: ``{item}``, ``{out}`` and ``{batch}`` stand for paths. SPEC.md of identity, 9.2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ctxpack_identity import InvalidInput

__all__ = ["fill_words", "is_batch", "require_words"]

_PLACES = re.compile(r"\{(item|out|batch)\}")


def fill_words(command: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """Return the words with paths in their places, each replaced once; every other brace stays.

    >>> fill_words(["cp", "{item}", "a/{out}{x}"], {"item": "{out}", "out": "o"})
    ['cp', '{out}', 'a/o{x}']
    """
    return [_PLACES.sub(lambda found: places.get(found[1], found[0]), word) for word in command]


def is_batch(command: Sequence[str]) -> bool:
    """Return whether a command takes many items at once."""
    return "batch" in _places_in(command)


def require_words(command: Sequence[str], where: str) -> None:
    """Raise InvalidInput unless a command says where its item and its result are: both, or a batch alone."""
    found = _places_in(command)
    if found in ({"item", "out"}, {"batch"}):
        return
    raise InvalidInput(
        "the command of a map does not say where its item and its result are",
        where=where,
        expected="{item} and {out}, or {batch} alone",
        got=" and ".join(f"{{{name}}}" for name in sorted(found)) or "none of them",
        fix='for example "command": ["python", "parse.py", "{item}", "{out}"], or after --',
        code="E_COMMAND",
    )


def _places_in(command: Sequence[str]) -> set[str]:
    return {name for word in command for name in _PLACES.findall(word)}
