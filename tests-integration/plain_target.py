"""A target, read without CtxPack: a repository by plain HTTP, or the files of an OCI layout."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
import uuid
from http.client import HTTPResponse
from pathlib import Path
from typing import Protocol

import pytest

from loopback import open_url
from registry2 import RegistryServer

__all__ = ["KINDS", "Layout", "PlainTarget", "Repository", "open_target", "tag_of"]

KINDS = ("registry", "auth_registry", "layout")

_TRIES = 20
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class PlainTarget(Protocol):
    """location: for CTXPACK_REGISTRY. environment: the variables with the credentials for it."""

    location: str
    environment: dict[str, str]

    def manifest(self, tag: str) -> bytes | None:
        """Return the image manifest, or the index, that tag names, or None if there is no such tag."""
        ...

    def blob(self, digest: str) -> bytes:
        """Return a blob, unchecked."""
        ...


class Repository:
    """A repository of its own on a running registry."""

    def __init__(self, server: RegistryServer, name: str = "") -> None:
        self.server = server
        self.name = name or f"team/{uuid.uuid4().hex[:12]}"
        self.location = f"{server.address}/{self.name}"
        self.environment = {}
        if server.username:
            self.environment = {"CTXPACK_USERNAME": server.username, "CTXPACK_PASSWORD": server.password}

    def through(self, address: str) -> str:
        """Return the location of this repository through the relay at address."""
        return f"{address}/{self.name}"

    def manifest(self, tag: str) -> bytes | None:
        return self._get(f"manifests/{tag}", Accept=f"{MANIFEST_TYPE}, {INDEX_TYPE}")

    def blob(self, digest: str) -> bytes:
        data = self._get(f"blobs/{digest}")
        assert data is not None, f"{digest} is not there"
        return data

    def put_manifest(self, tag: str, data: bytes, media_type: str = MANIFEST_TYPE) -> None:
        """Let tag name data, unchecked."""
        self._send("PUT", f"manifests/{tag}", data, **{"Content-Type": media_type})

    def put_blob(self, digest: str, data: bytes) -> None:
        with self._open(self._request("POST", "blobs/uploads/", b"")) as answer:
            upload = f"{answer.headers['Location']}&digest={digest}"
        request = urllib.request.Request(upload, data, {"Content-Type": "application/octet-stream"}, method="PUT")
        self._open(request).close()

    def _get(self, path: str, **headers: str) -> bytes | None:
        for patience in reversed(range(_TRIES)):
            try:
                with self._open(self._request("GET", path, None, **headers)) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                if error.code != 500 or not patience:
                    raise
                time.sleep(0.1)  # registry:2 is just writing the tag, for a client that may have been killed
        raise AssertionError("one of the tries is the last one")

    def _send(self, method: str, path: str, data: bytes, **headers: str) -> None:
        self._open(self._request(method, path, data, **headers)).close()

    def _request(self, method: str, path: str, data: bytes | None, **headers: str) -> urllib.request.Request:
        url = f"http://{self.server.address}/v2/{self.name}/{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        if self.server.username:
            pair = f"{self.server.username}:{self.server.password}".encode()
            request.add_header("Authorization", "Basic " + base64.b64encode(pair).decode())
        return request

    def _open(self, request: urllib.request.Request) -> HTTPResponse:
        return open_url(request, timeout=30)


class Layout:
    """An OCI image layout in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.location = f"oci:{folder}"
        self.environment: dict[str, str] = {}

    def manifest(self, tag: str) -> bytes | None:
        index = self.folder / "index.json"
        entries = json.loads(index.read_bytes())["manifests"] if index.exists() else []
        named = [
            each for each in entries if each.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag
        ]
        return self.blob(named[0]["digest"]) if named else None

    def blob(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def path(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def open_target(kind: str, request: pytest.FixtureRequest) -> PlainTarget:
    """Return an empty target of one of KINDS, for the test of request alone."""
    if kind == "layout":
        folder: Path = request.getfixturevalue("tmp_path")
        return Layout(folder / "layout")
    server: RegistryServer = request.getfixturevalue(kind)
    return Repository(server)


def tag_of(uri: str) -> str:
    return "ctx-" + uri.removeprefix("ctx://sha256:")
