"""Authorization for requests to a registry: Basic, and Bearer tokens (distribution-spec, "Token Authentication").

Credentials are sent to the registry, if nobody on the way can read them (`Origin.is_confidential`). They are also sent
to the token service that the registry names if the service has https (or the registry itself has plain http) and both
hosts have one owner (`share_owner`): `auth.docker.io` gets those for `registry-1.docker.io`. Any other token service is
asked for an anonymous token. The scope is always our own repository and action; the scope in the challenge is ignored.
"""

from __future__ import annotations

import base64
import re
import threading
from typing import Literal
from urllib.parse import quote, urlencode

import msgspec

from ctxpack_identity.errors import AccessDenied, IntegrityError, Unavailable
from ctxpack_oci.challenge import Challenge, parse_challenges
from ctxpack_oci.credentials import Credentials, advice_for
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.http import MAX_ERROR_BYTES, Transport
from ctxpack_oci.origin import Origin, origin_of, share_owner
from ctxpack_oci.patience import Deadline, Patience, persist
from ctxpack_oci.refusal import ASK_OPERATOR, message_of

__all__ = ["Action", "Authenticator"]

Action = Literal["pull", "pull,push", "pull,push,delete"]

DEFAULT_LIFE = 60.0  # seconds of a token without expires_in (distribution-spec, "Token Response Fields")
LONGEST_LIFE = 24 * 3600.0  # seconds
MARGIN = 10.0  # seconds; a token is not used in the last ones

_is_bearer = re.compile(r"\A[!-~]+\Z").match  # a line break would start another header


class _TokenAnswer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = DEFAULT_LIFE


_decode = msgspec.json.Decoder(_TokenAnswer).decode  # see imagemanifest


class _Token(msgspec.Struct, frozen=True):
    header: str
    end: float  # on Patience.clock


class Authenticator:
    """Sends requests to one repository of a registry, with the authorization that its 401 asks for."""

    def __init__(
        self,
        transport: Transport,
        *,
        home: Origin,
        host: str,
        repository: str,
        credentials: Credentials | None,
        advice: str,
        patience: Patience,
    ) -> None:
        self._transport = transport
        self._home = home
        self._host = host
        self._repository = repository
        self._credentials = credentials if home.is_confidential else None
        self._advice = advice or advice_for(host, self._credentials, in_clear=not home.is_confidential)
        self._patience = patience
        self._lock = threading.Lock()  # one thread fetches a token, the others wait for it
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        self._withheld_from = ""

    def exchange(self, request: Request, deadline: Deadline, *, action: Action) -> Reply:
        """Send request once, and once more with new authorization if the registry itself answers 401."""
        known = self._challenge
        sent = self._authorization(known, action, refused="") if known else ""
        reply = self._transport.exchange(_signed(request, sent), deadline)
        if reply.status != 401 or origin_of(reply.url) != self._home:
            return reply  # no credentials for a server that the registry redirected to
        challenge = self._choose(reply)
        fresh = self._authorization(challenge, action, refused=sent) if challenge else ""
        if not fresh or fresh == sent:
            return reply
        return self._transport.exchange(_signed(request, fresh), deadline)

    @property
    def login(self) -> str:
        """What the user can do when access is denied."""
        if self._withheld_from:
            return (
                f"the credentials were not sent to {self._withheld_from}, because it and {self._host} "
                f"have no common owner; {ASK_OPERATOR}"
            )
        return self._advice

    def _choose(self, reply: Reply) -> Challenge | None:
        """The challenge to answer, remembered for the next request: Bearer before Basic."""
        offered = {each.scheme: each for each in reversed(parse_challenges(reply.headers.get("WWW-Authenticate", "")))}
        chosen = offered.get("bearer") or offered.get("basic")
        self._challenge = chosen or self._challenge
        return chosen

    def _authorization(self, challenge: Challenge, action: Action, *, refused: str) -> str:
        """The value of the header, or "". refused: a value that the registry has just answered with 401."""
        if challenge.scheme == "basic":
            return _basic(self._credentials)
        with self._lock:
            # A token for pushing is good for pulling too.
            for token in (self._tokens.get("pull,push"), self._tokens.get(action)):
                if token and token.header != refused and self._patience.clock() < token.end:
                    return token.header
            fresh = self._fetch_token(challenge, action)
            self._tokens[action] = fresh
            return fresh.header

    def _fetch_token(self, challenge: Challenge, action: Action) -> _Token:
        realm = challenge.parameters.get("realm", "")
        service = _origin_of_service(realm, self._home, self._transport)
        where = f"token service {service}"
        request = self._token_request(realm, challenge.parameters.get("service", ""), service, action, where)
        reply = persist(
            lambda deadline: self._transport.exchange(request, deadline), size=MAX_ERROR_BYTES, patience=self._patience
        )
        if reply.status in (400, 401, 403):  # 400 for an invalid refresh token (RFC 6749, 5.2)
            raise AccessDenied(f"answered {reply.status}", where=where, fix=self.login)
        if reply.status != 200:  # a 404 too: the service does not know whether the registry has something
            raise Unavailable(message_of(reply), where=where, fix=ASK_OPERATOR)
        return self._parse_token(reply.body, where)

    def _token_request(self, realm: str, service: str, origin: Origin, action: Action, where: str) -> Request:
        credentials = self._credentials
        if credentials and not share_owner(origin.host, self._home.host):
            credentials, self._withheld_from = None, origin.host
        question = {"service": service} if service else {}
        question["scope"] = f"repository:{self._repository}:{action}"
        if credentials and credentials.identity_token:
            form = {**question, "grant_type": "refresh_token", "client_id": "ctxpack"}
            form["refresh_token"] = credentials.identity_token
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            return Request(method="POST", url=realm, where=where, headers=headers, body=body, limit=MAX_ERROR_BYTES)
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(question, quote_via=quote)}"
        request = Request(method="GET", url=url, where=where, limit=MAX_ERROR_BYTES)
        return _signed(request, _basic(credentials))

    def _parse_token(self, body: bytes, where: str) -> _Token:
        try:
            answer = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise IntegrityError(f"not a token: {error}", where=where, fix=ASK_OPERATOR, code="E_PROTOCOL") from error
        token = answer.token or answer.access_token
        if not _is_bearer(token):
            raise IntegrityError(
                "not a token",
                where=where,
                expected="visible ASCII characters",
                fix=ASK_OPERATOR,
                code="E_PROTOCOL",
            )
        life = min(max(answer.expires_in, 0.0), LONGEST_LIFE)
        return _Token(header=f"Bearer {token}", end=self._patience.clock() + life - min(MARGIN, life / 10))


def _origin_of_service(realm: str, home: Origin, transport: Transport) -> Origin:
    origin = origin_of(realm)
    if origin is None or not transport.allows(realm):
        raise IntegrityError(
            "token service is not used",
            where=f"registry {home}",
            expected="an https URL outside private networks" if home.scheme == "https" else "an http or https URL",
            got=str(origin) if origin else "a malformed URL",
            fix=ASK_OPERATOR,
            code="E_REALM",
        )
    return origin


def _basic(credentials: Credentials | None) -> str:
    if credentials is None or not credentials.password:
        return ""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def _signed(request: Request, authorization: str) -> Request:
    if not authorization:
        return request
    return msgspec.structs.replace(request, headers={**request.headers, "Authorization": authorization})
