"""One HTTP exchange: bounded in time and size, redirects judged, foreign exceptions translated.

Nothing here knows registries. `requests` is used at the level of its transport adapter, below its Session: no
cookies, no .netrc, no redirects of its own, no decoding, nothing from the environment but what Network says.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Mapping

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from ctxpack_identity.errors import IntegrityError, InvalidInput, Unavailable
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.origin import Origin, Reach, join, origin_of, reach_of
from ctxpack_oci.patience import Deadline, Patience, Transient, seconds_after
from ctxpack_oci.proxy import Network
from ctxpack_oci.refusal import ASK_OPERATOR, message_of

__all__ = ["MAX_ERROR_BYTES", "Transport"]

MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 64 * 1024  # bytes of an error's or a token's body
CONNECTIONS = 32  # kept open per host; a caller with more threads than this opens and closes some
PIECE_BYTES = 128 * 1024  # most bytes taken from a socket at once: what malloc still takes from its own stock
BLOCK_BYTES = 128 * 1024  # bytes sent at once; each has Patience.connect seconds, as urllib3 sets the socket

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({429, 500, 502, 503, 504})  # statuses that may be different a moment later
_SAFE = frozenset({"GET", "HEAD"})
_HEADERS_FOR_STRANGERS = frozenset({"accept", "accept-encoding", "user-agent"})
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (urllib3.exceptions.IncompleteRead, "the answer was cut short"),
    (urllib3.exceptions.NameResolutionError, "no such host name"),
    (urllib3.exceptions.ProxyError, "the proxy did not connect"),
)


class Transport:
    """Connections for one registry and the servers it sends us to; for use from any number of threads."""

    def __init__(self, home: Origin, *, patience: Patience, network: Network) -> None:
        self._home = home
        self._patience = patience
        self._network = network
        self._adapter = _Adapter(pool_connections=8, pool_maxsize=CONNECTIONS, max_retries=0)

    def exchange(self, request: Request, deadline: Deadline) -> Reply:
        """Send request once and return the answer, whatever its status, after at most MAX_REDIRECTS redirects.

        Headers but Accept and its like are left out as soon as a redirect leaves the request's origin.
        Raises: Transient for 429, 500, 502, 503, 504 and a broken connection; Unavailable when TLS fails;
        IntegrityError for a redirect that must not be followed and a body that is too long or encoded.
        """
        url, headers = request.url, dict(request.headers)
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._hop(request, url, headers, deadline)
            if reply.status not in _REDIRECTS:
                return reply
            url, came_from = self._next(request, reply), url
            if origin_of(url) != origin_of(came_from):
                headers = {name: value for name, value in headers.items() if name.lower() in _HEADERS_FOR_STRANGERS}
        raise _misdirected(f"more than {MAX_REDIRECTS} redirects", request)

    def allows(self, url: str) -> bool:
        """Whether the registry may send us to url: never from https to http, nor into a network it is not in itself."""
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
        try:
            response = self._adapter.send(
                _prepared(request, url, headers, deadline),
                stream=True,
                timeout=(min(self._patience.connect, left), min(self._patience.read, left)),
                verify=self._network.authorities or True,
                proxies={origin.scheme: proxy} if origin and proxy else None,
            )
            try:
                return self._reply(request, response, url, deadline)
            except BaseException:
                response.raw.close()
                raise
        except requests.exceptions.SSLError as error:
            raise _tls_failure(error, request, url) from error
        except (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidSchema) as error:
            raise InvalidInput(
                "cannot use the proxy that the environment names",
                where=request.where,
                fix="correct or unset https_proxy, http_proxy or all_proxy",
                code="E_PROXY",
            ) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Transient(f"{_authority(url)}: {_reason(error)}", where=request.where) from error

    def _reply(self, request: Request, response: requests.Response, url: str, deadline: Deadline) -> Reply:
        status, headers, raw = response.status_code, response.headers, response.raw
        if status in _REDIRECTS:
            raw.close()  # its body is not for us and may have no end
            return Reply(status=status, headers=headers, body=b"", url=url)
        succeeded = 200 <= status < 300
        wanted = succeeded and request.limit is not None
        if wanted:
            _expect_plain(headers, request)
        limit = request.limit if succeeded and request.limit is not None else MAX_ERROR_BYTES
        body = _read(raw, limit, deadline)
        if len(body) <= limit:
            raw.release_conn()
        else:
            raw.close()
            if wanted:
                raise IntegrityError(
                    "answer is too long", where=request.where, expected=f"at most {limit} bytes", code="E_SIZE"
                )
        reply = Reply(status=status, headers=headers, body=b"" if succeeded and not wanted else body[:limit], url=url)
        if status in _PASSING:
            after = seconds_after(headers.get("Retry-After", ""), now=self._patience.wall_clock())
            raise Transient(f"{_authority(url)} {message_of(reply)}", where=request.where, after=after)
        return reply

    def _next(self, request: Request, reply: Reply) -> str:
        location = reply.headers.get("Location", "")
        url = join(reply.url, location) if location else ""
        if not url:
            raise _misdirected("redirect without a Location", request)
        if not self.allows(url):
            raise _misdirected(f"redirect to {_authority(url)} is not followed", request)
        if request.method not in _SAFE and (reply.status not in (307, 308) or origin_of(url) != origin_of(request.url)):
            raise _misdirected(f"redirect of a {request.method} to {_authority(url)} is not followed", request)
        return url


class _Adapter(HTTPAdapter):
    """HTTPAdapter whose uploads go out in larger blocks than urllib3's 16 KiB."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: object) -> None:
        super().init_poolmanager(connections, maxsize, block, blocksize=BLOCK_BYTES, **pool_kwargs)


