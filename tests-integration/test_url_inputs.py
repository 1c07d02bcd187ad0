"""URL inputs, on S3 and on the web: the URI is that of a copy on disk, and nothing is read twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from forks import ForkedMachine, Forks
from machine import Machine
from s3_double import S3Double

from loopback import LoopbackServer

OBJECTS = {
    "raw/a.txt": b"to be",
    "raw/sub folder/b+c%.txt": b"or not to be",
    "raw/sub folder/\u00fc/d": b"",
    "raw/large": b"0123456789" * (1 << 20),
    "raw/one": b"1",
    "raw/two": b"2",
    "raw-other/no part of it": b"x",
}


@pytest.fixture
def s3() -> Iterator[S3Double]:
    with S3Double() as double:
        double.buckets["corpus"] = dict(OBJECTS)
        yield double


@pytest.fixture
def machine(tmp_path: Path, s3: S3Double, forks: Forks) -> Machine:
    """A machine with credentials for s3."""
    return ForkedMachine(forks, tmp_path / "machine", environment=s3.environment)


def write_contract(folder: Path, path: str) -> None:
    step = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}
    document = {"inputs": [{"name": "raw", "path": path}], "transforms": [step], "outputs": [{"path": "out"}]}
    (folder / "contract.json").write_text(json.dumps(document))


def uri_of_a_copy(folder: Path) -> str:
    """Return the URI when the folder raw lies on disk."""
    machine = Machine(folder)
    for key, data in OBJECTS.items():
        path = machine.work / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    write_contract(machine.work, "raw")
    return machine.succeed("id")


def keys_read(s3: S3Double) -> list[str]:
    """Return the keys whose content was requested since the last call."""
    requests, s3.requests[:] = list(s3.requests), []
    return sorted({one.removeprefix("GET corpus/") for one in requests if one.startswith("GET ")})


RAW = sorted(key for key, data in OBJECTS.items() if key.startswith("raw/") and data)


def test_a_folder_on_s3_has_the_uri_of_its_copy(machine: Machine, s3: S3Double, tmp_path: Path) -> None:
    expected = uri_of_a_copy(tmp_path / "copy")
    write_contract(machine.work, "s3://corpus/raw")
    assert machine.succeed("id") == expected
    assert keys_read(s3) == RAW
    assert machine.succeed("id") == expected
    assert keys_read(s3) == []
    assert machine.succeed("id", "--rehash") == expected
    assert keys_read(s3) == RAW
    s3.buckets["corpus"]["raw/one"] = b"3"
    assert machine.succeed("id") != expected
    assert keys_read(s3) == ["raw/one"]


def test_seed_and_pull_work_with_a_url_input(machine: Machine) -> None:
    write_contract(machine.work, "s3://corpus/raw")
    (machine.work / "out").mkdir()
    (machine.work / "out" / "result").write_text("done")
    uri = machine.succeed("seed", "-q").removeprefix("Seeded: ")
    assert uri == machine.succeed("id")
    assert Path(machine.succeed("pull", uri), "result").read_text() == "done"


def test_a_single_object_is_a_file(machine: Machine) -> None:
    write_contract(machine.work, "s3://corpus/raw/large")
    uri = machine.succeed("id")
    (machine.work / "copy").write_bytes(OBJECTS["raw/large"])
    write_contract(machine.work, "copy")
    assert machine.succeed("id") == uri


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("s3://corpus/nothing", 2, "s3://corpus/nothing: no such object or folder; check the URL"),
        ("s3://nobodys/raw", 2, "s3://nobodys/raw: no such object or folder; check the URL"),
        ("s3://private/raw", 4, "s3://private/raw: the store refuses it: got PermissionError"),
        ("nobody://corpus/raw", 2, "nobody://corpus/raw: nothing opens nobody:// URLs"),
        ("file:///etc", 2, "a path on this machine; give the path itself"),
    ],
)
def test_a_url_that_cannot_be_read_is_named_with_the_exit_code_of_its_cause(
    machine: Machine, path: str, status: int, message: str
) -> None:
    write_contract(machine.work, path)
    done = machine.run("id")
    assert (done.status, done.stdout) == (status, "")
    assert message in done.stderr
    assert "hunter2" not in done.stderr


def test_an_object_that_changes_while_it_is_read_is_an_error(machine: Machine, s3: S3Double) -> None:
    def change(request: str) -> None:
        if request == "GET corpus/raw/large":
            s3.buckets["corpus"]["raw/large"] = b"9" * len(OBJECTS["raw/large"])

    s3.before_answer = change
    write_contract(machine.work, "s3://corpus/raw")
    done = machine.run("id")
    assert done.status == 2
    assert "s3://corpus/raw/large: changed while it was read" in done.stderr


def test_a_store_that_does_not_answer_is_unavailable(machine: Machine) -> None:
    write_contract(machine.work, "s3://corpus/raw")
    machine.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    done = machine.run("id")
    assert done.status == 6
    assert "s3://corpus/raw: the store did not give it" in done.stderr


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        return


def test_a_file_on_the_web_has_the_uri_of_its_copy(tmp_path: Path, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
    site = machine.work / "site"
    site.mkdir()
    (site / "a b.txt").write_bytes(b"to be" * 1_000_000)
    with LoopbackServer(ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))) as server:
        write_contract(machine.work, f"http://{server.address}/a%20b.txt?signature=hunter2")
        uri = machine.succeed("id")
        write_contract(machine.work, f"http://{server.address}/nothing?signature=hunter2")
        nothing = machine.run("id")
    write_contract(machine.work, "site/a b.txt")
    assert machine.succeed("id") == uri
    assert nothing.status == 2
    assert "no such object or folder" in nothing.stderr
    assert "hunter2" not in nothing.stderr
