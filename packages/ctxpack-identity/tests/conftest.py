"""Fixtures of several test files: executors that behave in every allowed way, a store, a user who is not root."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from interruptible import interruptible as interruptible
from testmodules import load

if TYPE_CHECKING:
    from memory_store import MemoryStore

TESTS = Path(__file__).parent
NOBODY = 65534

load(TESTS, "folders")
load(TESTS, "contracts")
_memory_store = load(TESTS, "memory_store")
fsspec.register_implementation("store", _memory_store.MemoryStoreFileSystem)


class ShufflingExecutor(Executor):
    """Runs nothing before the first result() call, then everything, in random order."""

    def __init__(self, seed: int = 0) -> None:
        self.submitted = 0
        self._random = random.Random(seed)
        self._waiting: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        future = _Late(self._run)
        self._waiting.append(lambda: future.settle(fn, args, kwargs))
        return future

    def _run(self) -> None:
        self._random.shuffle(self._waiting)
        while self._waiting:
            self._waiting.pop()()


class _Late(Future[Any]):
    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self._run = run

    def result(self, timeout: float | None = None) -> Any:
        self._run()
        return super().result(timeout)

    def settle(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.set_running_or_notify_cancel():
            try:
                self.set_result(fn(*args, **kwargs))
            except Exception as error:
                self.set_exception(error)


class ChangingExecutor(Executor):
    """Calls change after files were found and before they are hashed."""

    def __init__(self, change: Callable[[], object]) -> None:
        self._change = change

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._change()
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="session")
def shuffling() -> Callable[[int], ShufflingExecutor]:
    return ShufflingExecutor


@pytest.fixture
def changing_executor() -> Callable[[Callable[[], object]], ChangingExecutor]:
    return ChangingExecutor


@pytest.fixture(params=["none", "one thread", "many threads", "shuffling"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    """Every kind of executor in this process, and none."""
    if request.param == "none":
        yield None
    elif request.param == "shuffling":
        yield ShufflingExecutor(7)
    else:
        with ThreadPoolExecutor(1 if request.param == "one thread" else 8) as threads:
            yield threads


@contextmanager
def _at(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _outcome(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:
        return error


@pytest.fixture
def as_nobody() -> Callable[[Path, Callable[[], Any]], Any]:
    """Run an action in a folder as a user who is not root, and return its result or its error."""

    def run(folder: Path, action: Callable[[], Any]) -> Any:
        with _at(folder):
            return _outcome(action) if os.geteuid() != 0 else _in_a_child(action)

    return run


def _in_a_child(action: Callable[[], Any]) -> Any:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with os.fdopen(writing, "wb") as stream:
            pickle.dump(_outcome(action), stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        outcome = pickle.load(stream)
    os.waitpid(child, 0)
    return outcome


@pytest.fixture(scope="session")
def stores() -> dict[str, MemoryStore]:
    """The stores that fsspec opens as store://, by endpoint."""
    found: dict[str, MemoryStore] = _memory_store.STORES
    return found


@pytest.fixture
def store(stores: dict[str, MemoryStore]) -> MemoryStore:
    """An empty store that fsspec opens as store://."""
    stores[""] = _memory_store.MemoryStore()
    return stores[""]


@pytest.fixture
def another_store(stores: dict[str, MemoryStore]) -> MemoryStore:
    """An empty store that fsspec opens as store:// with the endpoint "another"."""
    stores["another"] = _memory_store.MemoryStore()
    return stores["another"]
