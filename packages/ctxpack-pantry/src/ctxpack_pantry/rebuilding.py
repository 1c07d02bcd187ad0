"""Rebuild: the recipe of a pack is run again in a fresh folder, and what it makes is compared with the pack, exactly.

The fresh folder holds what the contract names (`projectcopy`), beside an empty cache, so that nothing that was made
before is taken: of a map, all items are made. It lies in a staging folder of the cache; the user's outputs stay as they
are. What programs keep elsewhere, as in the home folder, is there as in any run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ctxpack_bundle import ARTIFACTS, PackManifest, read_entries, read_pack_manifest
from ctxpack_bundle.order import comes_first
from ctxpack_bundle.packmanifest import FILES
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, Digest, InvalidInput, LocalFailure, TreeEntry, uri_digest
from ctxpack_identity.contractfile import InputSource, TreeSource
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_identity.hashing.workers import usable_cpus
from ctxpack_oci import Target
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.execution import Ended, offered_contract
from ctxpack_pantry.filechanges import FEW, FileChanges, merge
from ctxpack_pantry.identified import Identified
from ctxpack_pantry.identify import identify
from ctxpack_pantry.makers import CommandMaker, Order
from ctxpack_pantry.making import make
from ctxpack_pantry.outlet import Outlet
from ctxpack_pantry.outputs import require_apart, require_outputs
from ctxpack_pantry.place import hold
from ctxpack_pantry.policyfile import NO_TRUST
from ctxpack_pantry.projectcopy import ProjectCopy, copy_project
from ctxpack_pantry.tolerance import Nearness, Tolerances, compare_files

__all__ = ["Compared", "NearFile", "Rebuilt", "Recipe", "compare", "read_recipe", "rebuild"]

_MOST_JOBS = 8  # commands of a map at a time, as for `map`


class Recipe(NamedTuple):
    """What is run again. identified: as it is now. command: the contract's, or one that it does not say."""

    contract_file: LoadedContractFile
    identified: Identified
    command: tuple[str, ...]


class NearFile(NamedTuple):
    """A file whose numbers differ within the tolerance. numbers: how many; largest: the largest absolute difference."""

    path: str
    numbers: int
    largest: float


class Compared(NamedTuple):
    """The outputs of a pack, and those that were made again.

    equal: whether files, executable bits and roots are the same. outputs: digest of what was made again. roots: of what
    was made again, if they differ. changes: files that differ beyond a tolerance; modes: files whose executable bits
    alone do. near: files that differ within the tolerance, the first of them; near_count, largest: of all of them.
    why_not: the first reason why a file is not near, "" without a tolerance.
    """

    equal: bool
    outputs: Digest
    roots: tuple[tuple[str, str], ...] = ()
    changes: FileChanges | None = None
    modes: tuple[str, ...] = ()
    near: tuple[NearFile, ...] = ()
    near_count: int = 0
    largest: float = 0.0
    why_not: str = ""

    @property
    def is_near(self) -> bool:
        """Whether all that differs does so within the tolerance."""
        differ = self.changes is not None and self.changes.number
        return not self.equal and not (differ or self.modes or self.roots)


class Rebuilt(NamedTuple):
    """A recipe that was run again. status: of its command; compared: None unless that is 0.

    not_copied: what the command found where it is, and not in the fresh folder. tolerant: whether a tolerance was
    given.
    """

    status: int
    compared: Compared | None
    not_copied: tuple[str, ...]
    tolerant: bool = False

    @property
    def equal(self) -> bool:
        return self.compared is not None and self.compared.equal

    def as_json(self) -> dict[str, Any]:
        compared = self.compared
        document: dict[str, Any] = {
            "status": self.status,
            "equal": self.equal,
            "outputs": None if compared is None else compared.outputs,
            "not_copied": list(self.not_copied),
        }
        if compared is None or compared.equal:
            return document
        if compared.changes is not None:
            document["files"] = compared.changes.as_json()
        document["modes"] = list(compared.modes)
        document["roots"] = [{"name": name, "type": kind} for name, kind in compared.roots]
        if self.tolerant:
            document["tolerance"] = {
                "within": compared.is_near,
                "count": compared.near_count,
                "largest": compared.largest,
                "files": [near._asdict() for near in compared.near],
                "why_not": compared.why_not or None,
            }
        return document


