"""One HTTP exchange: limits of time and size, checked redirects, and our errors for those of other libraries.

This module does not know registries. The transport adapter of `requests` chooses proxy and TLS settings, and urllib3
sends: no cookies, no .netrc, no automatic redirects, no decoding, and nothing from the environment except what Network
holds.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ctxpack_identity.errors import IntegrityError, InvalidInput, Unavailable
from ctxpack_oci.content import BLOCK_BYTES, Outgoing
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.origin import Origin, Reach, join, origin_of, reach_of
from ctxpack_oci.patience import Deadline, Patience, Transient, seconds_after
from ctxpack_oci.proxy import Network
from ctxpack_oci.refusal import ASK_OPERATOR, message_of

__all__ = ["MAX_ERROR_BYTES", "Transport"]

MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 64 * 1024  # bytes; of the body of an error or of a token
HOSTS = 8  # to which connections are kept open
CONNECTIONS = 32  # kept open per host; with more threads, the others are opened and closed for each request
SEND_BLOCK_BYTES = 128 * 1024  # bytes of one send, for which urllib3 allows Patience.connect seconds

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({429, 500, 502, 503, 504})  # the next attempt may get another status
_SAFE = frozenset({"GET", "HEAD"})
_HEADERS_FOR_OTHER_ORIGINS = frozenset({"accept", "accept-encoding", "range", "user-agent"})
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (urllib3.exceptions.IncompleteRead, "the answer was cut short"),
    (urllib3.exceptions.NameResolutionError, "no such host name"),
    (urllib3.exceptions.ProxyError, "the proxy did not connect"),
)


class Transport:
    """Connections to one registry and to the servers it redirects to. Safe for use from several threads."""

    def __init__(self, home: Origin, *, patience: Patience, network: Network) -> None:
        self._home = home
        self._patience = patience
        self._network = network
        self._adapter = _Adapter(network.authorities)

    def exchange(self, request: Request, deadline: Deadline) -> Reply:
        """Send request once and return the answer, whatever its status, after at most MAX_REDIRECTS redirects.

        After a redirect to another origin, only the headers Accept, Accept-Encoding, Range and User-Agent are sent.
        Raises: Transient for 429, 500, 502, 503, 504 and a broken connection; Unavailable when TLS fails;
        IntegrityError for a redirect that must not be followed, and for a body that is too long or encoded; FileFault
        when the file fails that the sink writes or that holds the body of the request.
        """
        url, headers = request.url, dict(request.headers)
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._hop(request, url, headers, deadline)
            if reply.status not in _REDIRECTS:
                return reply
            url, previous = self._next(request, reply), url
            if origin_of(url) != origin_of(previous):
                headers = {name: value for name, value in headers.items() if name.lower() in _HEADERS_FOR_OTHER_ORIGINS}
        raise _redirect_error(f"more than {MAX_REDIRECTS} redirects", request)

    def allows(self, url: str) -> bool:
        """Whether the registry may redirect to url: never from https to http, nor into another private network."""
        origin = origin_of(url)
        if origin is None or (origin.scheme == "http" and self._home.scheme == "https"):
            return False
        reach = reach_of(origin.host)
        return reach is Reach.PUBLIC or origin.host == self._home.host or reach is reach_of(self._home.host)

    def close(self) -> None:
        """Close every idle connection."""
        self._adapter.close()

    def _hop(self, request: Request, url: str, headers: Mapping[str, str], deadline: Deadline) -> Reply:
        left = deadline.left()
        if left <= 0:
            raise Transient("the time for this request is over", where=request.where)
        origin = origin_of(url)
        proxy = self._network.proxy_for(origin) if origin else None
        timeout = urllib3.Timeout(connect=min(self._patience.connect, left), read=min(self._patience.read, left))
        try:
            raw = self._adapter.open(request, url, headers, proxy=proxy, timeout=timeout, deadline=deadline)
            try:
                return self._reply(request, raw, url, deadline)
            except BaseException:
                raw.close()
                raise
        except urllib3.exceptions.MaxRetryError as error:
            if isinstance(error.reason, urllib3.exceptions.SSLError):
                raise _tls_failure(error, request, url) from error
            raise Transient(f"{_authority(url)}: {_reason(error)}", where=request.where) from error
        except (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema) as error:
            raise InvalidInput(
                "cannot use the proxy that the environment names",
                where=request.where,
                fix="correct or unset https_proxy, http_proxy or all_proxy",
                code="E_PROXY",
            ) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Transient(f"{_authority(url)}: {_reason(error)}", where=request.where) from error

    def _reply(self, request: Request, raw: urllib3.BaseHTTPResponse, url: str, deadline: Deadline) -> Reply:
        status, headers = raw.status, raw.headers
        succeeded = 200 <= status < 300
        limit = request.part_limit if status == 206 else request.limit
        wanted = succeeded and limit is not None
        if status in _REDIRECTS or (succeeded and not wanted and request.method == "GET"):
            raw.close()  # its body is not needed, and may have no end
            return Reply(status=status, headers=headers, body=b"", url=url)
        if wanted:
            _expect_plain(headers, request)
        if not succeeded or limit is None:
            limit = MAX_ERROR_BYTES
        body = io.BytesIO()
        if _receive(raw, limit, deadline, request.sink.write if wanted and request.sink else body.write):
            raw.release_conn()
        else:
            raw.close()
            if wanted:
                raise IntegrityError(
                    "answer is too long", where=request.where, expected=f"at most {limit} bytes", code="E_SIZE"
                )
        kept = b"" if succeeded and not wanted else body.getvalue()
        reply = Reply(status=status, headers=headers, body=kept, url=url)
        if status in _TRANSIENT:
            after = seconds_after(headers.get("Retry-After", ""), now=self._patience.wall_clock())
            raise Transient(f"{_authority(url)} {message_of(reply)}", where=request.where, after=after)
        return reply

    def _next(self, request: Request, reply: Reply) -> str:
        location = reply.headers.get("Location", "")
        url = join(reply.url, location) if location else ""
        if not url:
            raise _redirect_error("redirect without a Location", request)
        if not self.allows(url):
            raise _redirect_error(f"redirect to {_authority(url)} is not followed", request)
        if request.method not in _SAFE and (reply.status not in (307, 308) or origin_of(url) != origin_of(request.url)):
            raise _redirect_error(f"redirect of a {request.method} to {_authority(url)} is not followed", request)
        return url


class _Adapter(HTTPAdapter):
    """Pools of connections, with the proxy and the TLS settings of each.

    Its `open` does what `send` does, but asks for the settings of a server once, and makes no Response, which is a
    quarter of the CPU time of a small request. authorities: see Network.
    """

    def __init__(self, authorities: str) -> None:
        super().__init__(pool_connections=HOSTS, pool_maxsize=CONNECTIONS, max_retries=0)
        self._verify = authorities or True
        self._pools: dict[Origin | None, urllib3.HTTPConnectionPool] = {}  # without proxy

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: object) -> None:
        # Uploads in larger blocks than the 16 KiB of urllib3.
        super().init_poolmanager(connections, maxsize, block, blocksize=SEND_BLOCK_BYTES, **pool_kwargs)

    def open(
        self,
        request: Request,
        url: str,
        headers: Mapping[str, str],
        *,
        proxy: str | None,
        timeout: urllib3.Timeout,
        deadline: Deadline,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request to url, and return the answer, of which the body is still to be read.

        Raises: exceptions of urllib3 and of `requests`, OSError, ValueError.
        """
        pool, path = self._pool(url, proxy)
        sent = {"User-Agent": "ctxpack", "Accept-Encoding": "identity", **headers}
        upload = None if request.body is None else _Upload(request.body, deadline)
        if upload is not None or request.method not in _SAFE:
            sent["Content-Length"] = str(upload.size if upload else 0)
        return pool.urlopen(
            request.method,
            path,
            body=upload,  # type: ignore[arg-type]  # urllib3 takes any reader
            headers=sent,
            retries=self.max_retries,
            redirect=False,
            assert_same_host=False,
            timeout=timeout,
            preload_content=False,
            decode_content=False,
        )

    def _pool(self, url: str, proxy: str | None) -> tuple[urllib3.HTTPConnectionPool, str]:
        """Return the pool for url, and what the first line of a request there asks for."""
        origin = origin_of(url)
        pool = None if proxy else self._pools.get(origin)
        if pool is None or pool.pool is None:  # closed, to make room for another server
            # Not by prepare(), which reads cookies and .netrc, and quotes a signed URL again.
            prepared = requests.PreparedRequest()
            prepared.url = url
            proxies = {urlsplit(url).scheme: proxy} if proxy else None
            pool = cast(
                "urllib3.HTTPConnectionPool", self.get_connection_with_tls_context(prepared, self._verify, proxies)
            )
            self.cert_verify(pool, url, self._verify, None)  # type: ignore[no-untyped-call]
            if proxy:
                return pool, self.request_url(prepared, proxies)
            if len(self._pools) >= HOSTS:
                self._pools.clear()
            self._pools[origin] = pool
        path, query = urlsplit(url)[2:4]
        return pool, (path or "/") + (f"?{query}" if query else "")


