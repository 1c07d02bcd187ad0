"""The items of a map: which there are, the contract of each, and where its result lies. SPEC.md, section 9."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from ctxpack_identity.canonical import canonical_json
from ctxpack_identity.contract import ITEM_SCHEMA, MAP_SCHEMA
from ctxpack_identity.digest import Digest, digest_from_hex, digest_of, hex_of
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_identity.packpath import check_path
from ctxpack_identity.rules import Each
from ctxpack_identity.template import PathParts, fill_template, split_path
from ctxpack_identity.tree import FolderDigest, TreeEntry, tree_of_one
from ctxpack_identity.uri import CtxUri, uri_for

__all__ = ["Item", "ItemContracts", "check_places", "item_contract", "items_of", "places_in_order"]

_DIGITS = 64  # of a SHA-256


class Item(NamedTuple):
    """One member of the input that a map goes over. path: in the input; output: where its result lies."""

    path: str
    digest: Digest
    output: str


def items_of(each: Each, entries: Iterable[TreeEntry]) -> Iterator[Item]:
    """Yield the items of an input in canonical order. entries: its listing, in that order. Raises: InvalidInput."""
    if each.of == "files":
        for entry in entries:
            if not entry.is_empty_folder:
                yield _item(each, split_path(entry.path), [entry])
        return
    for name, group in groupby(entries, lambda entry: entry.path.partition("/")[0]):
        members = list(group)
        yield _item(each, split_path(name, folder="/" in members[0].path), members)


def item_contract(contract: Mapping[str, Any], digest: Digest) -> bytes:
    """Return the canonical contract of the item with this digest. contract: the value of a canonical map contract."""
    assert contract["schema"] == MAP_SCHEMA
    inputs = {**contract["inputs"], contract["each"]["input"]: {"digest": digest}}
    return canonical_json({**contract, "schema": ITEM_SCHEMA, "inputs": inputs})


class ItemContracts:
    """The contracts of all items of a map contract: they differ in one digest only, so each is cheap to name.

    contract: the value of a canonical map contract. common: a digest of what the contracts share.
    """

    def __init__(self, contract: Mapping[str, Any]) -> None:
        one, other = (item_contract(contract, digest_from_hex(digit * _DIGITS)) for digit in "01")
        start = next(place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        self._head, self._tail = one[:start], one[start + _DIGITS :]
        self._begun = hashlib.sha256(self._head)
        self.common = digest_of(one)

    def contract(self, digest: Digest) -> bytes:
        """Return the canonical contract of the item with this digest, as item_contract does."""
        return self._head + hex_of(digest).encode() + self._tail

    def uri(self, digest: Digest) -> CtxUri:
        """Return the URI of the item with this digest."""
        sha256 = self._begun.copy()
        sha256.update(hex_of(digest).encode() + self._tail)
        return uri_for(digest_from_hex(sha256.hexdigest()))


def check_places(items: Iterable[Item]) -> None:
    """Check that each result has a place of its own that a pack may hold. Raises: InvalidInput, naming the items."""
    found = list(items)
    places_in_order([item.path for item in found], [item.output for item in found])


def places_in_order(paths: Sequence[str], outputs: Sequence[str]) -> list[int]:
    """Return the numbers of the items in the canonical order of their results, each of which has a place of its own.

    paths, outputs: of each item. Raises: InvalidInput when a pack may not hold a result there, or results collide.
    """
    keys = []  # a slash comes before every character that a path may have
    for number, output in enumerate(outputs):
        _check_place(paths, number, output)
        keys.append(output.replace("/", "\0"))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    for first, second in pairwise(order):
        one, other = keys[first], keys[second]
        if other == one or other.startswith(f"{one}\0"):
            raise InvalidInput(
                "the results of two items have one place" if one == other else "one result lies below another",
                where=f"items {paths[first]!r} and {paths[second]!r}",
                got=f"{outputs[first]!r} and {outputs[second]!r}",
                fix='give each its own, for example "output": "{path}.json"',
                code="E_EACH",
            )
    return order


def _check_place(paths: Sequence[str], number: int, output: str) -> None:
    what = "it ends in a slash" if output.endswith("/") else ""
    try:
        check_path(output)
    except InvalidInput as error:
        what = error.what
    if what:
        raise InvalidInput(
            f"the result of an item cannot lie there: {what}",
            where=f"item {paths[number]!r}",
            got=repr(output),
            fix="change /each/output, or rename the item",
            code="E_PATH",
        )


def _item(each: Each, parts: PathParts, entries: list[TreeEntry]) -> Item:
    name = parts.path if each.by == "path" else f"item{parts.suffix}"
    [*_, last] = entries
    if last.path == parts.path:
        digest = tree_of_one(name, last.sha256, last.size)
    else:
        folder = FolderDigest()
        for entry in entries:
            folder.add(entry._replace(path=name + entry.path[len(parts.path) :]))
        digest = folder.finish()
    return Item(parts.path, digest, fill_template(each.output, parts))
