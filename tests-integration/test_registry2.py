"""The registry of the other tests is a real one, writes only to its folder, checks its password, and stops."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from loopback import open_url
from registry2 import RegistryServer, RegistryUnavailable, obtain

BLOB = b"a blob"
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()


def ask(method: str, url: str, *, account: str = "", data: bytes | None = None) -> tuple[int, str]:
    """Return status and Location of the answer to one request, whatever its status."""
    request = urllib.request.Request(url, data=data, method=method)
    if account:
        request.add_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
    if data is not None:
        request.add_header("Content-Type", "application/octet-stream")
    try:
        with open_url(request, timeout=10) as answer:
            return answer.status, answer.headers.get("Location", "")
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, ""


def test_a_blob_is_uploaded_stored_in_the_folder_and_deleted(registry: RegistryServer) -> None:
    base = f"http://{registry.address}/v2/team/notes/blobs"
    status, location = ask("POST", f"{base}/uploads/", data=b"")
    assert status == 202
    assert ask("PUT", f"{location}&digest={DIGEST}", data=BLOB)[0] == 201
    assert [path.read_bytes() for path in registry.storage.rglob(f"{DIGEST[7:]}/data")] == [BLOB]
    assert ask("DELETE", f"{base}/{DIGEST}")[0] == 202
    assert ask("GET", f"{base}/{DIGEST}")[0] == 404


def test_the_registry_with_a_password_accepts_only_that_password(auth_registry: RegistryServer) -> None:
    url = f"http://{auth_registry.address}/v2/"
    assert ask("GET", url)[0] == 401
    assert ask("GET", url, account=f"{auth_registry.username}:wrong")[0] == 401
    assert ask("GET", url, account=f"{auth_registry.username}:{auth_registry.password}")[0] == 200


def test_the_registry_stops_when_the_test_fails(tmp_path: Path) -> None:
    server = RegistryServer(tmp_path)

    def interrupted() -> None:
        with server:
            assert ask("GET", f"http://{server.address}/v2/")[0] == 200
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(urllib.error.URLError, match="Connection refused"):
        ask("GET", f"http://{server.address}/v2/")


def test_a_registry_that_does_not_start_is_an_error_with_its_log(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('cannot serve')"]
    with pytest.raises(RegistryUnavailable, match=r"before its port; its log ends:\ncannot serve"):
        RegistryServer(tmp_path, program=broken).__enter__()


def test_without_a_registry_the_error_names_every_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry2.WORK", tmp_path)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(RegistryUnavailable) as failed:
        obtain()
    assert str(failed.value).splitlines() == [
        "no registry:2 to test against. Tried:",
        "  - docker-registry: not on PATH",
        "  - Debian package docker-registry: apt-get: not on PATH",
        "  - Docker: docker: [Errno 2] No such file or directory: 'docker'",
        "Install docker-registry (Debian, Ubuntu) or start Docker, then try again.",
    ]
