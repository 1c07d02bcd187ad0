"""Which paths a pack may hold, and so which names an output may have. FORMAT.md of ctxpack-bundle, "Paths"."""

from __future__ import annotations

import re

from ctxpack_identity.errors import InvalidInput

__all__ = ["MAX_NAME_BYTES", "MAX_PATH_BYTES", "check_path"]

MAX_NAME_BYTES = 255  # one segment; the limit of every common file system
MAX_PATH_BYTES = 1024  # the whole path; PATH_MAX is 4096 on Linux and 1024 on macOS, and a folder comes before it

# Matches nearly every path: printable ASCII without a backslash, no segment "." or "..". _fault checks the others.
_is_plain = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[ -.0-\[\]-~]{1,255}(?:/(?=.)|/?\Z))+").fullmatch

_CONTROLS = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))}


def check_path(path: str) -> None:
    """Raise InvalidInput unless a pack may hold path: relative, POSIX, normal, and harmless on every system.

    path: that of an empty folder ends in ``/``. Control characters are refused because they steer terminals,
    backslashes because they separate folders on Windows.
    """
    if len(path) <= MAX_PATH_BYTES and _is_plain(path):
        return
    fault = _fault(path.removesuffix("/"))
    if fault:
        limits = f"at most {MAX_NAME_BYTES} bytes a name and {MAX_PATH_BYTES} a path"
        fix = f"rename it: no backslash, no control character, {limits}"
        raise InvalidInput(fault, where=repr(path), fix=fix, code="E_PATH")


def _fault(path: str) -> str:
    if len(path.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        return f"path is longer than {MAX_PATH_BYTES} bytes"
    for name in path.split("/"):
        if name in ("", ".", ".."):
            return "path is not relative and normal"
        if "\\" in name or not _CONTROLS.isdisjoint(name):
            return "name holds a backslash or a control character"
        try:
            if len(name.encode()) > MAX_NAME_BYTES:
                return f"name is longer than {MAX_NAME_BYTES} bytes"
        except UnicodeEncodeError:
            return "name is not Unicode text"
    return ""