class _Upload:
    """A body that is sent block by block: each block has a socket timeout of its own, and the deadline is checked."""

    def __init__(self, body: bytes | Outgoing, deadline: Deadline) -> None:
        self._deadline = deadline
        if isinstance(body, bytes):
            self.size = len(body)
            self._reader: io.BytesIO | Outgoing = io.BytesIO(body)  # which shares the bytes, and copies only blocks
        else:
            self.size = body.size
            self._reader = body
            body.rewind()

    def read(self, size: int) -> bytes:
        if self._deadline.left() <= 0:
            raise TimeoutError("the time for this request is over")
        return self._reader.read(size)


def _expect_plain(headers: Mapping[str, str], request: Request) -> None:
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise IntegrityError(
            "answer is encoded",
            where=request.where,
            expected="no Content-Encoding",
            got=encoding[:80],
            fix="a proxy between this machine and the registry may have encoded the answer; turn that off",
            code="E_ENCODING",
        )


def _receive(raw: urllib3.BaseHTTPResponse, limit: int, deadline: Deadline, write: Callable[[bytes], object]) -> bool:
    """Write the body, but at most limit bytes; return whether these are all. Reads one byte more, to know that.

    Not by `read`, which can wait for all its bytes, past the deadline.
    """
    left = limit
    while block := raw.read1(min(BLOCK_BYTES, left + 1), decode_content=False):
        write(block[:left])
        if len(block) > left:
            return False
        left -= len(block)
        if deadline.left() <= 0:
            raise TimeoutError("the time for this request is over")
    return True


