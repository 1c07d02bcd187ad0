"""Hashing on a Dask cluster of two worker processes: they get paths and return digests."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from machine import Machine
from s3_double import S3Double

from ctxpack_identity import Hashing, InvalidInput, LocalFailure, hash_tree
from ctxpack_identity.hashing.filehash import Batch
from ctxpack_identity.hashing.workers import ExecutorWorkers
from ctxpack_pantry import Pantry, load_settings

WORKERS = 2
LIMIT = 60  # seconds that a test waits


@contextmanager
def started(config: Mapping[str, object] = {}) -> Iterator[tuple[LocalCluster, Client]]:
    """A cluster of two worker processes on loopback, and its client. config: for Dask."""
    with (
        dask.config.set(config),
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield cluster, client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with started() as (_, client):
        yield client


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Many small files in folders, and a large one."""
    root = tmp_path / "corpus"
    for number in range(600):
        file = root / f"{number % 7}" / f"{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number)
    (root / "large").write_bytes(b"0123456789" * (1 << 20))
    (root / "empty").mkdir()
    return root


class Recorder:
    """An Executor's submit that also records the process of each task."""

    def __init__(self, client: Client) -> None:
        self.processes: list[Future[int]] = []
        self._executor = client.get_executor(pure=False)

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        self.processes.append(self._executor.submit(os.getpid))
        future: Future[Any] = self._executor.submit(task, *arguments)
        return future


def test_a_cluster_gives_the_same_tree_as_this_process(client: Client, corpus: Path) -> None:
    executor: Any = Recorder(client)
    assert hash_tree(str(corpus), hashing=Hashing(executor=executor)) == hash_tree(str(corpus))
    processes = {future.result(LIMIT) for future in executor.processes}
    assert len(processes) == WORKERS
    assert os.getpid() not in processes


def test_a_pantry_hashes_on_a_cluster(client: Client, corpus: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    contract = machine.work / "contract.json"
    corpus.rename(machine.work / "corpus")
    (machine.work / "made").write_text("it")
    contract.write_text(
        '{"inputs": [{"name": "i", "path": "corpus"}], "outputs": [{"path": "made"}],'
        ' "transforms": [{"tool": "t", "tool_version": "1", "code": {"path": "corpus/0"}}]}'
    )
    executor: Any = Recorder(client)
    settings = load_settings(registry=f"oci:{tmp_path / 'packs'}", cache=str(tmp_path / "cache"))
    with Pantry(settings, executor=executor) as pantry:
        uri = pantry.resolve(str(contract)).uri
        tasks = len(executor.processes)
        assert pantry.seed([], str(contract)).uri == uri
    assert tasks > 7
    assert machine.succeed("id") == uri


def test_the_workers_read_the_objects_of_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Double() as s3:
        s3.buckets["corpus"] = {f"raw/{number}": b"%d" % number for number in range(9)}
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        with started() as (_, client):
            executor: Any = Recorder(client)
            tree = hash_tree("s3://corpus/raw", hashing=Hashing(executor=executor))
        assert (tree.files, len(executor.processes)) == (9, 9)
        assert tree == hash_tree("s3://corpus/raw")


def test_an_error_of_a_file_arrives_unchanged(client: Client, corpus: Path) -> None:
    class ChangingFirst(Recorder):
        def submit(self, task: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
            (corpus / "large").write_bytes(b"other")
            return super().submit(task, *arguments)

    executor: Any = ChangingFirst(client)
    with pytest.raises(InvalidInput) as caught:
        hash_tree(str(corpus), hashing=Hashing(executor=executor))
    assert str(caught.value) == (f"{corpus / 'large'}: changed while it was read; try again when nothing writes to it")
    assert caught.value.code == "E_INPUT_CHANGED"


def test_a_result_never_comes_from_an_earlier_call(client: Client, tmp_path: Path) -> None:
    """Dask returns an earlier result for the same call while somebody holds that result."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    status = file.stat()
    batch = Batch(f"{tmp_path}/", [("file", status.st_size, status.st_mtime_ns)])
    workers = ExecutorWorkers(client.get_executor())
    held = [workers.submit(batch)]
    assert held[0].result() == [hashlib.sha256(b"old").hexdigest()]
    file.write_bytes(b"new")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    held.append(workers.submit(batch))
    assert held[1].result() == [hashlib.sha256(b"new").hexdigest()]


# ---- clusters that die


def failure(client: Client, root: Path, then: Callable[[], object]) -> str:
    """Return the error of hashing when `then` is called before hashing is done."""
    executor = client.get_executor(pure=False)
    for _ in range(WORKERS):
        executor.submit(time.sleep, LIMIT)  # keeps both workers busy
    timer = threading.Timer(0.5, then)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(LocalFailure) as caught:
        hash_tree(str(root), hashing=Hashing(executor=executor))
    timer.join()
    assert time.monotonic() - begun < LIMIT / 2
    return str(caught.value)


def test_a_closed_cluster_is_an_error_and_no_hang(corpus: Path) -> None:
    with started() as (cluster, client):
        message = failure(client, corpus, cluster.close)
    assert message == "the executor given for hashing failed: got CancelledError"


def test_killed_workers_are_an_error_and_no_hang(corpus: Path) -> None:
    def kill() -> None:
        for nanny in cluster.workers.values():
            os.kill(nanny.pid, signal.SIGKILL)

    with started({"distributed.scheduler.allowed-failures": 0}) as (cluster, client):
        message = failure(client, corpus, kill)
    assert message.startswith("the executor given for hashing failed: got KilledWorker: ")


def test_a_cluster_without_workers_is_an_error_when_dask_has_a_timeout(corpus: Path) -> None:
    with started({"distributed.scheduler.no-workers-timeout": "1s"}) as (cluster, client):
        message = failure(client, corpus, lambda: cluster.scale(0))
    assert message.startswith("the executor given for hashing failed: got NoWorkerError: ")
