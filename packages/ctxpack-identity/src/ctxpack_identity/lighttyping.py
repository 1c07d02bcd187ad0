"""The parts of ``typing`` that start-up needs, without loading it.

Loading typing takes 4 ms, a seventh of all that `ctxpack id` may take. Type checkers see the real names; at run time
these substitutes are enough for the uses made here: named tuples with annotations as strings, names for types.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple, NewType, Protocol, TypeAlias, cast
else:
    from collections import namedtuple

    Any = TypeAlias = object

    def NewType(name, supertype):
        """Return the supertype itself: the new name is for people and type checkers."""
        return supertype

    def cast(kind, value):
        return value

    class Protocol:
        """A base class without checks: only the type checker compares classes with a protocol."""

    class _NamedTuple(type):
        def __new__(cls, name, bases, members):
            if not bases:
                return super().__new__(cls, name, bases, members)
            fields = members.pop("__annotations__", {})
            defaults = [members.pop(field) for field in fields if field in members]
            made = namedtuple(name, fields, defaults=defaults, module=members.pop("__module__"))
            for member, value in members.items():
                setattr(made, member, value)
            return made

    class NamedTuple(metaclass=_NamedTuple):
        """``class Point(NamedTuple): x: int; y: int = 0``"""


__all__ = ["TYPE_CHECKING", "Any", "NamedTuple", "NewType", "Protocol", "TypeAlias", "cast"]
