"""The items of a map: which there are, the contract of each, and where its result lies. SPEC.md, section 9."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise

from ctxpack_identity.canonical import canonical_json
from ctxpack_identity.contract import ITEM_SCHEMA, MAP_SCHEMA
from ctxpack_identity.digest import Digest
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_identity.packpath import check_path
from ctxpack_identity.rules import Each
from ctxpack_identity.template import PathParts, fill_template, split_path
from ctxpack_identity.tree import FolderDigest, TreeEntry

__all__ = ["Item", "check_places", "item_contract", "items_of"]


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


def check_places(items: Iterable[Item]) -> None:
    """Check that each result has a place of its own that a pack may hold. Raises: InvalidInput, naming the items."""
    placed = []
    for item in items:
        _check_place(item)
        placed.append((item.output.split("/"), item))
    placed.sort(key=lambda place: place[0])
    for (one, first), (other, second) in pairwise(placed):
        if other[: len(one)] == one:
            raise InvalidInput(
                "the results of two items have one place" if one == other else "one result lies below another",
                where=f"items {first.path!r} and {second.path!r}",
                got=f"{first.output!r} and {second.output!r}",
                fix='give each its own, for example "output": "{path}.json"',
                code="E_EACH",
            )


def _check_place(item: Item) -> None:
    what = "it ends in a slash" if item.output.endswith("/") else ""
    try:
        check_path(item.output)
    except InvalidInput as error:
        what = error.what
    if what:
        raise InvalidInput(
            f"the result of an item cannot lie there: {what}",
            where=f"item {item.path!r}",
            got=repr(item.output),
            fix="change /each/output, or rename the item",
            code="E_PATH",
        )


def _item(each: Each, parts: PathParts, entries: list[TreeEntry]) -> Item:
    digest = FolderDigest()
    for entry in entries:
        if each.by == "content":
            rest = entry.path[len(parts.path) :]
            entry = entry._replace(path=f"item{parts.suffix}{rest}")
        digest.add(entry)
    return Item(parts.path, digest.finish(), fill_template(each.output, parts))