def read_recipe(
    context: Context, contract_file: LoadedContractFile, uri: CtxUri, command: Sequence[str] = ()
) -> Recipe:
    """Return what makes the pack of uri, by the contract file.

    command: the contract's, where the contract file has none; or one that the contract leaves undeclared.
    Raises: InvalidInput when the contract is that of another URI, or says of no command, or of no output; as identify
    does.
    """
    given = contract_file.with_command(command)
    require_outputs(given)
    identified = identify(context, given)
    if identified.uri != uri and given.file.command != contract_file.file.command:
        undeclared = identify(context, contract_file)
        if undeclared.uri == uri:
            return Recipe(contract_file, undeclared, tuple(command))
    if identified.uri != uri:
        raise InvalidInput(
            "the contract file makes another pack",
            where=contract_file.path,
            expected=uri,
            got=identified.uri,
            fix=f"`ctxpack explain {contract_file.path} {uri}` says what differs",
            code="E_REBUILD",
        )
    words = given.file.command
    if words is None:
        raise InvalidInput(
            "no command",
            where=f"{contract_file.path}, /command",
            fix="give the one that the pack was made with: ctxpack verify URI --rebuild -- COMMAND",
            code="E_COMMAND",
        )
    if len(words) == 2 and words[0] == "python" and ":" in words[1]:
        raise InvalidInput(
            "the pack is that of a Python function, which no command runs",
            where=f"{contract_file.path}, /command",
            got=words[1],
            fix="call the function again with an empty cache, and compare what `ctxpack inspect` says of both",
            code="E_REBUILD",
        )
    return Recipe(given, identified, words)


def rebuild(
    context: Context,
    recipe: Recipe,
    folder: str,
    manifest: PackManifest,
    *,
    tolerances: Tolerances | None = None,
    limit: int = FEW,
) -> Rebuilt:
    """Run a recipe in a fresh folder, and compare what it makes with the pack in folder, which was verified.

    manifest: of that pack. tolerances: see `tolerance`. limit: files of a kind that are shown.
    Raises: InvalidInput (E_REBUILD) for what no fresh folder can hold, and when the command does not make its outputs
    or changes its inputs; as execute does; LocalFailure.
    """
    with context.cache.staging() as staging:
        copy = copy_project(
            recipe.contract_file, recipe.identified.hashed, staging, lambda count: context.progress("copy", count, None)
        )
        fresh = _fresh(context, staging)
        with fresh:
            copied = _without_packs(context, copy, recipe)
            identified = identify(fresh, copied)
            if identified.uri != recipe.identified.uri:
                raise InvalidInput(
                    "the copy of the project has another URI: it changed meanwhile, or depends on its place",
                    where=recipe.contract_file.path,
                    expected=recipe.identified.uri,
                    got=identified.uri,
                    fix="run it again when nothing writes to the project",
                    code="E_REBUILD",
                )
            status = _run(fresh, copied, identified, recipe)
            if status:
                return Rebuilt(status, None, copy.not_copied, tolerances is not None)
            made = fresh.cache.find(uri_digest(identified.uri))
            assert made is not None
            compared = compare(folder, manifest, made, read_pack_manifest(made), tolerances=tolerances, limit=limit)
        return Rebuilt(0, compared, copy.not_copied, tolerances is not None)


def compare(
    folder: str,
    manifest: PackManifest,
    other_folder: str,
    other: PackManifest,
    *,
    tolerances: Tolerances | None = None,
    limit: int = FEW,
) -> Compared:
    """Return whether the outputs of two packs are the same: contents, executable bits and roots.

    Raises: IntegrityError for a damaged listing; LocalFailure.
    """
    roots = tuple((root.name, root.type) for root in other.outputs.roots)
    same_roots = manifest.outputs.roots == other.outputs.roots
    if same_roots and _files_digest(manifest) == _files_digest(other):
        return Compared(True, other.outputs_digest)
    near = _Near(folder, other_folder, manifest, tolerances, limit)
    changes = merge(read_entries(folder), near.judged(read_entries(folder), read_entries(other_folder)), limit=limit)
    return Compared(
        False,
        other.outputs_digest,
        () if same_roots else roots,
        changes,
        tuple(near.modes),
        tuple(near.files),
        near.count,
        near.largest,
        near.why_not,
    )


class _Near:
    """The files that differ and are near, and those of which only the executable bits differ."""

    def __init__(
        self, folder: str, other: str, manifest: PackManifest, tolerances: Tolerances | None, limit: int
    ) -> None:
        self._folder, self._other, self._limit = folder, other, limit
        self._tolerances, self._outputs = tolerances, manifest.outputs
        self.modes, self.files = list[str](), list[NearFile]()
        self.count, self.largest, self.why_not = 0, 0.0, ""

    def judged(self, old: Iterator[TreeEntry], new: Iterator[TreeEntry]) -> Iterator[TreeEntry]:
        """Yield the new entries, but in place of a file that is near, the old one."""
        for one, now in _with_old(old, new):
            if one is None:
                yield now
            elif (one.sha256, one.size) != (now.sha256, now.size):
                yield one if self._is_near(one, now) else now
            else:
                if one.executable != now.executable and len(self.modes) < self._limit:
                    self.modes.append(now.path)
                yield now

    def _is_near(self, one: TreeEntry, other: TreeEntry) -> bool:
        value = None if self._tolerances is None else self._tolerances.of(self._output(one.path))
        if value is None or one.executable != other.executable:
            return False
        path = os.path.join(ARTIFACTS, one.path)
        try:
            found = compare_files(os.path.join(self._folder, path), os.path.join(self._other, path), value)
        except OSError as error:
            raise LocalFailure(f"cannot be compared: {error.strerror}", where=one.path) from error
        if found.reason:
            self.why_not = self.why_not or f"{one.path}: {found.reason}"
            return False
        self._note(one, found)
        return True

    def _note(self, one: TreeEntry, found: Nearness) -> None:
        self.count += 1
        self.largest = max(self.largest, found.largest)
        if len(self.files) < self._limit:
            self.files.append(NearFile(one.path, found.numbers, found.largest))

    def _output(self, path: str) -> str:
        roots = self._outputs.roots
        return path.partition("/")[0] if self._outputs.nested else roots[0].name


