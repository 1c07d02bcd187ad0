"""Inspections and pushes as text."""

from __future__ import annotations

import json
import shlex

from ctxpack_cli.terminal import human_files, human_size
from ctxpack_cli.trustrows import verdict_rows
from ctxpack_pantry import Mapped, Pushed, printable, transforms

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ctxpack_pantry import FileList, Signed

__all__ = ["file_lines", "inspection_text", "map_lines", "push_lines", "signed_line"]

_SHOWN_FAILURES = 10


def inspection_text(document: dict[str, Any]) -> str:
    """Return an inspection (schema ctxpack/inspection/v1) as people read it."""
    lines = [document["uri"], f"found in   {document['found_in']}"]
    for heading, rows in (
        ("inputs", _inputs(document)),
        ("transforms", _transforms(document["contract"])),
        ("command", _command(document["contract"])),
        ("outputs", _outputs(document["outputs"])),
        ("provenance (unsigned)", _provenance(document["provenance"])),
        ("claims", verdict_rows(document["verdict"])),
        ("image", _image(document.get("image"))),
        ("weak points", (point["what"] for point in document["weak"])),
    ):
        shown = [f"  {row}" for row in rows]
        lines += ["", heading, *shown] if shown else []
    return "\n".join(map(printable, lines))  # line by line: a line feed in a value must not start a line


def file_lines(files: FileList) -> Iterator[str]:
    """Yield a line for each file or empty folder: size, and path, or the name of an input that is one file."""
    for path, size, _, _ in files:
        yield f"{human_size(size):>8}  {printable(path or files.input or '')}"


def map_lines(mapped: Mapped, *, is_plan: bool) -> Iterator[str]:
    """Yield what people should know of a map. is_plan: whether it was a dry run."""
    if mapped.hit:
        if mapped.registry:
            yield f"fetched from {mapped.registry}"
        return
    parts = [
        (mapped.finished, "finished by an earlier map"),
        (mapped.cached, "in cached packs"),
        (mapped.fetched, "in packs of the registry"),
        (mapped.made, "made"),
        (mapped.missing - len(mapped.failed), "to be made" if is_plan else "not made"),
        (len(mapped.failed), "failed"),
    ]
    shown = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    yield f"{mapped.items:,} item{'' if mapped.items == 1 else 's'}{f': {shown}' if shown else ''}"
    for item in mapped.failed[:_SHOWN_FAILURES]:
        yield f"failed: {item.path}: {item.reason}"
    if len(mapped.failed) > _SHOWN_FAILURES:
        yield f"and {len(mapped.failed) - _SHOWN_FAILURES:,} more failed; --json lists all"
    if mapped.failed:
        yield "there is no pack; items that are made are kept, so map again once the others can be made"


def push_lines(pushed: Pushed, *, is_default: bool) -> Iterator[str]:
    """Yield what people should know of a push. is_default: whether nobody named the registry."""
    before = pushed.replaced
    if before is None:
        had = "had it already; nothing was sent" if not pushed.sent else f"lacked {human_size(pushed.sent)} of it"
        yield f"{pushed.registry} {'has it now' if pushed.new else had}"
    else:
        yield f"{pushed.registry} has it now, as {pushed.image}, in place of {before.image}; claims about that are void"
        if pushed.new:
            yield f"outputs are now {pushed.outputs}, and were {before.outputs or 'not readable'}"
    if pushed.signed is not None:
        yield signed_line(pushed.signed)
    if is_default:
        yield "only this machine sees that registry; name one for everybody with --registry or CTXPACK_REGISTRY"


def signed_line(signed: Signed) -> str:
    """Return what people should know of a claim."""
    counts = "" if signed.kind in ("run", "rebuild") else ", which counts towards no threshold"
    how = {"run": "run here", "rebuild": "made again here", "seed": "seeded here", "vouch": "vouched for"}[signed.kind]
    had = "signed" if signed.new else "signed before"
    return f"{had} by {signed.key_id[:16]}, as {how}{counts}"


def _inputs(document: dict[str, Any]) -> Iterator[str]:
    inputs = document["contract"].get("inputs")
    for name, item in inputs.items() if isinstance(inputs, dict) else ():
        made_by = _upstream(document["provenance"], name)
        digest = _shown(item.get("digest") if isinstance(item, dict) else item)
        yield f"{name:<12} {digest}{f'  from {_shown(made_by)}' if made_by else ''}"


def _upstream(provenance: dict[str, Any], name: str) -> object:
    """Return the URI that an input comes from, as the provenance says, which may have any shape."""
    inputs = provenance.get("inputs")
    item = inputs.get(name) if isinstance(inputs, dict) else None
    return item.get("uri") if isinstance(item, dict) else None


def _transforms(contract: dict[str, Any]) -> Iterator[str]:
    for transform in transforms(contract):
        yield f"{_shown(transform.get('tool'))} {_shown(transform.get('tool_version'))}"
        for name, member in (("code", "code_hash"), ("environment", "environment_hash"), ("params", "params")):
            yield f"  {name:<12} {_shown(transform.get(member))}"


def _command(contract: dict[str, Any]) -> Iterator[str]:
    """Yield the command, and what else of the contract is not a transform, an input or an output."""
    command = contract.get("command")
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        yield shlex.join(command)
    elif command is not None:
        yield _shown(command)
    for name in ("variables", "platform", "each", "salt"):
        if contract.get(name):
            yield f"{name:<12} {_line(contract[name])}"
    if contract.get("schema") != "ctxpack/contract/v1":
        yield f"{'schema':<12} {_shown(contract.get('schema'))}"


def _outputs(outputs: dict[str, Any]) -> Iterator[str]:
    names = ", ".join(f"{root['name']}{'/' if root['type'] == 'folder' else ''}" for root in outputs["roots"])
    yield f"{names}  {human_files(outputs['files'])}, {human_size(outputs['size'])}"
    yield f"digest       {outputs['digest']}"


def _provenance(provenance: dict[str, Any]) -> Iterator[str]:
    for name, value in provenance.items():
        if name != "weak":  # shown under "weak points"
            yield f"{name:<12} {_shown(value)}"


def _shown(value: object) -> str:
    """Return a text as it is, and any other value as JSON."""
    return value if isinstance(value, str) else _line(value)


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _image(image: dict[str, Any] | None) -> Iterator[str]:
    if image:
        yield f"digest       {image['digest']}"
        yield f"transfer     {human_size(image['size'])} in {image['layers']} layers"
