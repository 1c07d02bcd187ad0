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

from ctxpack_identity import (
    Resolution,
    canonical_json,
    digest_of,
    hash_tree,
    hex_of,
    parse_canonical_contract,
    parse_contract_file,
    parse_json,
    resolve,
    uri_for,
    with_command,
)
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.gitignore import gitignored
from ctxpack_identity.items import Item, check_places, item_contract, items_of
from ctxpack_identity.rules import Each
from ctxpack_identity.tree import Tree, TreeEntry, tree_digest

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
        tree = hash_nodes(case, folder)
    return {"kind": tree.kind, "files": tree.files, "bytes": tree.size, "digest": tree.digest}


def hash_nodes(case: Case, folder: str) -> Tree:
    """Return the tree of a case, whose nodes are in this folder."""
    root = os.path.join(folder, case["root"]) if "root" in case else folder
    patterns = case.get("exclude", [])
    excludes = compile_excludes(patterns) if patterns else None
    if "gitignore" in case:
        excludes = gitignored(root, os.path.join(folder, case.get("base", "")), before=[], after=patterns)
    follow = case.get("symlinks") == "follow"
    return hash_tree(root, excludes=excludes, follow=follow, files_only="gitignore" in case)


def answer_listing(case: Case) -> Case:
    return {"digest": tree_digest(entries(case))}


def entries(case: Case) -> list[TreeEntry]:
    """Return the entries of a listing."""
    return [TreeEntry(e["path"], e.get("size", 0), e.get("sha256", "")) for e in case["entries"]]


def answer_contract(case: Case) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        make_nodes(case["nodes"], folder)
        resolution = resolved(case, folder)
    shown = {} if "repeat" in case else {"canonical": resolution.canonical.decode()}
    return {**shown, "uri": resolution.uri}


def resolved(case: Case, folder: str) -> Resolution:
    """Return the resolution of a case's contract file, which lies in folder."""
    contract = parse_contract_file(document(case, "contract"))
    if "given_command" in case:
        contract = with_command(contract, case["given_command"])
    packs = case.get("packs")
    pack_outputs = packs.__getitem__ if packs is not None else None
    return resolve(contract, folder, pack_outputs=pack_outputs, environ=case.get("environ", {}))


def answer_items(case: Case) -> Case:
    contract = parse_canonical_contract(case["contract"].encode())
    items = items_of_case(case)
    check_places(items)
    uris = [uri_for(digest_of(item_contract(contract, item.digest))) for item in items]
    return {"items": [{**item._asdict(), "uri": uri} for item, uri in zip(items, uris, strict=True)]}


def items_of_case(case: Case) -> list[Item]:
    """Return the items of a case's map contract, over a listing in canonical order."""
    each = Each(**parse_canonical_contract(case["contract"].encode())["each"])
    return list(items_of(each, entries(case)))


ANSWERS: dict[tuple[str, str], Callable[[Case], Case]] = {
    ("digest.json", "of_bytes"): answer_bytes,
    ("canonical-json.json", "valid"): answer_json,
    ("tree.json", "valid"): answer_tree,
    ("tree.json", "listings"): answer_listing,
    ("contract.json", "valid"): answer_contract,
    ("items.json", "valid"): answer_items,
}


def main() -> int:
    """Add missing answers. Return 1, and change nothing, when an existing answer differs."""
    changed: list[str] = []
    files = {name: load(name) for name, _ in ANSWERS}
    incomplete = set()
    for (name, section), answer in ANSWERS.items():
        for case in files[name][section]:
            given = answer(case)
            if given.keys() - case.keys():
                incomplete.add(name)
            changed += [
                f"{name}: {case['name']}: {key}" for key in given if case.setdefault(key, given[key]) != given[key]
            ]
    if changed:
        print("these answers differ; a changed vector is a changed version:", *changed, sep="\n  ", file=sys.stderr)
        return 1
    for name in sorted(incomplete):
        with open(os.path.join(HERE, name), "w", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(files[name], indent=2) + "\n")  # ASCII only: no editor can normalise a name
    return 0


if __name__ == "__main__":
    sys.exit(main())
