"""Inputs on S3 and on the web, by the command: the same URI as from a copy on disk, and not read twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Cli, Finished
from s3_double import S3Double

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


def write_contract(folder: Path, path: str) -> None:
    step = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}
    document = {"inputs": [{"name": "raw", "path": path}], "transforms": [step], "outputs": [{"path": "out"}]}
    (folder / "contract.json").write_text(json.dumps(document))


def local_uri(cli: Cli, folder: Path) -> str:
    for key, data in OBJECTS.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    write_contract(folder, "raw")
    return succeeded(cli("id", "contract.json", cwd=folder))


def succeeded(done: Finished) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(s3: S3Double) -> list[str]:
    """The keys whose content was asked for since this was asked."""
    asked, s3.asked[:] = list(s3.asked), []
    return sorted({one.removeprefix("GET corpus/") for one in asked if one.startswith("GET ")})


RAW = sorted(key for key, data in OBJECTS.items() if key.startswith("raw/") and data)


def test_a_folder_on_s3_has_the_uri_of_its_copy(cli: Cli, s3: S3Double, tmp_path: Path) -> None:
    expected = local_uri(cli, tmp_path / "local")
    write_contract(tmp_path, "s3://corpus/raw")
    assert succeeded(cli("id", "contract.json", env=s3.environment)) == expected
    assert read(s3) == RAW
    assert succeeded(cli("id", "contract.json", env=s3.environment)) == expected
    assert read(s3) == []
    assert succeeded(cli("id", "--rehash", "contract.json", env=s3.environment)) == expected
    assert read(s3) == RAW
    s3.buckets["corpus"]["raw/one"] = b"3"
    assert succeeded(cli("id", "contract.json", env=s3.environment)) != expected
    assert read(s3) == ["raw/one"]


def test_seed_and_pull_work_the_same(cli: Cli, s3: S3Double, tmp_path: Path) -> None:
    write_contract(tmp_path, "s3://corpus/raw")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result").write_text("done")
    uri = succeeded(cli("seed", "-q", "out", "--contract", "contract.json", env=s3.environment)).split()[-1]
    assert uri == succeeded(cli("id", "contract.json", env=s3.environment)).strip()
    assert Path(succeeded(cli("pull", uri)).strip(), "result").read_text() == "done"


def test_a_single_object_is_a_file(cli: Cli, s3: S3Double, tmp_path: Path) -> None:
    write_contract(tmp_path, "s3://corpus/raw/large")
    remote = succeeded(cli("id", "contract.json", env=s3.environment))
    (tmp_path / "copy").write_bytes(OBJECTS["raw/large"])
    write_contract(tmp_path, "copy")
    assert succeeded(cli("id", "contract.json")) == remote


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
def test_what_cannot_be_read_ends_with_its_own_status(
    cli: Cli, s3: S3Double, tmp_path: Path, path: str, status: int, message: str
) -> None:
    write_contract(tmp_path, path)
    done = cli("id", "contract.json", env=s3.environment)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "hunter2" not in done.stderr


def test_an_object_that_changes_while_it_is_read_ends_it(cli: Cli, s3: S3Double, tmp_path: Path) -> None:
    def change(asked: str) -> None:
        if asked == "GET corpus/raw/large":
            s3.buckets["corpus"]["raw/large"] = b"9" * len(OBJECTS["raw/large"])

    s3.meddle = change
    write_contract(tmp_path, "s3://corpus/raw")
    done = cli("id", "contract.json", env=s3.environment)
    assert done.returncode == 2
    assert "s3://corpus/raw/large: changed while it was read" in done.stderr


def test_a_store_that_does_not_answer_is_unavailable(cli: Cli, s3: S3Double, tmp_path: Path) -> None:
    write_contract(tmp_path, "s3://corpus/raw")
    nobody = s3.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    done = cli("id", "contract.json", env=nobody)
    assert done.returncode == 6
    assert "s3://corpus/raw: the store did not give it" in done.stderr


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        return


def test_a_file_on_the_web_has_the_uri_of_its_copy(cli: Cli, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "a b.txt").write_bytes(b"to be" * 1_000_000)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        write_contract(tmp_path, f"http://127.0.0.1:{server.server_port}/a%20b.txt?signature=hunter2")
        remote = cli("id", "contract.json")
        write_contract(tmp_path, f"http://127.0.0.1:{server.server_port}/nothing?signature=hunter2")
        nothing = cli("id", "contract.json")
        server.shutdown()
        thread.join()
    write_contract(tmp_path, "site/a b.txt")
    assert succeeded(remote) == succeeded(cli("id", "contract.json"))
    assert nothing.returncode == 2
    assert "no such object or folder" in nothing.stderr
    assert "hunter2" not in nothing.stderr
