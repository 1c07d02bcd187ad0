"""Keys of the vectors, a claim that uses every member, and policies: made once, shared by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity import CtxUri, Digest, digest_of, uri_for
from ctxpack_trust import (
    Claim,
    Dependency,
    OutputRoot,
    PrivateKey,
    Source,
    Tool,
    parse_private_key,
)

__all__ = ["CLAIM", "EVERYTHING", "IMAGE", "KEYS", "URI", "cases", "claim_of", "key", "vectors"]

VECTORS = Path(__file__).parent.with_name("vectors")


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def cases(name: str, kind: str) -> list[Any]:
    return [pytest.param(case, id=case["what"]) for case in vectors(name)[kind]]


KEYS: dict[str, PrivateKey] = {
    case["name"]: parse_private_key(case["private"][0]["pem"].encode(), None, where=case["name"])
    for case in vectors("keys.json")["valid"]
}

IMAGE = digest_of(b"image manifest")
URI = uri_for(digest_of(b"contract"))

CLAIM = Claim("run", URI, IMAGE, digest_of(b"outputs"), (OutputRoot("out", "folder"),), digest_of(b"manifest.json"))
EVERYTHING = CLAIM._replace(
    roots=(OutputRoot("index", "folder"), OutputRoot("read.me", "file")),
    tools=(Tool("t", "1", '{"n":1.5}'), Tool("u", "", "")),
    dependencies=(Dependency("inputs/src", digest_of(b"src")), Dependency("code/0/item.sh", digest_of(b"sh"))),
    sources=(
        Source(digest_of(b"image 1"), ("own",)),
        Source(digest_of(b"image 2"), (KEYS["p256"].public.key_id, KEYS["ed25519"].public.key_id)),
    ),
    version="0.1.0",
    finished="2026-11-26T12:00:00Z",
    invocation="https://ci.example/7",
)


def key(name: str) -> PrivateKey:
    return KEYS[name]


def claim_of(members: dict[str, Any]) -> Claim:
    """Return the claim that a vector writes as JSON."""
    digests = {name: Digest(members[name]) for name in ("image", "outputs", "pack")}
    return Claim(
        kind=members["kind"],
        uri=CtxUri(members["uri"]),
        **digests,
        roots=tuple(OutputRoot(*root) for root in members["roots"]),
        tools=tuple(Tool(*tool) for tool in members.get("tools", ())),
        dependencies=tuple(Dependency(name, Digest(digest)) for name, digest in members.get("dependencies", ())),
        sources=tuple(Source(Digest(image), tuple(keys)) for image, keys in members.get("sources", ())),
        **{name: members.get(name, "") for name in ("version", "finished", "invocation")},
    )
