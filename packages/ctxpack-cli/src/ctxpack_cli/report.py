"""Inspections and lists of packs as text."""

from __future__ import annotations

import json

from ctxpack_cli.terminal import human_files, human_size
from ctxpack_pantry import StoredPack, printable

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["inspection_text", "pack_line"]


def inspection_text(document: dict[str, Any]) -> str:
    """Return an inspection (schema ctxpack/inspection/v1) as people read it."""
    lines = [document["uri"], f"found in   {document['found_in']}"]
    for heading, rows in (
        ("inputs", _inputs(document)),
        ("transforms", _transforms(document["contract"])),
        ("outputs", _outputs(document["outputs"])),
        ("provenance (unsigned)", _provenance(document["provenance"])),
        ("image", _image(document.get("image"))),
        ("weak points", iter(document["weaknesses"])),
    ):
        shown = [f"  {row}" for row in rows]
        lines += ["", heading, *shown] if shown else []
    return "\n".join(map(printable, lines))  # line by line: a line feed in a value must not start a line


def pack_line(pack: StoredPack) -> str:
    """Return a pack of the cache as one line: URI, size, files, time, tools."""
    row = pack.as_json()
    if "damaged" in row:
        return f"{row['uri']}  damaged; ctxpack rm removes it"
    files = human_files(row["files"])
    return printable(
        f"{row['uri']}  {human_size(row['size']):>9}  {files:>12}  {row['created']}  {', '.join(row['tools'])}"
    )


def _inputs(document: dict[str, Any]) -> Iterator[str]:
    for name, item in document["contract"]["inputs"].items():
        made_by = _upstream(document["provenance"], name)
        yield f"{name:<12} {item['digest']}{f'  from {made_by}' if made_by else ''}"


def _upstream(provenance: dict[str, Any], name: str) -> object:
    """Return the URI that an input comes from, as the provenance says, which may have any shape."""
    inputs = provenance.get("inputs")
    item = inputs.get(name) if isinstance(inputs, dict) else None
    return item.get("uri") if isinstance(item, dict) else None


def _transforms(contract: dict[str, Any]) -> Iterator[str]:
    for transform in contract["transforms"]:
        yield f"{transform['tool']} {transform['tool_version']}"
        yield f"  code         {transform['code_hash']}"
        yield f"  environment  {transform['environment_hash']}"
        yield f"  params       {json.dumps(transform['params'], ensure_ascii=False, sort_keys=True)}"
    if contract["salt"]:
        yield f"salt {contract['salt']!r}"


def _outputs(outputs: dict[str, Any]) -> Iterator[str]:
    names = ", ".join(f"{root['name']}{'/' if root['type'] == 'folder' else ''}" for root in outputs["roots"])
    yield f"{names}  {human_files(outputs['files'])}, {human_size(outputs['size'])}"
    yield f"digest       {outputs['digest']}"


def _provenance(provenance: dict[str, Any]) -> Iterator[str]:
    for name, value in provenance.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        yield f"{name:<12} {shown}"


def _image(image: dict[str, Any] | None) -> Iterator[str]:
    if image:
        yield f"digest       {image['digest']}"
        yield f"transfer     {human_size(image['size'])} in {image['layers']} layers"