class _Upload(io.BytesIO):
    """A body sent block by block, so that neither one socket timeout has to do for all of it nor the deadline waits."""

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1) -> bytes:
        if self._deadline.left() <= 0:
            raise TimeoutError("the time for this request is over")
        return super().read(size)


def _prepared(request: Request, url: str, headers: Mapping[str, str], deadline: Deadline) -> requests.PreparedRequest:
    # Filled in by hand: prepare() would look for cookies and netrc, and quote a signed URL anew.
    prepared = requests.PreparedRequest()
    prepared.method = request.method
    prepared.url = url
    prepared.headers = CaseInsensitiveDict({"User-Agent": "ctxpack", "Accept-Encoding": "identity", **headers})
    if request.body is not None:
        prepared.headers["Content-Length"] = str(len(request.body))
        prepared.body = _Upload(request.body, deadline)  # type: ignore[assignment]  # urllib3 takes any reader
    elif request.method not in _SAFE:
        prepared.headers["Content-Length"] = "0"
    return prepared


def _expect_plain(headers: Mapping[str, str], request: Request) -> None:
    encoding = headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise IntegrityError(
            "answer is encoded",
            where=request.where,
            expected="no Content-Encoding",
            got=encoding[:80],
            fix="a digest names the bytes as stored; a proxy between here and the registry may have changed them",
            code="E_ENCODING",
        )


def _read(raw: urllib3.HTTPResponse, limit: int, deadline: Deadline) -> bytes:
    """At most limit + 1 bytes of the body. `read1`, since `read` could wait for its whole amount past the deadline."""
    taken = io.BytesIO()
    while piece := raw.read1(min(PIECE_BYTES, limit + 1 - taken.tell()), decode_content=False):
        taken.write(piece)
        if deadline.left() <= 0:
            raise TimeoutError("the time for this request is over")
    return taken.getvalue()


def _misdirected(what: str, request: Request) -> IntegrityError:
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
    """Host and port for a message: never the path or query, where a signature may be."""
    origin = origin_of(url)
    return str(origin) if origin else "a malformed URL"


def _reason(error: BaseException) -> str:
    """What the causes of error say, the most telling first, without the URL that the outer ones quote."""
    causes = _causes(error)
    for kind, text in _REASONS:
        if any(isinstance(cause, kind) for cause in causes):
            return text
    said = (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror)
    # urllib3 calls a refused connection a timeout, so that the class of the outer exceptions comes last.
    late = any(isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) for cause in causes)
    return next(said, "no answer in time" if late else "the connection broke")


def _causes(error: BaseException) -> list[BaseException]:
    """Every exception that error wraps: requests and urllib3 put them in args, `reason` or `__cause__`."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 20:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in found:
            found.append(cause)
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    return found
