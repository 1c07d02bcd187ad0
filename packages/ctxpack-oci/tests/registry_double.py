"""A small strict registry in memory, over real HTTP on loopback, that gives wrong answers as planned.

It implements the part of distribution-spec 1.1 that ctxpack-oci uses. It notes in `complaints` the faults of a client:
cookies, a request for an encoding or for several ranges, a second use of an upload session, a body with another digest
than in its URL.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """One request as it arrived. headers: names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """One response. length: a false Content-Length. drip: seconds between single bytes.

    hang_up: close without an answer. endless: send the body again and again until the client closes.
    """

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    drip: float = 0.0
    hang_up: bool = False
    endless: bool = False


Rule = tuple[str, "re.Pattern[str]", Answer | Callable[[Seen], Answer | None]]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def fault(status: int, code: str, message: str = "", **headers: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


def part(data: bytes, seen: Seen) -> Answer:
    """The range of data that seen asks for (RFC 9110, section 14)."""
    first, last = map(int, seen.headers["range"].removeprefix("bytes=").split("-"))
    if first >= len(data):
        return Answer(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
    body = data[first : last + 1]
    return Answer(
        status=206, headers={"Content-Range": f"bytes {first}-{first + len(body) - 1}/{len(data)}"}, body=body
    )


class RegistryDouble:
    """The registry. `plan` an answer to the next matching request; look at `seen` afterwards."""

    def __init__(self, *, tls: Path | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.tags: dict[str, str] = {}
        self.sessions: dict[str, bool] = {}
        self._started = 0
        self.seen: list[Seen] = []
        self.complaints: list[str] = []
        self.basic: tuple[str, str] | None = None
        self.bearer: str | None = None  # the realm, when the registry requires tokens
        self.good_tokens: set[str] = set()
        self.lists_referrers = False
        self.cuts: list[int] = []  # bytes after which the connection of the next PUT is closed
        self._plans: list[list[object]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def plan(self, method: str, path: str, answer: Answer | Callable[[Seen], Answer | None], *, times: int = 1) -> None:
        """Give answer to the next requests, as many as times, whose method and path match the two patterns in full.

        A callable may return None: then the registry answers.
        """
        self._plans.append([re.compile(method), re.compile(path), answer, times])

    def asked(self, method: str = ".*", path: str = ".*") -> list[Seen]:
        """The requests so far whose method and path match in full."""
        return [one for one in self.seen if re.fullmatch(method, one.method) and re.fullmatch(path, one.path)]

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
            self._inspect(seen)
            planned = self._planned(seen)
            return planned or self._unauthorized(seen) or self._serve(seen)

    def _planned(self, seen: Seen) -> Answer | None:
        for plan in self._plans:
            method, path, answer, times = plan
            if times and method.fullmatch(seen.method) and path.fullmatch(seen.path):  # type: ignore[attr-defined]
                plan[3] = times - 1  # type: ignore[operator]
                return answer(seen) if callable(answer) else answer  # type: ignore[return-value]
        return None

    def _inspect(self, seen: Seen) -> None:
        if "range" in seen.headers and not re.fullmatch(r"bytes=[0-9]+-[0-9]+", seen.headers["range"]):
            self.complaints.append(f"{seen.method} {seen.path}: asks for {seen.headers['range']}, not for one range")
        if "cookie" in seen.headers:
            self.complaints.append(f"{seen.method} {seen.path}: cookies are on")
        if seen.headers.get("accept-encoding") != "identity":
            self.complaints.append(f"{seen.method} {seen.path}: an encoding was asked for")
        if seen.method in ("GET", "HEAD") and seen.body:
            self.complaints.append(f"{seen.method} {seen.path}: has a body")

    def _unauthorized(self, seen: Seen) -> Answer | None:
        if seen.path == "/token":
            return None
        given = seen.headers.get("authorization", "")
        if self.basic:
            pair = base64.b64encode(":".join(self.basic).encode()).decode()
            if given != f"Basic {pair}":
                return fault(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="double"')
        if self.bearer and given.removeprefix("Bearer ") not in self.good_tokens:
            challenge = f'Bearer realm="{self.bearer}",service="double",scope="repository:someone/else:*"'
            return fault(401, "UNAUTHORIZED", "token required", WWW_Authenticate=challenge)
        return None

    def _serve(self, seen: Seen) -> Answer:
        for pattern, serve in (
            (r"/v2/team/packs/blobs/uploads/", self._start),
            (r"/v2/team/packs/blobs/uploads/[0-9]+", self._upload),
            (r"/v2/team/packs/blobs/sha256:[0-9a-f]{64}", self._blob),
            (r"/v2/team/packs/manifests/[^/]+", self._manifest),
            (r"/v2/team/packs/tags/list", self._tags),
            (r"/v2/team/packs/referrers/sha256:[0-9a-f]{64}", self._referrers),
        ):
            if re.fullmatch(pattern, seen.path):
                return serve(seen)
        self.complaints.append(f"{seen.method} {seen.target}: no such endpoint")
        return fault(404, "NAME_UNKNOWN", "repository name not known")

    def _start(self, seen: Seen) -> Answer:
        if seen.method != "POST" or seen.body:
            self.complaints.append("an upload is started by an empty POST")
        self._started += 1
        session = str(self._started)
        self.sessions[session] = True
        return Answer(status=202, headers={"Location": f"/v2/team/packs/blobs/uploads/{session}?_state=s%3D{session}"})

    def _upload(self, seen: Seen) -> Answer:
        session = seen.path.rpartition("/")[2]
        if seen.method != "PUT" or not self.sessions.pop(session, False):
            self.complaints.append(f"{seen.method} to upload session {session}, which is not open")
            return fault(404, "BLOB_UPLOAD_UNKNOWN")
        if seen.query.get("_state") != f"s={session}" or seen.query.get("digest") != digest(seen.body):
            self.complaints.append(f"upload query {seen.query}")
            return fault(400, "DIGEST_INVALID")
        self.blobs[digest(seen.body)] = seen.body
        return Answer(status=201, headers={"Docker-Content-Digest": digest(seen.body)})

    def _blob(self, seen: Seen) -> Answer:
        data = self.blobs.get(seen.path.rpartition("/")[2])
        if data is None:
            return fault(404, "BLOB_UNKNOWN", "blob unknown to registry")
        return part(data, seen) if seen.method == "GET" and "range" in seen.headers else Answer(body=data)

    def _manifest(self, seen: Seen) -> Answer:
        reference = seen.path.rpartition("/")[2]
        if seen.method == "PUT":
            name = digest(seen.body)
            if (lacking := self._lacking(seen)) is not None:
                return fault(400, "MANIFEST_BLOB_UNKNOWN", f"manifest {lacking} unknown")
            if ":" in reference and reference != name:
                self.complaints.append("a manifest was put under another digest")
            self.manifests[name] = (seen.headers["content-type"], seen.body)
            if ":" not in reference:
                self.tags[reference] = name
            headers = {"Docker-Content-Digest": name}
            subject = json.loads(seen.body).get("subject")
            if self.lists_referrers and subject:
                headers["OCI-Subject"] = subject["digest"]
            return Answer(status=201, headers=headers)
        if seen.method == "DELETE":
            if self.manifests.pop(reference, None) is None:
                return fault(404, "MANIFEST_UNKNOWN", "manifest unknown")
            self.tags = {tag: name for tag, name in self.tags.items() if name != reference}
            return Answer(status=202)
        found = self.manifests.get(self.tags.get(reference, reference))
        if found is None or found[0] not in seen.headers.get("accept", ""):
            return fault(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, data = found
        return Answer(headers={"Content-Type": media_type, "Docker-Content-Digest": digest(data)}, body=data)

    def _lacking(self, seen: Seen) -> str | None:
        """A manifest that the index in seen names and that is not here. registry:2 and ggcr refuse such an index."""
        if seen.headers["content-type"] != INDEX:
            return None
        named = [entry["digest"] for entry in json.loads(seen.body)["manifests"]]
        return next((name for name in named if name not in self.manifests), None)

    def _referrers(self, seen: Seen) -> Answer:
        if not self.lists_referrers:
            return fault(404, "NOT_FOUND")
        found = []
        for name, (media_type, data) in self.manifests.items():
            manifest = json.loads(data)
            if manifest.get("subject", {}).get("digest") == seen.path.rpartition("/")[2]:
                found.append({"mediaType": media_type, "digest": name, "size": len(data)})
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode()
        return Answer(headers={"Content-Type": INDEX}, body=body)

    def _tags(self, seen: Seen) -> Answer:
        return Answer(body=json.dumps({"name": "team/packs", "tags": sorted(self.tags) or None}).encode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes; the second must not wait for an ACK

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                if self.command == "PUT" and double.cuts:
                    self.rfile.read(double.cuts.pop())
                    self.close_connection = True
                    return
                body = self.rfile.read(length)
                if len(body) < length:
                    self.close_connection = True  # the client closed in the middle
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.give(double.answer(Seen(method=self.command, target=self.path, headers=headers, body=body)))

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def give(self, answer: Answer) -> None:
                if answer.hang_up:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                length = len(answer.body) if answer.length is None else answer.length
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.send_body(answer)
                if length != len(answer.body):
                    self.close_connection = True

            def send_body(self, answer: Answer) -> None:
                self.wfile.write(b"" if answer.drip else answer.body)
                for at in range(len(answer.body) if answer.drip else 0):
                    self.wfile.write(answer.body[at : at + 1])
                    self.wfile.flush()
                    if double._closing.wait(answer.drip):
                        return
                while answer.endless and not double._closing.is_set():
                    self.wfile.write(answer.body)

            def handle(self) -> None:
                try:
                    super().handle()
                except (ConnectionError, ssl.SSLError, TimeoutError):
                    self.close_connection = True  # the client closed

            def finish(self) -> None:
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    super().finish()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


class Clock:
    """Time that passes only in sleep; `waits` are the sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()