def _redirect_error(what: str, request: Request) -> IntegrityError:
    return IntegrityError(what, where=request.where, fix=ASK_OPERATOR, code="E_REDIRECT")


def _tls_failure(error: Exception, request: Request, url: str) -> Unavailable | Transient:
    found = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if isinstance(found, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Transient(f"{_authority(url)}: the connection broke", where=request.where)
    if isinstance(found, ssl.SSLCertVerificationError):
        what = f"certificate is not trusted ({found.verify_message})"
        fix = "name the authority's PEM file in SSL_CERT_FILE"
    else:
        what = f"TLS failed ({found.reason if found and found.reason else 'no reason given'})"
        fix = "if the registry has no TLS, write http:// in full before its host"
    return Unavailable(f"{_authority(url)}: {what}", where=request.where, fix=fix, code="E_TLS")


def _authority(url: str) -> str:
    """Scheme, host and port for a message: the path or the query may hold a signature."""
    origin = origin_of(url)
    return str(origin) if origin else "a malformed URL"


def _reason(error: BaseException) -> str:
    """The best reason that error and its causes give. The texts of the outer ones are not used: they quote the URL."""
    causes = _causes(error)
    for kind, text in _REASONS:
        if any(isinstance(cause, kind) for cause in causes):
            return text
    reasons = (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror)
    # Last, because urllib3 raises a timeout for a refused connection too.
    late = any(isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) for cause in causes)
    return next(reasons, "no answer in time" if late else "the connection broke")


def _causes(error: BaseException) -> list[BaseException]:
    """Error and every exception that it wraps: requests and urllib3 put them into args, `reason` or `__cause__`."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 20:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    return found
