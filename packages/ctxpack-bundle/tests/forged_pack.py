"""Packs made as FORMAT.md says, without code of the package, so that they can be wrong on purpose.

By default a forged pack is consistent: sizes, digests, totals and the tree digest match its files, even if these are
hostile. So a reader refuses it only for the one thing that is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["CONTRACT", "END", "File", "Member", "canonical", "forge", "header", "listing", "manifest", "pax", "stream"]

END = bytes(1024)

CONTRACT: dict[str, Any] = {
    "command": "undeclared",
    "inputs": {},
    "outputs": [],  # so roots may have any names
    "platform": {},
    "salt": "",
    "schema": "ctxpack/contract/v1",
    "transforms": [
        {"code_hash": "opaque", "environment_hash": "undeclared", "params": {}, "tool": "tool", "tool_version": "1"}
    ],
    "variables": {},
}


class File(NamedTuple):
    """An output. path: an empty folder's ends in ``/``."""

    path: str
    content: bytes = b""
    executable: bool = False


class Member(NamedTuple):
    """A member of a tar: header blocks, then content."""

    header: bytes
    content: bytes = b""

    def encoded(self) -> bytes:
        return self.header + self.content + bytes(-len(self.content) % 512)


def canonical(value: Any) -> bytes:
    """Return value in the form of RFC 8785; names must be ASCII and numbers integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def header(
    name: bytes,
    size: int = 0,
    *,
    mode: int = 0o644,
    kind: bytes = b"0",
    link: bytes = b"",
    size_field: bytes = b"",
    mtime: int = 0,
    uid: int = 0,
    magic: bytes = b"ustar\x0000",
    owner: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    """One ustar block with these fields."""
    block = bytearray(512)
    for offset, value in (
        (0, name[:100]),
        (100, b"%07o" % mode),
        (108, b"%07o" % uid),
        (116, b"%07o" % 0),
        (124, size_field or b"%011o" % size),
        (136, b"%011o" % mtime),
        (148, b" " * 8),
        (156, kind),
        (157, link[:100]),
        (257, magic),
        (265, owner),
        (329, b"0000000\x000000000"),
    ):
        block[offset : offset + len(value)] = value
    total = sum(block) if checksum is None else checksum
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def pax(records: Mapping[str, str] | bytes, *, kind: bytes = b"x", name: bytes = b"././@PaxHeader") -> bytes:
    """A pax header with these records, in this order, or with exactly this content."""
    content = records if isinstance(records, bytes) else b"".join(_record(*item) for item in records.items())
    return Member(header(name, len(content), kind=kind), content).encoded()


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = next(n for n in range(len(rest) + 1, len(rest) + 9) if len(str(n)) + len(rest) == n)
    return str(length).encode() + rest


def right_header(name: str, size: int, *, executable: bool = False) -> bytes:
    """The one header that FORMAT.md, "Members", allows for a file or (name ends in ``/``) a folder."""
    folder = name.endswith("/")
    records, field, encoded = {}, name.encode(errors="surrogatepass"), size
    if len(field) > 100 or not name.isascii():
        records["path"] = name
        field = "".join(c if c.isascii() else "?" for c in name).encode()[:100]
    if size >= 8**11:
        records["size"], encoded = str(size), 0
    ustar = header(field, encoded, mode=0o755 if folder or executable else 0o644, kind=b"5" if folder else b"0")
    return (pax(records) if records else b"") + ustar


def listing(files: Sequence[File]) -> bytes:
    """The lines of files, in the order given. The line of a file with an empty path has none."""
    lines = []
    for file in files:
        line: dict[str, Any] = {"path": file.path} if file.path else {}
        if not file.path.endswith("/"):
            line["mode"] = "0755" if file.executable else "0644"
            line["sha256"] = hashlib.sha256(file.content).hexdigest()
            line["size"] = len(file.content)
        lines.append(canonical(line) + b"\n")
    return b"".join(lines)


def tree_digest(files: Sequence[File]) -> str:
    """The tree digest of SPEC.md, also of files that cannot be a tree: the last of two files with one path counts."""
    root: dict[str, Any] = {}
    for file in files:
        *parents, name = file.path.removesuffix("/").split("/")
        folder = root
        for parent in parents:
            below = folder.setdefault(parent, {})
            if not isinstance(below, dict):
                below = folder[parent] = {}
            folder = below
        folder[name] = {} if file.path.endswith("/") else file.content
    return _folder(root)[0]


def _folder(folder: Mapping[str, Any]) -> tuple[str, int]:
    entries = []
    for name in sorted(folder, key=lambda name: name.encode(errors="surrogatepass")):
        below = folder[name]
        if isinstance(below, dict):
            digest, size = _folder(below)
        else:
            digest, size = _digest(below), len(below)
        kind = "folder" if isinstance(below, dict) else "file"
        entries.append({"digest": digest, "name": name, "size": size, "type": kind})
    document = json.dumps(
        {"entries": entries, "schema": "ctxpack/tree/v1", "type": "folder"},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode(errors="surrogatepass")
    return _digest(document), len(document)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def manifest(
    files: Sequence[File],
    *,
    lines: bytes | None = None,
    listed: Mapping[str, bytes] | None = None,
    roots: Sequence[tuple[str, str]] = (("outputs", "folder"),),
    contract: Any = None,
    outputs: Mapping[str, Any] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """The manifest of files, as a value.

    listed: content of the other listings and texts, by path, in order. outputs, members: replace the right members of
    outputs and of the manifest.
    """
    contract = CONTRACT if contract is None else contract
    lines = listing(files) if lines is None else lines
    listings = {"files.jsonl": lines, **(listed or {})}
    totals = {
        "digest": tree_digest(files),
        "empty_folders": sum(file.path.endswith("/") for file in files),
        "files": sum(not file.path.endswith("/") for file in files),
        "roots": [{"name": name, "type": kind} for name, kind in roots],
        "size": sum(len(file.content) for file in files),
    }
    return {
        "contract": contract,
        "listings": [{"digest": _digest(data), "path": path, "size": len(data)} for path, data in listings.items()],
        "outputs": totals | dict(outputs or {}),
        "provenance": {},
        "schema": "ctxpack/pack/v1",
        "uri": "ctx://" + _digest(canonical(contract)),
    } | members


def forge(
    files: Sequence[File],
    *,
    lines: bytes | None = None,
    listed: Mapping[str, bytes] | None = None,
    manifest_bytes: bytes | None = None,
    **changes: Any,
) -> list[Member]:
    """The members of the pack of files, in archive order; the end comes with stream().

    lines: files.jsonl as it is to be. manifest_bytes: manifest.json as it is to be. listed, changes: see manifest().
    """
    lines = listing(files) if lines is None else lines
    if manifest_bytes is None:
        manifest_bytes = canonical(manifest(files, lines=lines, listed=listed, **changes))
    members = [Member(right_header("manifest.json", len(manifest_bytes)), manifest_bytes)]
    members.append(Member(right_header("files.jsonl", len(lines)), lines))
    for path, data in (listed or {}).items():
        members.append(Member(right_header(path, len(data)), data))
    members.append(Member(right_header("artifacts/", 0)))
    for file in files:
        name = f"artifacts/{file.path}"
        members.append(Member(right_header(name, len(file.content), executable=file.executable), file.content))
    return members


def stream(members: Sequence[Member], *, end: bytes = END) -> bytes:
    """The tar stream of members."""
    return b"".join(member.encoded() for member in members) + end
