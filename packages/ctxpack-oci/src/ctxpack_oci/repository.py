"""One repository on a registry: requests with authorization and more than one attempt, and what a status means."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ctxpack_identity.digest import Digest, parse_digest
from ctxpack_identity.errors import AccessDenied, CtxPackError, IntegrityError, InvalidInput, Unavailable
from ctxpack_oci.auth import Action, Authenticator
from ctxpack_oci.credentials import Credentials
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.http import Transport
from ctxpack_oci.location import RegistryLocation
from ctxpack_oci.origin import origin_of
from ctxpack_oci.patience import Deadline, Patience, persist
from ctxpack_oci.proxy import Network
from ctxpack_oci.refusal import ASK_OPERATOR, CHECK_SETTING, codes_of, message_of, refusal

__all__ = ["Repository", "is_page_for_people", "receipt_of"]

T = TypeVar("T")

_PAGE_FOR_PEOPLE = ("text/html", "application/xhtml+xml")
_CREATED = (201, 200, 204)  # the specification says 201; some registries answer with another success


class Repository:
    """Sends requests to one repository. Safe for use from several threads, which share connections and tokens.

    name: for messages. base: the URL that all paths of the repository start with. advice: what to do when access is
    denied, "" for the usual advice.
    """

    def __init__(
        self,
        location: RegistryLocation,
        *,
        credentials: Credentials | None,
        patience: Patience,
        network: Network,
        advice: str = "",
    ) -> None:
        self.name = str(location)
        self._home = location.origin
        self.base = f"{self._home}/v2/{location.repository}"
        self._patience = patience
        self._transport = Transport(self._home, patience=patience, network=network)
        self._auth = Authenticator(
            self._transport,
            home=self._home,
            host=location.host,
            repository=location.repository,
            credentials=credentials,
            advice=advice,
            patience=patience,
        )
        self._lock = threading.Lock()  # one thread asks whether this is a registry, the others wait for the answer
        self._speaks_protocol: bool | None = None

    def ask(self, request: Request) -> Reply:
        """Return the answer to a GET or HEAD, whatever its status. Raises: Unavailable, when no attempt succeeds."""
        return self.persist(lambda deadline: self.send(request, deadline), size=request.limit or 0)

    def send(self, request: Request, deadline: Deadline, *, action: Action = "pull") -> Reply:
        """Make one attempt. Raises: Transient, when the next attempt may succeed."""
        return self._auth.exchange(request, deadline, action=action)

    def persist(self, attempt: Callable[[Deadline], T], *, size: int) -> T:
        """Return what attempt returns, calling it again while it raises Transient. size: bytes that it moves."""
        return persist(attempt, size=size, patience=self._patience)

    def expect(self, reply: Reply, statuses: tuple[int, ...], where: str) -> None:
        """Return if reply has one of these statuses. Raises: the error for its status."""
        if reply.status not in statuses:
            raise self.refusal(reply, where)

    def expect_miss(self, reply: Reply, where: str) -> None:
        """Return if reply, a 404, says that the registry lacks what was asked for.

        It does so with the JSON document of the specification ("Error Codes"), from wherever the registry redirects to.
        The 404 of the registry's own server without that document counts too, if `/v2/` there answers as the
        specification wants ("Determining Support"), which is asked once. Web servers answer 404 for everything.
        Raises: Unavailable otherwise, for it is not known what the registry has.
        """
        if any(codes_of(reply)):
            if origin_of(reply.url) == self._home:
                self._speaks_protocol = True
            return
        if origin_of(reply.url) != self._home or not self._is_registry():
            raise Unavailable(
                message_of(reply),
                where=where,
                expected="the answer of a registry",
                got=f"one of {origin_of(reply.url) or 'another server'} that is no OCI registry",
                fix=CHECK_SETTING,
                code="E_NO_REGISTRY",
            )

    def expect_created(self, reply: Reply, digest: Digest, where: str) -> None:
        """Return if reply says that the registry stored content with this digest.

        Raises: IntegrityError, when the registry names another digest; else the error for its status.
        """
        self.expect(reply, _CREATED, where)
        received = receipt_of(reply)
        if received not in (None, digest):
            raise IntegrityError(
                "registry names other bytes",
                where=where,
                expected=digest,
                got=str(received),
                fix="run ctxpack push again",
                code="E_DIGEST",
            )

    def refusal(self, reply: Reply, where: str) -> CtxPackError:
        """Return the error for the status of reply."""
        return refusal(reply, where=where, login=self._auth.login)

    def expect_home(self, url: str, what: str, where: str) -> None:
        """Return if url, which the registry gave, is at the registry itself.

        url: "" when the registry gave none.
        Raises: IntegrityError otherwise, with the text what.
        """
        if origin_of(url) != self._home:
            raise IntegrityError(
                what,
                where=where,
                expected=f"a URL at {self._home}",
                got=str(origin_of(url) or "a malformed URL") if url else "none",
                fix=ASK_OPERATOR,
                code="E_REDIRECT",
            )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _is_registry(self) -> bool:
        """Whether the registry's own server answers `/v2/`, and not with a page for people."""
        with self._lock:
            if self._speaks_protocol is None:
                request = Request(method="GET", url=f"{self._home}/v2/", where=f"registry {self._home}")
                try:
                    reply = self.ask(request)
                    self._speaks_protocol = reply.status in (200, 401) and not is_page_for_people(reply)
                except AccessDenied:  # by the token service that its 401 named
                    self._speaks_protocol = True
            return self._speaks_protocol


def is_page_for_people(reply: Reply) -> bool:
    """Whether reply is a page for a browser, which is no answer of a registry whatever its status."""
    return reply.headers.get("Content-Type", "").strip().lower().startswith(_PAGE_FOR_PEOPLE)


def receipt_of(reply: Reply) -> Digest | None:
    """Return the digest that a registry gives for what it serves or stored: the header Docker-Content-Digest.

    None without the header (ECR), or with another algorithm.
    """
    try:
        return parse_digest(reply.headers.get("Docker-Content-Digest"))
    except InvalidInput:
        return None
