"""What differs between two contracts, as data: `explain` adds what differs between their files.

A contract of any schema can be compared: what is not as expected is compared as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ctxpack_identity import CtxUri
from ctxpack_identity.canonical import pointer
from ctxpack_pantry.filechanges import FileChanges
from ctxpack_pantry.jsonchanges import ABSENT, Change, json_changes
from ctxpack_pantry.lockedpackages import PackageChange

__all__ = ["Difference", "Explained", "InputDifference", "RootDifference", "Side", "TransformDifference", "compare"]

_WHOLE: Final = ("command", "outputs")  # shown whole: a word that is inserted changes all elements behind it
_HASHED: Final = ("code", "environment")


class RootDifference(NamedTuple):
    """An input, code or environment, or the outputs, that differ.

    old, new: digest, or a word such as "opaque"; None where it is not there. old_root, new_root: names of the listings.
    files: what differs between the listings; None where one is missing: unlisted says of which side, "old" or "new".
    packages: of two lock files, None where they are not understood.
    """

    old: str | None
    new: str | None
    old_root: str
    new_root: str
    files: FileChanges | None = None
    unlisted: tuple[str, ...] = ()
    packages: tuple[PackageChange, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "old": self.old,
            "new": self.new,
            "files": None if self.files is None else self.files.as_json(),
            "unlisted": list(self.unlisted),
            "packages": None if self.packages is None else [package.as_json() for package in self.packages],
        }


class InputDifference(NamedTuple):
    """An input that differs."""

    name: str
    root: RootDifference

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, **self.root.as_json()}


class TransformDifference(NamedTuple):
    """A transform that differs. old, new: its index, None where it is not there. tool: the new one, if there is one.

    changes: of tool, version, params and what else it has; pointers start at the transform.
    """

    tool: str
    old: int | None
    new: int | None
    changes: tuple[Change, ...] = ()
    code: RootDifference | None = None
    environment: RootDifference | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "tool": self.tool,
            "old": self.old,
            "new": self.new,
            "changes": [change.as_json() for change in self.changes],
            "code": None if self.code is None else self.code.as_json(),
            "environment": None if self.environment is None else self.environment.as_json(),
        }


class Difference(NamedTuple):
    """What differs between two contracts. changes: of all members but inputs and transforms."""

    transforms: tuple[TransformDifference, ...] = ()
    inputs: tuple[InputDifference, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def members(self) -> int:
        """The number of members that differ: of the contract, each input, and each transform's."""
        of_transforms = sum(
            max(1, len(_first_tokens(one.changes)) + (one.code is not None) + (one.environment is not None))
            for one in self.transforms
        )
        return of_transforms + len(self.inputs) + len(_first_tokens(self.changes))


class Side(NamedTuple):
    """One of the two that are compared. found_in: folder of the cache, registry, or the contract file's path."""

    uri: CtxUri
    found_in: str
    is_contract_file: bool = False

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


