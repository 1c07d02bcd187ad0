"""An S3 server in memory: the part of the protocol that reading needs, and a record of the requests.

The test adds buckets and keys. A listing has at most PAGE keys, so that there are several. The bucket "private" is
refused to everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from loopback import LoopbackServer

__all__ = ["S3Double"]

PAGE = 3
MODIFIED = "2026-11-22T12:00:00.000Z"
MODIFIED_HEADER = "Sun, 22 Nov 2026 12:00:00 GMT"


class S3Double(LoopbackServer):
    """buckets: key to content, by bucket. requests: "METHOD bucket/key", of a listing "LIST bucket/prefix".

    before_answer: called with the text of each request, before it is answered.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.before_answer: Callable[[str], object] = lambda request: None

        class Handler(_Handler):
            double = self

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make S3 libraries use this server, as some user."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self.address}",
            "AWS_ACCESS_KEY_ID": "user",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }


class _Handler(BaseHTTPRequestHandler):
    double: ClassVar[S3Double]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer_object("HEAD")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if key:
            return self._answer_object("GET")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert query.get("list-type") == "2", self.path
        self._note(f"LIST {bucket}/{query.get('prefix', '')}")
        if self._is_open(bucket):
            self._list(bucket, query)

    def log_message(self, format: str, *arguments: object) -> None:
        return

    def _answer_object(self, method: str) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        self._note(f"{method} {bucket}/{key}")
        if not self._is_open(bucket):
            return
        if not key:
            return self._send(200, b"")
        data = self.double.buckets[bucket].get(key)
        if data is None:
            return self._refuse(404, "NoSuchKey")
        etag = _etag(data)
        if self.headers.get("If-Match", etag) != etag:
            return self._refuse(412, "PreconditionFailed")
        headers = {"ETag": etag, "Last-Modified": MODIFIED_HEADER, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted is None:
            return self._send(200, data, headers)
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        if first >= len(data):
            return self._refuse(416, "InvalidRange")
        part = data[first : last + 1]
        self._send(206, part, headers | {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"})

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        objects, prefix, delimiter = self.double.buckets[bucket], query.get("prefix", ""), query.get("delimiter", "")
        found: dict[str, bytes | None] = {}
        for key in sorted(objects):
            rest = key.removeprefix(prefix)
            if key.startswith(prefix) and delimiter and delimiter in rest:
                found[prefix + rest.partition(delimiter)[0] + delimiter] = None
            elif key.startswith(prefix):
                found[key] = objects[key]
        after = unquote(query.get("continuation-token", ""))
        names = [name for name in sorted(found) if name > after]
        page = names[: min(PAGE, int(query.get("max-keys", "1000")))]
        encoded = (lambda text: quote(text, safe="/")) if query.get("encoding-type") == "url" else escape
        body = [f"<Name>{bucket}</Name><KeyCount>{len(page)}</KeyCount>"]
        if query.get("encoding-type") == "url":
            body.append("<EncodingType>url</EncodingType>")
        for name in page:
            data = found[name]
            if data is None:
                body.append(f"<CommonPrefixes><Prefix>{encoded(name)}</Prefix></CommonPrefixes>")
            else:
                body.append(
                    f"<Contents><Key>{encoded(name)}</Key><LastModified>{MODIFIED}</LastModified>"
                    f"<ETag>{escape(_etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
                )
        more = len(names) > len(page)
        token = f"<NextContinuationToken>{quote(page[-1])}</NextContinuationToken>" if more else ""
        body.append(f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}")
        self._send(200, f"<ListBucketResult>{''.join(body)}</ListBucketResult>".encode())

    def _note(self, request: str) -> None:
        self.double.requests.append(request)
        self.double.before_answer(request)

    def _is_open(self, bucket: str) -> bool:
        """Return whether the bucket may be read. If not, answer with the reason."""
        if bucket == "private":
            self._refuse(403, "AccessDenied")
        elif bucket not in self.double.buckets:
            self._refuse(404, "NoSuchBucket")
        else:
            return True
        return False

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'
