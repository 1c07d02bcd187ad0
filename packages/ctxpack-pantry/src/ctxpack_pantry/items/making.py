"""Making: the items that are missing are made, many at a time, by commands or by a Python function."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ctxpack_identity import LocalFailure, canonical_json, hex_of, uri_digest
from ctxpack_identity.disk import local_failure
from ctxpack_identity.secrets import child_environment
from ctxpack_pantry.items.remote import Task, make_there
from ctxpack_pantry.items.words import fill_words, is_batch
from ctxpack_pantry.items.workers import Refused, Worker
from ctxpack_pantry.items.workplace import ItemFailed, Job, Workplace

__all__ = ["ItemCommand", "ItemFunction", "ItemMaker", "Made"]

_BATCH = 1000  # items, at most
_POLL = 0.5  # seconds between two looks at what batches have done
_GRACE = 10.0  # seconds that commands have to tidy up after SIGTERM
_IN_FLIGHT = 64  # items that an executor of unknown size gets ahead
_NOTHING_OF_COMMAND = "its command ended with 0 and left nothing at {out}"
_NOTHING_OF_FUNCTION = "the function returned and left nothing at its second path"


class Made(NamedTuple):
    """An item whose command or function has ended. result: the digest of its result, None when it failed.

    status: of the command; reason: why the item failed.
    """

    number: int
    result: bytes | None
    status: int = 0
    reason: str = ""


class ItemMaker(Protocol):
    """Makes items: by commands, or by a function."""

    def make(self, workplace: Workplace, numbers: Sequence[int]) -> Generator[Made | None, None, None]:
        """Yield each item once it is made or has failed, and None from time to time meanwhile.

        To close the generator ends what runs. Raises: LocalFailure when the disk fails.
        """
        ...


class ItemCommand:
    """Makes items by a command for each, or for up to 1,000 at once. folder: where commands run.

    variables: what commands see besides this process's own, without CtxPack's secrets; of_map: those of a ``{batch}``
    in addition, about the map's contract. jobs: commands at a time.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: str,
        variables: Mapping[str, str],
        of_map: Mapping[str, str],
        *,
        jobs: int,
    ) -> None:
        self._command, self._folder, self._jobs = command, folder, jobs
        inherited = {**child_environment(), **variables}
        self._environment = {os.fsencode(name): os.fsencode(value) for name, value in inherited.items()}
        self._of_map = of_map

    def make(self, workplace: Workplace, numbers: Sequence[int]) -> Generator[Made | None, None, None]:
        size = min(_BATCH, -(-len(numbers) // self._jobs)) if is_batch(self._command) else 1
        units = (numbers[start : start + size] for start in range(0, len(numbers), size))
        crew = _Crew(min(self._jobs, len(numbers)), self._folder, units, self._unit(workplace))
        try:
            yield from crew.results()
        finally:
            crew.stop()

    def _unit(self, workplace: Workplace) -> _Unit:
        if is_batch(self._command):
            return _Batch(workplace, self._command, self._folder, self._environment, self._of_map)
        return _Single(workplace, self._command, self._environment)


class ItemFunction:
    """Makes items by calls of a function with two paths, of the item and of its result.

    folder: that the paths of items are relative to. executor: where it is called; None means here, one at a time. jobs:
    calls that an executor gets at once; None means 64.
    """

    def __init__(
        self, function: Callable[[Path, Path], object], folder: str, executor: Executor | None, jobs: int | None
    ) -> None:
        self._function, self._folder, self._executor = function, os.path.abspath(folder), executor
        self._in_flight = jobs or _IN_FLIGHT

    def make(self, workplace: Workplace, numbers: Sequence[int]) -> Generator[Made | None, None, None]:
        if self._executor is not None:
            yield from self._make_there(self._executor, workplace, numbers)
            return
        for number in numbers:
            try:
                job = workplace.prepare(number)
            except ItemFailed as error:
                yield Made(number, None, error.status, str(error))
                continue
            try:
                self._function(Path(self._folder, job.item), Path(job.out))
            except Exception as error:
                yield _failed(workplace, job, 1, _said(error))
                continue
            except BaseException:
                workplace.drop(job)
                raise
            yield _kept(workplace, job, _NOTHING_OF_FUNCTION)

    def _make_there(
        self, executor: Executor, workplace: Workplace, numbers: Sequence[int]
    ) -> Generator[Made | None, None, None]:
        waiting: dict[Future[Any], tuple[Job, Task]] = {}
        rest = iter(numbers)
        try:
            while True:
                for number in rest:
                    try:
                        job = workplace.prepare(number)
                    except ItemFailed as error:
                        yield Made(number, None, error.status, str(error))
                        continue
                    task = workplace.task(job, self._folder)
                    waiting[self._submit(executor, task)] = job, task
                    if len(waiting) >= self._in_flight:
                        break
                if not waiting:
                    return
                done, _ = wait(waiting, timeout=_POLL, return_when=FIRST_COMPLETED)
                if not done:
                    yield None
                for future in done:
                    job, task = waiting.pop(future)
                    try:
                        answer = future.result()
                    except Exception as error:
                        yield _failed(workplace, job, 1, _said(error))
                        continue
                    if answer.needs_item:
                        try:
                            sent = workplace.with_item(task)
                        except ItemFailed as error:
                            yield _failed(workplace, job, error.status, str(error))
                            continue
                        waiting[self._submit(executor, sent)] = job, sent
                        continue
                    try:
                        answer.write(job.out)
                    except OSError as error:
                        what, elsewhere = "a result cannot be written", "set another CTXPACK_CACHE"
                        raise local_failure(error, what, job.out, elsewhere=elsewhere) from error
                    yield _kept(workplace, job, _NOTHING_OF_FUNCTION)
        finally:
            for future in waiting:
                future.cancel()

    def _submit(self, executor: Executor, task: Task) -> Future[Any]:
        try:
            return executor.submit(make_there, self._function, task)
        except Exception as error:
            raise LocalFailure("the executor given for the map failed", got=_said(error)) from error


class _Unit(Protocol):
    """What a worker does at a time. report: called with what was made."""

    def run(self, worker: Worker, numbers: Sequence[int], report: Callable[[Made], object]) -> None: ...

    def poll(self) -> None:
        """Report what is made meanwhile."""


class _Crew:
    """Threads, each with a worker, that take units of items until there are no more."""

    def __init__(self, count: int, folder: str, units: Iterator[Sequence[int]], unit: _Unit) -> None:
        self._units, self._unit = units, unit
        self._lock = threading.Lock()
        self._made = queue.SimpleQueue[Made | BaseException | None]()
        self._workers = [Worker(folder) for _ in range(count)]
        self._threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in self._workers]
        self._stopped = False

    def results(self) -> Generator[Made | None, None, None]:
        """Yield what is made, and None from time to time meanwhile. Raises: what a thread raised."""
        for thread in self._threads:
            thread.start()
        at_work, polled = len(self._threads), time.monotonic()
        while at_work:
            with suppress(queue.Empty):
                made = self._made.get(timeout=_POLL)
                if made is None:
                    at_work -= 1
                elif isinstance(made, BaseException):
                    raise made
                else:
                    yield made
            if time.monotonic() - polled >= _POLL:
                self._unit.poll()
                polled = time.monotonic()
                yield None

    def stop(self) -> None:
        """End the commands that run, and the threads."""
        self._stopped = True
        started = [thread for thread in self._threads if thread.ident is not None]
        try:
            for worker in self._workers:
                worker.stop(kill=False)
            until = time.monotonic() + _GRACE
            for thread in started:
                thread.join(max(0.0, until - time.monotonic()))
        finally:
            for worker in self._workers:
                worker.stop(kill=True)
            for thread in started:
                thread.join()

    def _work(self, worker: Worker) -> None:
        try:
            with worker:
                while not self._stopped:
                    with self._lock:
                        numbers = next(self._units, None)
                    if numbers is None:
                        break
                    self._unit.run(worker, numbers, self._report)
            self._made.put(None)
        except BaseException as error:
            self._made.put(error)

    def _report(self, made: Made) -> None:
        if not self._stopped:
            self._made.put(made)


class _Single:
    """One command for each item."""

    def __init__(self, workplace: Workplace, command: Sequence[str], environment: Mapping[bytes, bytes]) -> None:
        self._workplace, self._command, self._environment = workplace, command, environment

    def run(self, worker: Worker, numbers: Sequence[int], report: Callable[[Made], object]) -> None:
        [number] = numbers
        workplace = self._workplace
        try:
            job = workplace.prepare(number)
        except ItemFailed as error:
            report(Made(number, None, error.status, str(error)))
            return
        words = fill_words(self._command, {"item": job.item, "out": job.out})
        variables = {"CTXPACK_CONTRACT": job.contract, "CTXPACK_URI": job.uri}
        try:
            status = worker.run(words, self._environment, variables)
        except Refused as error:
            report(_failed(workplace, job, 127, f"its command cannot be started: {error}"))
            return
        if status:
            report(_failed(workplace, job, status, f"its command failed with status {status}"))
        else:
            report(_kept(workplace, job))

    def poll(self) -> None: ...


class _Batch:
    """One command for many items. It may name those that are done, one after the other, in ``$CTXPACK_DONE``."""

    def __init__(
        self,
        workplace: Workplace,
        command: Sequence[str],
        folder: str,
        environment: Mapping[bytes, bytes],
        of_map: Mapping[str, str],
    ) -> None:
        self._workplace, self._command, self._folder = workplace, command, folder
        self._environment, self._of_map = environment, of_map
        self._running = list[_Progress]()
        self._lock = threading.Lock()

    def run(self, worker: Worker, numbers: Sequence[int], report: Callable[[Made], object]) -> None:
        workplace = self._workplace
        jobs = []
        for number in numbers:
            try:
                jobs.append(workplace.prepare(number))
            except ItemFailed as error:
                report(Made(number, None, error.status, str(error)))
        if not jobs:
            return
        batch, done = workplace.batch_files(jobs[0].number)
        with open(batch, "wb") as file:
            for job in jobs:
                item = os.path.abspath(os.path.join(self._folder, job.item))
                file.write(canonical_json({"id": _id(job), "item": item, "out": job.out}) + b"\n")
        open(done, "wb").close()
        progress = _Progress(workplace, jobs, done, report)
        with self._lock:
            self._running.append(progress)
        reason = ""
        try:
            words = fill_words(self._command, {"batch": batch})
            status = worker.run(words, self._environment, {**self._of_map, "CTXPACK_DONE": done})
            if status:
                reason = f"its command failed with status {status} before it named this item in $CTXPACK_DONE"
        except Refused as error:
            status, reason = 127, f"its command cannot be started: {error}"
        finally:
            with self._lock:
                self._running.remove(progress)
        progress.finish(status, reason)
        for path in (batch, done):
            with suppress(OSError):
                os.unlink(path)

    def poll(self) -> None:
        with self._lock:
            for progress in self._running:
                progress.look()


class _Progress:
    """What a running batch has done so far. done: the path of the file that its command appends to."""

    def __init__(self, workplace: Workplace, jobs: Sequence[Job], done: str, report: Callable[[Made], object]) -> None:
        self._workplace, self._report = workplace, report
        self._open = {_id(job).encode(): job for job in jobs}
        self._done, self._offset = done, 0

    def look(self) -> None:
        """Report the items that were named since the last look. A line without its line feed is not there yet."""
        try:
            with open(self._done, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:  # the command removed it
            return
        lines = data[: data.rfind(b"\n") + 1]
        self._offset += len(lines)
        for line in lines.split(b"\n"):
            job = self._open.pop(line.strip(), None)
            if job is not None:
                self._report(_kept(self._workplace, job))

    def finish(self, status: int, reason: str) -> None:
        """Report all other items."""
        self.look()
        for job in self._open.values():
            self._report(_failed(self._workplace, job, status, reason) if reason else _kept(self._workplace, job))
        self._open = {}


def _id(job: Job) -> str:
    return hex_of(uri_digest(job.uri))


def _kept(workplace: Workplace, job: Job, nothing: str = _NOTHING_OF_COMMAND) -> Made:
    try:
        return Made(job.number, workplace.keep(job, nothing))
    except ItemFailed as error:
        return _failed(workplace, job, error.status, str(error))


def _failed(workplace: Workplace, job: Job, status: int, reason: str) -> Made:
    workplace.drop(job)
    return Made(job.number, None, status, reason)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
