"""The faults of a contract file or contract: all of them in one error, each with its JSON pointer and its fix."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ctxpack_identity.canonical import pointer
from ctxpack_identity.digest import DIGEST_PATTERN, Digest
from ctxpack_identity.errors import InvalidInput, shortened
from ctxpack_identity.lighttyping import Any, NamedTuple, cast

__all__ = ["MOST_FAULTS", "ContractInvalid", "Fault", "Reader", "did_you_mean", "quoted", "shown"]

MOST_FAULTS = 100  # in one error

_is_digest = re.compile(DIGEST_PATTERN).match

# What people write for a member, where it is not close to its name.
_ALIASES = {
    "args": "params",
    "arguments": "params",
    "cmd": "command",
    "env": "variables",
    "environ": "variables",
    "ignore": "exclude",
    "lock": "environment",
    "lockfile": "environment",
    "parameters": "params",
    "run": "command",
    "url": "path",
    "vars": "variables",
    "version": "tool_version",
}


class Fault(NamedTuple):
    """One thing wrong with a contract. pointer: RFC 6901, "" for the whole document."""

    code: str
    pointer: str
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        where = shortened(self.pointer) or "(whole document)"
        text = f"{where}: expected {shortened(self.expected)}, got {shortened(self.got)}"
        return f"{text}; {shortened(self.fix)}" if self.fix else text


class ContractInvalid(InvalidInput):
    """A contract with its faults, MOST_FAULTS at most; ``code`` is that of the first. more: how many are left out."""

    def __init__(self, where: str, faults: list[Fault], more: int = 0) -> None:
        rest = [f"and {more} more faults"] if more else []
        super().__init__("; ".join([*map(str, faults), *rest]), where=where, code=faults[0].code)
        self._arguments = where, faults, more
        self.faults, self.more = tuple(faults), more

    def __reduce__(self) -> tuple[type[ContractInvalid], tuple[str, list[Fault], int]]:
        """Errors are sent between processes; without this, pickle would call the class with the message only."""
        return type(self), self._arguments


class Reader:
    """Typed getters that note every fault and go on, so that all are reported in one error."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._more = 0

    def fault(self, code: str, at: str, expected: str, got: object, fix: str = "") -> None:
        """Note a fault. got: a text that is shown as it is, or any other value, shown in the words of JSON."""
        if len(self._faults) == MOST_FAULTS:
            self._more += 1
        else:
            self._faults.append(Fault(code, at, expected, got if isinstance(got, str) else shown(got), fix))

    def done(self, where: str) -> None:
        """Raise ContractInvalid when anything was noted."""
        if self._faults:
            raise ContractInvalid(where, self._faults, self._more)

    def members(
        self,
        value: Any,
        at: str,
        *,
        required: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        one_of: tuple[str, ...] = (),
        of: str = "",
        elsewhere: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return value, an object. With required or optional, other members are faults.

        of: what has these members, for the message. elsewhere: where a member belongs that is not known here.
        """
        if not isinstance(value, dict):
            self._type(at, "an object", value)
            return {}
        known = (*required, *optional)
        for name, item in value.items() if known else ():
            if name not in known:
                place = (elsewhere or {}).get(name)
                near = "" if self._more else did_you_mean(name, known)  # slow, and not shown any more
                fix = f"it belongs {place}" if place else near or "remove it"
                self.fault("E_UNKNOWN_FIELD", pointer(at, name), f"one of {', '.join(known)}", quoted(name), fix)
            elif item is None:
                self.fault("E_NULL", pointer(at, name), "a value", "null", "leave the member out")
        for name in required:
            if name not in value:
                self.fault("E_MISSING", pointer(at, name), f"{quoted(name)} in {of}", "nothing", "add it")
        given = [name for name in one_of if name in value]
        if one_of and len(given) != 1:
            fix = "keep one of them" if given else "add one of them"
            self.fault("E_ONE_OF", at, f"exactly one of {', '.join(one_of)}", ", ".join(given) or "none of them", fix)
        return {name: item for name, item in value.items() if not known or (name in known and item is not None)}

    def items(self, value: Any, at: str) -> list[tuple[str, Any]]:
        """Return the elements of value, an array, each with its pointer."""
        if not isinstance(value, list | tuple):
            self._type(at, "an array", value)
            return []
        return [(pointer(at, index), item) for index, item in enumerate(value)]

    def string(self, value: object, at: str, *, empty: bool = False) -> str:
        if not isinstance(value, str):
            self._type(at, "a text", value)
            return ""
        if not value and not empty:
            self.fault("E_EMPTY", at, "a text that is not empty", '""', "fill it in")
        return value

    def text(self, fields: dict[str, Any], member: str, at: str, *, empty: bool = False) -> str:
        """Return fields[member], a text, "" when it is missing, which is a fault that members() notes."""
        if member not in fields:
            return ""
        return self.string(fields[member], pointer(at, member), empty=empty)

    def texts(self, value: Any, at: str) -> dict[str, str]:
        """Return value, an object of texts, which may be empty."""
        return {
            name: self.string(item, pointer(at, name), empty=True) for name, item in self.members(value, at).items()
        }

    def word(self, fields: dict[str, Any], member: str, at: str, words: tuple[str, ...]) -> str:
        """Return fields[member], one of words; the first one when it is not there."""
        value = fields.get(member, words[0])
        if value not in words:
            expected = " or ".join(map(quoted, words))
            self.fault("E_TYPE", pointer(at, member), expected, shown(value), did_you_mean(value, words))
            return words[0]
        return cast("str", value)

    def flag(self, fields: dict[str, Any], member: str, at: str, *, default: bool = False) -> bool:
        value = fields.get(member, default)
        if not isinstance(value, bool):
            self._type(pointer(at, member), "true or false", value)
            return default
        return value

    def path(self, fields: dict[str, Any], at: str) -> str:
        path = self.text(fields, "path", at)
        if "\0" in path:
            self.fault("E_PATH", pointer(at, "path"), "a path without U+0000", shown(path), "correct the path")
        return path

    def digest(self, fields: dict[str, Any], member: str, at: str, *, word: str = "") -> Digest:
        """Return fields[member]: a digest, or word where one is given."""
        value = fields.get(member, word)
        if member in fields and not (word and value == word) and not (isinstance(value, str) and _is_digest(value)):
            expected = "sha256: and 64 lower-case hexadecimal digits" + (f', or "{word}"' if word else "")
            self.fault("E_DIGEST", pointer(at, member), expected, shown(value), "correct the digest")
        return cast("Digest", value)

    def _type(self, at: str, expected: str, value: Any) -> None:
        fix = "write it in quotes" if expected == "a text" and type(value) in (int, float) else f"make it {expected}"
        self.fault("E_TYPE", at, expected, shown(value), fix)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a question that names the known word nearest to name, "" when none is near."""
    if not isinstance(name, str):
        return ""
    import difflib  # only an error needs it

    words = {word.lower(): word for word in known}
    alias = _ALIASES.get(name.lower(), "")
    near = [alias] if alias in words else difflib.get_close_matches(name[:100].lower(), words, 1)
    return f"did you mean {quoted(words[near[0]])}?" if near else ""


def quoted(name: str) -> str:
    """Return name in quotation marks, cut where it is long."""
    return f'"{name}"' if len(name) <= 100 else f'"{name[:97]}..."'


def shown(value: Any) -> str:
    """Name value in the words of JSON."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if value is None:
        return "null"
    if isinstance(value, str):
        return quoted(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)[:100]
