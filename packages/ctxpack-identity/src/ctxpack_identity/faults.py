"""The faults of a contract file or contract: all of them in one error, each with its JSON pointer and its fix."""

from __future__ import annotations

import re

from ctxpack_identity.canonical import pointer
from ctxpack_identity.digest import DIGEST_PATTERN, Digest
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import Any, NamedTuple, cast

__all__ = ["ContractInvalid", "Fault", "Reader", "shown"]

_is_digest = re.compile(DIGEST_PATTERN).match


class Fault(NamedTuple):
    """One thing wrong with a contract: where (JSON pointer), what, and what to do."""

    code: str
    at: str
    what: str

    def __str__(self) -> str:
        return f"{self.at or '(whole document)'}: {self.what}"


class ContractInvalid(InvalidInput):
    """A contract with all of its faults; ``code`` is that of the first."""

    def __init__(self, where: str, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)), where=where, code=faults[0].code)
        self._arguments = where, faults
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[type[ContractInvalid], tuple[str, list[Fault]]]:
        """Errors are sent between processes; without this, pickle would call the class with the message only."""
        return type(self), self._arguments


class Reader:
    """Typed getters that note every fault and go on, so that all are reported in one error."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def fault(self, code: str, at: str, what: str) -> None:
        self._faults.append(Fault(code, at, what))

    def done(self, where: str) -> None:
        """Raise ContractInvalid when anything was noted."""
        if self._faults:
            raise ContractInvalid(where, self._faults)

    def members(
        self,
        value: Any,
        at: str,
        *,
        required: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        one_of: tuple[str, ...] = (),
        of: str = "",
    ) -> dict[str, Any]:
        """Return value, an object. With required or optional, other members are faults.

        of: what needs the required members, for the message.
        """
        if not isinstance(value, dict):
            self._type(at, "an object", value)
            return {}
        known = (*required, *optional)
        for name, item in value.items() if known else ():
            if name not in known:
                self.fault("E_UNKNOWN_FIELD", pointer(at, name), f"unknown member; known here: {', '.join(known)}")
            elif item is None:
                self.fault("E_NULL", pointer(at, name), "null is not a value here; leave the member out")
        for name in required:
            if name not in value:
                self.fault("E_MISSING", pointer(at, name), f"is missing; {of} needs it")
        if one_of and sum(name in value for name in one_of) != 1:
            self.fault("E_ONE_OF", at, f"exactly one of {', '.join(one_of)} is needed")
        return {name: item for name, item in value.items() if not known or (name in known and item is not None)}

    def items(self, value: Any, at: str) -> list[tuple[str, Any]]:
        """Return the elements of value, an array, each with its pointer."""
        if not isinstance(value, list | tuple):
            self._type(at, "an array", value)
            return []
        return [(pointer(at, index), item) for index, item in enumerate(value)]

    def string(self, value: object, at: str, *, empty: bool = False) -> str:
        if not isinstance(value, str):
            self._type(at, "a string", value)
            return ""
        if not value and not empty:
            self.fault("E_EMPTY", at, "expected a string that is not empty")
        return value

    def text(
        self, fields: dict[str, Any], member: str, at: str, *, default: str | None = None, empty: bool = False
    ) -> str:
        """Return fields[member], a string. A missing member is a fault that members() notes."""
        if member not in fields:
            return default or ""
        return self.string(fields[member], pointer(at, member), empty=empty)

    def path(self, fields: dict[str, Any], at: str) -> str:
        path = self.text(fields, "path", at)
        if "\0" in path:
            self.fault("E_PATH", pointer(at, "path"), "a path cannot hold a NUL character")
        return path

    def digest(self, fields: dict[str, Any], member: str, at: str, *, word: str = "") -> Digest:
        """Return fields[member]: a digest, or word where one is given."""
        value = fields.get(member, word)
        if member in fields and not (word and value == word) and not (isinstance(value, str) and _is_digest(value)):
            wanted = "sha256: and 64 lower-case hexadecimal digits" + (f', or "{word}"' if word else "")
            self.fault("E_DIGEST", pointer(at, member), f"expected {wanted}, got {shown(value)}")
        return cast("Digest", value)

    def _type(self, at: str, expected: str, value: Any) -> None:
        fix = "; quote it" if expected == "a string" and type(value) in (int, float) else ""
        self.fault("E_TYPE", at, f"expected {expected}, got {shown(value)}{fix}")


def shown(value: Any) -> str:
    """Name value in the words of JSON."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)[:100]
