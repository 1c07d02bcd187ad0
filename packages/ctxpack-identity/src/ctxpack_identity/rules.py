"""The rules that contract files and canonical contracts share, noted as faults. SPEC.md, sections 7 and 9."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ctxpack_identity.canonical import pointer
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.faults import Reader, quoted
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_identity.packpath import check_path

__all__ = [
    "UNDECLARED",
    "Each",
    "check_command_of_map",
    "check_input_name",
    "check_variable",
    "is_input_name",
    "is_output_name",
    "read_command",
    "read_each",
    "require_no_nul",
]

UNDECLARED = "undeclared"  # no lock file is given, or no command

_matches_input_name = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}").fullmatch
_is_variable = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch

OF, BY = ("files", "entries"), ("path", "content")


class Each(NamedTuple):
    """What a map goes over. input: its name; of: "files" or "entries"; by: "path" or "content"; output: a template."""

    input: str
    of: str
    by: str
    output: str


def is_input_name(name: str) -> bool:
    """Return whether an input may have this name."""
    return _matches_input_name(name) is not None


def check_input_name(read: Reader, name: str, at: str) -> None:
    """Note a fault unless name may be that of an input."""
    if not is_input_name(name):
        expected = "1 to 128 letters, digits, . _ and -, the first a letter, digit or _"
        read.fault("E_INPUT_NAME", at, expected, quoted(name), "rename the input")


def is_output_name(name: str) -> bool:
    """Return whether an output may have this name: one segment of a path that a pack may hold."""
    try:
        check_path(name)
    except InvalidInput:
        return False
    return "/" not in name


def check_variable(read: Reader, name: str, at: str) -> None:
    """Note a fault unless name may be that of an environment variable."""
    if not _is_variable(name):
        expected = "the name of a variable: letters, digits and _, the first no digit"
        read.fault("E_VARIABLE", at, expected, quoted(name), "correct the name")


def require_no_nul(read: Reader, text: str, at: str) -> None:
    """Note a fault for a text that no argument or variable can hold."""
    if "\0" in text:
        read.fault("E_NUL", at, "a text without U+0000", quoted(text), "remove the character")


def read_command(read: Reader, fields: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the member "command", None for an undeclared one."""
    value = fields.get("command", UNDECLARED)
    if value == UNDECLARED:
        return None
    if isinstance(value, str):
        read.fault(
            "E_TYPE",
            "/command",
            f'an array of texts, or "{UNDECLARED}"',
            quoted(value),
            'write each argument as a text of its own: ["python", "main.py"], or ["sh", "-c", "…"] for a shell',
        )
        return None
    words = []
    for number, (at, item) in enumerate(read.items(value, "/command")):
        words.append(read.string(item, at, empty=number > 0))
        require_no_nul(read, words[-1], at)
    if value in ([], ()):
        read.fault("E_EMPTY", "/command", "a program and its arguments", "an empty array", "name the program")
    return tuple(words) or None


def read_each(read: Reader, fields: dict[str, Any], inputs: Iterable[str], outputs: int, *, written: bool) -> Each:
    """Return the member "each".

    inputs: their names. outputs: how many there are. written: all members must be there.
    """
    optional = () if written else ("of", "by")
    required = ("input", "of", "by", "output") if written else ("input", "output")
    each = read.members(fields["each"], "/each", required=required, optional=optional, of='"each"')
    name = read.text(each, "input", "/each")
    known = sorted(inputs)
    if name and name not in known:
        expected = f"one of the inputs: {', '.join(known)}" if known else "the name of an input"
        read.fault("E_EACH", "/each/input", expected, quoted(name), "name the input that the map goes over")
    if outputs != 1:
        read.fault("E_EACH", "/outputs", "one output, a folder", f"{outputs} outputs", "a map has exactly one")
    from ctxpack_identity.template import template_fault  # few contracts are maps

    template = read.text(each, "output", "/each")
    if wrong := template_fault(template):
        expected = "a template with {path}, {dir}, {stem}, {suffix}; {{ and }} for braces"
        read.fault("E_TEMPLATE", "/each/output", expected, quoted(wrong), "for example {dir}{stem}.json")
    return Each(name, read.word(each, "of", "/each", OF), read.word(each, "by", "/each", BY), template)


def check_command_of_map(read: Reader, command: tuple[str, ...] | None) -> None:
    """Note a fault for an argument that would run the names of files as code."""
    words = command or ()
    for index in range(1, len(words)):
        if words[index - 1] == "-c" and ("{item}" in words[index] or "{out}" in words[index]):
            read.fault(
                "E_COMMAND",
                pointer("/command", index),
                "no {item} and no {out} in the argument after -c",
                quoted(words[index]),
                """names of files would be run as code; write "sh", "-c", "… \\"$1\\" …", "sh", "{item}\"""",
            )
