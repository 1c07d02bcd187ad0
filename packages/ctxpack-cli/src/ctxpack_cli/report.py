"""Inspections and lists of packs as text."""

from __future__ import annotations

import json

from ctxpack_cli.terminal import human_size
from ctxpack_pantry import Stored, printable

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["inspection_text", "pack_line", "pack_row"]


def inspection_text(document: dict[str, Any]) -> str:
    """Return an inspection (schema ctxpack/inspection/v1) as people read it."""
    lines = [document["uri"], f"found in   {document['found_in']}"]
    for heading, rows in (
        ("inputs", _inputs(document)),
        ("transforms", _transforms(document["contract"])),
        ("outputs", _outputs(document["outputs"])),
        ("provenance (unsigned)", _provenance(document["provenance"])),
        ("artifact", _artifact(document.get("artifact"))),
        ("weak points", iter(document["weaknesses"])),
    ):
        shown = [f"  {row}" for row in rows]
        lines += ["", heading, *shown] if shown else []
    return "\n".join(map(printable, lines))  # line by line: a line feed in a value must not start a line


def pack_row(pack: Stored) -> dict[str, Any]:
    """Return a pack of the cache as a JSON object."""
    manifest = pack.manifest
    if manifest is None:
        return {"uri": pack.uri, "folder": pack.path, "damaged": True}
    return {
        "uri": pack.uri,
        "folder": pack.path,
        "files": manifest.outputs.files,
        "size": manifest.outputs.size,
        "created": manifest.provenance.get("created", ""),
        "tools": [transform["tool"] for transform in manifest.contract["transforms"]],
    }


def pack_line(pack: Stored) -> str:
    """Return a pack of the cache as one line: URI, size, files, time, tools."""
    row = pack_row(pack)
    if "damaged" in row:
        return f"{row['uri']}  damaged; ctxpack rm removes it"
    files = f"{row['files']} file{'' if row['files'] == 1 else 's'}"
    return printable(
        f"{row['uri']}  {human_size(row['size']):>9}  {files:>12}  {row['created']}  {', '.join(row['tools'])}"
    )


def _inputs(document: dict[str, Any]) -> Iterator[str]:
    for name, item in document["contract"]["inputs"].items():
        made_by = _upstream(document["provenance"], name)
        yield f"{name:<12} {item['digest']}{f'  from {made_by}' if made_by else ''}"


def _upstream(provenance: dict[str, Any], name: str) -> object:
    """Return the URI that provenance gives for an input. Provenance may have any shape."""
    inputs = provenance.get("inputs")
    source = inputs.get(name) if isinstance(inputs, dict) else None
    return source.get("uri") if isinstance(source, dict) else None


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
    yield f"{names}  {outputs['files']} files, {human_size(outputs['size'])}"
    yield f"digest       {outputs['digest']}"


def _provenance(provenance: dict[str, Any]) -> Iterator[str]:
    for name, value in provenance.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        yield f"{name:<12} {shown}"


def _artifact(artifact: dict[str, Any] | None) -> Iterator[str]:
    if artifact:
        yield f"digest       {artifact['digest']}"
        yield f"transfer     {human_size(artifact['size'])} in {artifact['chunks']} chunks"