def _with_old(old: Iterator[TreeEntry], new: Iterator[TreeEntry]) -> Iterator[tuple[TreeEntry | None, TreeEntry]]:
    """Yield the new entries, each with the old one at the same path; both are in canonical order."""
    one = next(old, None)
    for now in new:
        while one is not None and one.path != now.path and comes_first(one.path, now.path):
            one = next(old, None)
        if one is not None and one.path == now.path:
            yield one, now
            one = next(old, None)
        else:
            yield None, now


def _files_digest(manifest: PackManifest) -> Digest:
    """Return the digest of a pack's files.jsonl, which has contents, paths and executable bits."""
    [listing] = [listing for listing in manifest.listings if listing.path == FILES]
    return listing.digest


def _fresh(context: Context, staging: str) -> Context:
    """Return the circumstances in which a recipe is run again: an empty cache, no registry, and nobody's record."""

    def no_registry() -> Target:
        raise LocalFailure("no registry is asked while a recipe is run again", where=staging)

    cache = Cache(os.path.join(os.path.abspath(staging), "cache"))
    return context._replace(
        cache=cache,
        open_target=no_registry,
        known=StatCache(os.path.join(cache.side("hashes"), "index.db")),
        policy=None,
        state=os.path.join(os.path.abspath(staging), "state"),
        registry="",
        trust=NO_TRUST,
        consent=None,
        offline=True,
    )


def _without_packs(context: Context, copy: ProjectCopy, recipe: Recipe) -> LoadedContractFile:
    """Return the contract file of the copy with digests in place of packs; the pack that a map goes over is a folder.

    Raises: as Outlet.take does, for that pack.
    """
    file, each = copy.contract_file.file, copy.contract_file.file.each
    digests = {resolved.name: resolved.digest for resolved in recipe.identified.inputs}
    inputs = []
    for given in file.inputs:
        if given.uri is None:
            inputs.append(given)
        elif each is not None and given.name == each.input:
            place = os.path.abspath(os.path.join(Outlet(context, given.uri).take(lambda folder: folder), ARTIFACTS))
            inputs.append(InputSource(given.name, source=TreeSource(place)))
        else:
            inputs.append(InputSource(given.name, digest=digests[given.name]))
    return copy.contract_file._replace(file=file._replace(inputs=tuple(inputs)))


class _FreshCommand(NamedTuple):
    """A Maker: the contract's command, in the copy."""

    command: Sequence[str]

    @property
    def what(self) -> str:
        return "command"

    def make(self, order: Order) -> Ended:
        """Run the command as `run` does. Raises: as execute does, but with what it may lack here."""
        try:
            return CommandMaker(self.command, variables=_place_of(order.contract_file.base)).make(order)
        except InvalidInput as error:
            raise InvalidInput(
                error.what,
                where=error.where,
                fix=f"{error.fix}; the fresh folder has only what the contract names, so let PATH lead to programs",
                code=error.code,
            ) from error


def _run(fresh: Context, copied: LoadedContractFile, identified: Identified, recipe: Recipe) -> int:
    """Run the recipe in the copy, which becomes a pack of the fresh cache; return the status of the command."""
    outputs = require_outputs(copied)
    require_apart(copied, outputs, identified.hashed, fresh.cache)
    command = recipe.command
    if copied.file.each is None:
        with hold(fresh, [tree.location for tree in outputs.values()]) as held:
            return make(
                fresh,
                copied,
                identified,
                outputs,
                _FreshCommand(command),
                held=held,
                force=False,
                keep_outputs=False,
                replace=False,
            )
    from ctxpack_pantry.items.making import ItemCommand
    from ctxpack_pantry.items.mapped import Making

    [tree] = outputs.values()
    making = Making(fresh, copied, identified, tree, force=False)
    with offered_contract(fresh.cache, identified.uri, identified.canonical) as of_map:
        variables = {**_place_of(copied.base), **identified.contract["variables"]}
        jobs = min(_MOST_JOBS, usable_cpus())
        mapped = making.make(ItemCommand(command, copied.base, variables, of_map, jobs=jobs))
    for item in mapped.failed[:1]:
        fresh.notice(f"failed: {item.path}: {item.reason}")
    return mapped.status


def _place_of(folder: str) -> dict[str, str]:
    """Return the variables of a shell that works in folder: those of ours lead to the user's project."""
    return {"PWD": folder, "OLDPWD": folder}