class Explained(NamedTuple):
    """Why two URIs differ, or two packs of one URI. outputs: compared only when the URIs are equal.

    nearest: whether the old side was looked for, and not named.
    """

    old: Side
    new: Side
    difference: Difference
    outputs: RootDifference | None = None
    nearest: bool = False

    def as_json(self) -> dict[str, Any]:
        transforms, inputs, changes = self.difference
        return {
            "schema": "ctxpack/explain/v1",
            "old": self.old.as_json(),
            "new": self.new.as_json(),
            "nearest": self.nearest,
            "transforms": [one.as_json() for one in transforms],
            "inputs": [one.as_json() for one in inputs],
            "changes": [change.as_json() for change in changes],
            "outputs": None if self.outputs is None else self.outputs.as_json(),
        }


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Return what differs between two contracts; files and packages are not filled in."""
    old_transforms, new_transforms = _transforms(old), _transforms(new)
    transforms: tuple[TransformDifference, ...] = ()
    names = old.keys() | new.keys()
    if old_transforms is not None and new_transforms is not None:
        transforms = tuple(_differing(old_transforms, new_transforms))
        names -= {"transforms"}
    inputs = tuple(_inputs(_object(old, "inputs"), _object(new, "inputs")))
    changes = [change for name in sorted(names) for change in _member(name, old, new)]
    return Difference(transforms, inputs, tuple(changes))


def _member(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    before, after, at = old.get(name, ABSENT), new.get(name, ABSENT), pointer("", name)
    if name == "inputs":
        before, after = _without_digests(before), _without_digests(after)
    if name not in _WHOLE:
        yield from json_changes(before, after, at)
    elif any(True for _ in json_changes(before, after)):
        yield Change(at, before, after)


def _inputs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[InputDifference]:
    for name in sorted(old.keys() | new.keys()):
        before, after = _digest(old.get(name)), _digest(new.get(name))
        if before != after:
            yield InputDifference(name, RootDifference(before, after, f"inputs/{name}", f"inputs/{name}"))


def _without_digests(inputs: Any) -> Any:
    """Return what of inputs is not compared by digest: in the contracts known here, nothing."""
    if not isinstance(inputs, dict):
        return inputs
    rest = {}
    for name, item in inputs.items():
        if _digest(item) is None:
            rest[name] = item
        elif len(item) > 1:
            rest[name] = {member: value for member, value in item.items() if member != "digest"}
    return rest


def _differing(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[TransformDifference]:
    """Yield the transforms that differ, or that come in another order."""
    pairs = _paired([_tool(one) for one in old], [_tool(one) for one in new])
    in_both = [(before, after) for before, after in pairs if before is not None and after is not None]
    in_order = in_both == sorted(in_both, key=lambda pair: pair[0])
    for before, after in pairs:
        one = _transform(old, before, new, after)
        moved = before != after and not in_order
        if moved or before is None or after is None or one.changes or one.code or one.environment:
            yield one


def _paired(old: list[str], new: list[str]) -> list[tuple[int | None, int | None]]:
    """Return which transforms are compared, by index: those at one place with one tool, then equal tools, then places.

    Sorted by the new index; those that were removed come last.
    """
    matches: dict[int, int] = {index: index for index, tool in enumerate(new[: len(old)]) if old[index] == tool}
    free = [index for index in range(len(old)) if index not in matches]
    by_tool: dict[str, list[int]] = {}
    for index in reversed(free):
        by_tool.setdefault(old[index], []).append(index)
    for index, tool in enumerate(new):
        if index not in matches and by_tool.get(tool):
            matches[index] = by_tool[tool].pop()
    taken = set(matches.values())
    for index in free:
        if index not in taken and index < len(new) and index not in matches:
            matches[index] = index
            taken.add(index)
    pairs: list[tuple[int | None, int | None]] = [(matches.get(index), index) for index in range(len(new))]
    return pairs + [(index, None) for index in range(len(old)) if index not in taken]


def _transform(
    old: list[dict[str, Any]], before: int | None, new: list[dict[str, Any]], after: int | None
) -> TransformDifference:
    was = {} if before is None else old[before]
    now = {} if after is None else new[after]
    roots = {kind: _root(kind, was, before, now, after) for kind in _HASHED}
    hashed = {f"{kind}_hash" for kind, root in roots.items() if root is not None}
    changes = [
        change
        for name in sorted(was.keys() | now.keys(), key=_transform_order)
        if name not in hashed
        for change in json_changes(was.get(name, ABSENT), now.get(name, ABSENT), pointer("", name))
    ]
    return TransformDifference(_tool(now or was), before, after, tuple(changes), roots["code"], roots["environment"])


def _root(
    kind: str, was: dict[str, Any], before: int | None, now: dict[str, Any], after: int | None
) -> RootDifference | None:
    """Return code or environment of a transform, if it differs and is a text where it is there."""
    old, new = was.get(f"{kind}_hash"), now.get(f"{kind}_hash")
    if old == new or not isinstance(old, str | None) or not isinstance(new, str | None):
        return None
    return RootDifference(old, new, f"{kind}/{before}", f"{kind}/{after}")


def _transform_order(name: str) -> tuple[int, str]:
    first = ("params", "tool", "tool_version")
    return (first.index(name) if name in first else len(first)), name


def _transforms(contract: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the transforms, which may be missing; None when they are not an array of objects."""
    found = contract.get("transforms", [])
    is_known = isinstance(found, list | tuple) and all(isinstance(one, dict) for one in found)
    return list(found) if is_known else None


def _object(contract: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = contract.get(name)
    return found if isinstance(found, dict) else {}


def _digest(item: Any) -> str | None:
    digest = item.get("digest") if isinstance(item, dict) else None
    return digest if isinstance(digest, str) else None


def _tool(transform: Mapping[str, Any]) -> str:
    tool = transform.get("tool")
    return tool if isinstance(tool, str) else ""


def _first_tokens(changes: Iterable[Change]) -> set[str]:
    return {change.at.split("/")[1] for change in changes}
