"""The workplace of a map: where commands find their item, and leave their result.

A result lies in a folder of its own (`Journal.place`): by path at the path that the
template gives, by content as ``out`` and the suffix of that path. So what an earlier process still writes is never in
the way of a later one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ctxpack_bundle import scan_branch
from ctxpack_bundle.copying import Copier
from ctxpack_bundle.copyqueue import FileCopy, copy_file
from ctxpack_identity import CtxPackError, CtxUri, Digest, FolderDigest, TreeEntry
from ctxpack_identity.disk import local_failure
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.items import ItemContracts
from ctxpack_identity.rules import Each
from ctxpack_identity.template import split_path
from ctxpack_pantry.items.journal import Journal
from ctxpack_pantry.items.remote import Content, Task
from ctxpack_pantry.items.results import Sealing, hash_result
from ctxpack_pantry.items.table import ItemTable

__all__ = ["FinishedResults", "InputFolder", "ItemFailed", "Job", "Workplace"]


class Job(NamedTuple):
    """One item to be made. number: of the item; item, out: paths, absolute but for an item in the contract's folder.

    contract: the path of its contract.
    """

    number: int
    uri: CtxUri
    item: str
    out: str
    contract: str


class ItemFailed(Exception):
    """An item that was not made. status: of its command, 1 where that did not fail. The text is the reason."""

    def __init__(self, reason: str, status: int = 1) -> None:
        super().__init__(reason)
        self.status = status


class FinishedResults:
    """Where one session left the results of items. A ResultSource; its places are the numbers of their folders."""

    def __init__(self, journal: Journal, session: str, each: Each) -> None:
        self._journal, self._each, self.session = journal, each, session

    @property
    def is_ours(self) -> bool:
        """Whether it is the session of this process."""
        return self.session == self._journal.session

    def location(self, place: int, output: str) -> str:
        return os.path.join(self._journal.place(self.session, place), result_name(self._each, output))


class InputFolder(NamedTuple):
    """The folder whose items a map goes over. told: its path, as commands get it; location: as this process has it.

    excludes, follow: what of it was hashed. is_same: says whether what is at the path of an item is what was hashed.
    """

    told: str
    location: str
    excludes: Excludes | None
    follow: bool
    is_same: Callable[[str], bool]


class Workplace:
    """Prepares items, and keeps their results. Threads may share it."""

    def __init__(
        self,
        table: ItemTable,
        contracts: ItemContracts,
        each: Each,
        journal: Journal,
        sealing: Sealing,
        inputs: InputFolder,
    ) -> None:
        self._table, self._contracts, self._each, self._journal = table, contracts, each, journal
        self._sealing, self._inputs = sealing, inputs
        self.results = FinishedResults(journal, journal.session, each)
        self._folder = os.path.abspath(os.path.join(journal.folder, journal.session))
        self._token = os.urandom(16).hex()

    def prepare(self, number: int) -> Job:
        """Return the job of an item; its place is made, and by content its copy.

        Raises: ItemFailed when the item is not what was hashed; LocalFailure when the disk fails.
        """
        digest, path = self._table.digest(number), self._table.paths[number]
        uri = self._contracts.uri(digest)
        place = self._place(number)
        out = os.path.join(place, result_name(self._each, self._table.outputs[number]))
        contract = f"{place}.json"
        item = os.path.join(self._inputs.told, path)
        try:
            with suppress(FileNotFoundError):
                shutil.rmtree(place)
            os.makedirs(os.path.dirname(out))
            with open(contract, "wb") as file:
                file.write(self._contracts.contract(digest))
            if self._each.by == "content":
                item = self._copy(number, path, digest)
        except OSError as error:
            raise local_failure(
                error, "an item cannot be prepared", place, elsewhere="set another CTXPACK_CACHE"
            ) from error
        return Job(number, uri, item, out, contract)

    def keep(self, job: Job, nothing: str) -> bytes:
        """Return the digest of the result of a job. nothing: why it failed if there is none. Raises: ItemFailed."""
        path = self._table.paths[job.number]
        self._forget(job)
        if self._each.by == "path" and not self._inputs.is_same(path):
            raise ItemFailed("changed while it was made; run it again when nothing writes to it")
        if not os.path.lexists(job.out):
            raise ItemFailed(nothing)
        try:
            return hash_result(self._table.outputs[job.number], job.out, self._sealing)
        except CtxPackError as error:
            raise ItemFailed(f"its result cannot be sealed: {error}") from error

    def task(self, job: Job, folder: str) -> Task:
        """Return a job as a task for an executor. folder: that relative paths of items start from."""
        item = os.path.join(folder, job.item)
        name = self._table.paths[job.number] if self._each.by == "path" else os.path.basename(item)
        marker = os.path.join(self._folder, "marker")
        if not os.path.lexists(marker):
            with open(marker, "w", encoding="utf-8") as file:
                file.write(self._token)
        follow = self._inputs.follow and self._each.by == "path"
        digest = self._table.digest(job.number)
        return Task(item, job.out, name, digest, marker, self._token, follow, self._sealing.follow)

    def with_item(self, task: Task) -> Task:
        """Return a task with its item, for a worker that does not see it. Raises: ItemFailed."""
        excludes = self._inputs.excludes if self._each.by == "path" else None
        try:
            return task._replace(content=Content.of(task.item, task.name, excludes=excludes, follow=task.follow))
        except (CtxPackError, OSError) as error:
            raise ItemFailed(f"cannot be sent: {error}") from error

    def batch_files(self, number: int) -> tuple[str, str]:
        """Return the paths of the file that lists a batch, and of the one that says what is done of it."""
        place = self._place(number)
        return f"{place}.jsonl", f"{place}.done"

    def drop(self, job: Job) -> None:
        """Remove what a job left that is not kept."""
        self._forget(job)
        shutil.rmtree(self._place(job.number), ignore_errors=True)

    def _place(self, number: int) -> str:
        return os.path.abspath(self._journal.place(self._journal.session, number))

    def _forget(self, job: Job) -> None:
        with suppress(OSError):
            os.unlink(job.contract)
        if self._each.by == "content":
            shutil.rmtree(os.path.dirname(job.item), ignore_errors=True)

    def _copy(self, number: int, path: str, digest: Digest) -> str:
        """Return a copy of an item in a fresh folder, ``item`` and its suffix. Raises: ItemFailed if it changed."""
        folder = f"{self._place(number)}.item"
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        os.mkdir(folder)
        source = os.path.join(self._inputs.location, path)
        name = f"item{split_path(path, folder=os.path.isdir(source)).suffix}"
        try:
            copied = self._copy_tree(path, source, folder, name)
        except CtxPackError as error:
            raise ItemFailed(f"cannot be copied: {error}") from error
        if copied != digest:
            raise ItemFailed("changed since it was hashed; run it again when nothing writes to it")
        return os.path.join(folder, name)

    def _copy_tree(self, path: str, source: str, folder: str, name: str) -> Digest:
        """Copy an item to a name in a folder; return the digest of the folder."""
        copied = FolderDigest()
        with Copier() as copier:
            for found in scan_branch(path, source, excludes=self._inputs.excludes, follow=self._inputs.follow):
                inner = name + found.path[len(path) :]
                target = os.path.join(folder, inner)
                os.makedirs(os.path.dirname(target.removesuffix("/")), exist_ok=True)
                if found.is_empty_folder:
                    os.mkdir(target)
                    copied.add(TreeEntry(inner, 0, ""))
                    continue
                sha256, size = copy_file(FileCopy.of(found, target, follow=self._inputs.follow), copier)
                copied.add(TreeEntry(inner, size, sha256))
        return copied.finish()


def result_name(each: Each, output: str) -> str:
    """Return the path of a result in its folder. output: where it shall lie in the output of the map."""
    return output if each.by == "path" else f"out{split_path(output).suffix}"
