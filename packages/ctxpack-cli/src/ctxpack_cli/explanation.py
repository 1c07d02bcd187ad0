"""What differs between two contracts or packs, as text: one fact a line, from old to new."""

from __future__ import annotations

import sys

from ctxpack_cli.terminal import human_size
from ctxpack_pantry import printable
from ctxpack_pantry.jsonchanges import ABSENT, shown_change

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["explanation_lines", "file_change_lines"]

_WIDE = 60  # characters of a value
_FEW = 20  # values and packages of one kind that are shown


def explanation_lines(document: dict[str, Any], *, shorten: bool = True) -> Iterator[str]:
    """Yield an explanation (schema ctxpack/explain/v1) as people read it: code, environment, inputs, params, the rest.

    shorten: cut wide values and long lists of them.
    """
    for line in _lines(document, _FEW if shorten else sys.maxsize, _WIDE if shorten else sys.maxsize):
        yield printable(line)  # line by line: a line feed in a value must not start a line


def _lines(document: dict[str, Any], few: int, wide: int) -> Iterator[str]:
    old, new = document["old"], document["new"]
    yield f"old  {_side(old)}{', the nearest pack' if document['nearest'] else ''}"
    yield f"new  {_side(new)}"
    yield ""
    facts = False
    for facts_of in (_of_roots, _of_inputs, _of_transforms, _of_members, _of_outputs):
        for line in facts_of(document, few, wide):
            facts = True
            yield line
    if not facts:
        there = f"; its pack is in {old['found_in']}" if new["is_contract_file"] and not old["is_contract_file"] else ""
        yield f"nothing differs{there}"


def _side(side: dict[str, Any]) -> str:
    return f"{side['uri']}  {'of' if side['is_contract_file'] else 'in'} {side['found_in']}"


def _of_roots(document: dict[str, Any], few: int, wide: int) -> Iterator[str]:
    for kind in ("code", "environment"):
        for transform in document["transforms"]:
            if transform[kind] is not None:
                yield from _root_lines(f"{kind} of {_name(transform)}", transform[kind], few)


def _of_inputs(document: dict[str, Any], few: int, wide: int) -> Iterator[str]:
    for one in document["inputs"]:
        yield from _root_lines(f"input {one['name']}", one, few)


def _of_transforms(document: dict[str, Any], few: int, wide: int) -> Iterator[str]:
    for transform in document["transforms"]:
        name, old, new = _name(transform), transform["old"], transform["new"]
        if old is None or new is None:
            yield f"transform {name}: {'added' if old is None else 'removed'}"
        elif old != new:
            yield f"transform {name}: was transform {old}"
        yield from _change_lines(f"{name}: ", transform["changes"], few, wide)


def _of_members(document: dict[str, Any], few: int, wide: int) -> Iterator[str]:
    yield from _change_lines("", document["changes"], few, wide)


def _of_outputs(document: dict[str, Any], few: int, wide: int) -> Iterator[str]:
    if document["outputs"] is not None:
        yield from _root_lines("outputs", document["outputs"], few)


def _name(transform: dict[str, Any]) -> str:
    """Return the tool, and the index of any transform but the first."""
    index = transform["new"] if transform["new"] is not None else transform["old"]
    return f"{transform['tool']} (transform {index})" if index else f"{transform['tool']}"


def _root_lines(name: str, root: dict[str, Any], few: int) -> Iterator[str]:
    packages, files = root["packages"], root["files"]
    for package in (packages or ())[:few]:
        yield f"{name}: package {package['name']}: {_versions(package['old'])} → {_versions(package['new'])}"
    yield from _more(name, len(packages or ()) - few, "packages")
    if packages == []:
        yield f"{name}: the text differs, the packages do not"
    if files is not None:
        yield from file_change_lines(name, files)
    elif root["old"] is None or root["new"] is None:
        yield f"{name}: {'added' if root['old'] is None else 'removed'}, {root['new'] or root['old']}"
    else:
        where = f"; no listing on the {' and the '.join(root['unlisted'])} side" if root["unlisted"] else ""
        yield f"{name}: {root['old']} → {root['new']}{where}"


def file_change_lines(name: str, files: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each file that differs, of which a document shows some. name: of what they are in."""
    for kind in ("changed", "added", "removed", "renamed"):
        group = files[kind]
        for file in group["files"]:
            yield f"{name}: {_file(kind, file)}"
        count = group["count"] - len(group["files"])
        total = f"{kind}, {group['count']} together, {human_size(group['size'])}"
        yield from _more(name, count, total)
    if not files["renames_sought"]:
        yield f"{name}: too many files for a look at which were renamed"


def _file(kind: str, file: dict[str, Any]) -> str:
    size, path = human_size(file["size"]), file["path"] or "the file"
    if kind == "changed":
        old = human_size(file["old_size"])
        return f"{path} changed, {size if old == size else f'{old} → {size}'}"
    if kind == "renamed":
        return f"{file['old_path'] or 'the file'} → {path} renamed, {size}"
    return f"{path} {kind}{'' if path.endswith('/') else f', {size}'}"


def _versions(versions: list[str]) -> str:
    return ", ".join(version or "any" for version in versions) or "none"


def _change_lines(name: str, changes: list[dict[str, Any]], few: int, wide: int) -> Iterator[str]:
    for change in changes[:few]:
        at, old, new = shown_change(change["at"], change.get("old", ABSENT), change.get("new", ABSENT), wide)
        yield f"{name}{at} {old} → {new}"
    yield from _more(name.removesuffix(": "), len(changes) - few, "values")


def _more(name: str, count: int, what: str) -> Iterator[str]:
    if count > 0:
        yield f"{f'{name}: ' if name else ''}and {count} more {what}"
