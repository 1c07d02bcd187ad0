"""The answers of this implementation to test vectors. As a script, it adds the answers that new cases lack.

It never changes an existing answer: a changed vector is a changed version (SPEC.md, "Versions").
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from ctxpack_identity import canonical_json, digest_of, hash_tree, hex_of, parse_contract_file, parse_json, resolve
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.tree import TreeEntry, tree_digest

Case = dict[str, Any]

HERE = os.path.dirname(os.path.abspath(__file__))


def load(name: str) -> dict[str, Any]:
    """Return the vectors of one file of this folder."""
    with open(os.path.join(HERE, name), encoding="utf-8") as stream:
        content: dict[str, Any] = json.load(stream)
    return content


def document(case: Case, member: str = "input") -> bytes:
    """Return the bytes of a case's document: text, hexadecimal, or text in which a part is repeated."""
    if f"{member}_hex" in case:
        return bytes.fromhex(case[f"{member}_hex"])
    text: str = case[member]
    if "repeat" in case:
        part, times = case["repeat"]
        text = text.replace(part, part * times)
    return text.encode()


def make_nodes(nodes: list[Case], folder: str) -> None:
    """Make the files, folders, links and special files that nodes describe."""
    for node in nodes:
        name = bytes.fromhex(node["path_hex"]) if "path_hex" in node else node["path"].encode()
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(path if "folder" in node else os.path.dirname(path), exist_ok=True)
        if "symlink" in node:
            os.symlink(node["symlink"], path)
        elif "hardlink" in node:
            os.link(os.path.join(folder, node["hardlink"]), path)
        elif "fifo" in node or "socket" in node:
            os.mknod(path, 0o600 | (stat.S_IFIFO if "fifo" in node else stat.S_IFSOCK))
        elif "folder" not in node:
            with open(path, "wb") as stream:
                stream.write(content(node))
            os.chmod(path, 0o755 if node.get("executable") else 0o644)
        if "mtime" in node:
            os.utime(path, (node["mtime"], node["mtime"]))


def content(node: Case) -> bytes:
    """Return the bytes of a file node."""
    if "utf8" in node:
        return str(node["utf8"]).encode()
    return bytes.fromhex(node["hex"]) if "hex" in node else bytes.fromhex(node["repeat"]) * node["times"]


def answer_bytes(case: Case) -> Case:
    return {"digest": digest_of(bytes.fromhex(case["hex"]))}


def answer_json(case: Case) -> Case:
    data = canonical_json(parse_json(document(case)))
    shown = {} if "repeat" in case else {"output": data.decode()}
    return {**shown, "sha256": hex_of(digest_of(data))}


def answer_tree(case: Case) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        make_nodes(case["nodes"], folder)
        tree = hash_tree(
            os.path.join(folder, case["root"]) if "root" in case else folder,
            excludes=compile_excludes(case["exclude"]) if "exclude" in case else None,
            follow=case.get("symlinks") == "follow",
        )
    junk = {"junk": list(tree.junk)} if tree.junk else {}
    return {"kind": tree.kind, "files": tree.files, "bytes": tree.size, **junk, "digest": tree.digest}


def answer_listing(case: Case) -> Case:
    return {"digest": tree_digest(entries(case))}


def entries(case: Case) -> list[TreeEntry]:
    """Return the entries of a listing."""
    return [TreeEntry(e["path"], e.get("size", 0), e.get("sha256", "")) for e in case["entries"]]


def answer_contract(case: Case) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        make_nodes(case["nodes"], folder)
        contract = parse_contract_file(document(case, "contract"))
        packs = case.get("packs")
        resolution = resolve(contract, folder, pack_outputs=packs.__getitem__ if packs is not None else None)
    return {"canonical": resolution.canonical.decode(), "uri": resolution.uri}


ANSWERS: dict[tuple[str, str], Callable[[Case], Case]] = {
    ("digest.json", "of_bytes"): answer_bytes,
    ("canonical-json.json", "valid"): answer_json,
    ("tree.json", "valid"): answer_tree,
    ("tree.json", "listings"): answer_listing,
    ("contract.json", "valid"): answer_contract,
}


def main() -> int:
    """Add missing answers. Return 1, and change nothing, when an existing answer differs."""
    changed: list[str] = []
    files = {name: load(name) for name, _ in ANSWERS}
    for (name, section), answer in ANSWERS.items():
        for case in files[name][section]:
            given = answer(case)
            changed += [
                f"{name}: {case['name']}: {key}" for key in given if case.setdefault(key, given[key]) != given[key]
            ]
    if changed:
        print("these answers differ; a changed vector is a changed version:", *changed, sep="\n  ", file=sys.stderr)
        return 1
    for name, vectors in files.items():
        with open(os.path.join(HERE, name), "w", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(vectors, indent=2) + "\n")  # ASCII only: no editor can normalise a name
    return 0


if __name__ == "__main__":
    sys.exit(main())
