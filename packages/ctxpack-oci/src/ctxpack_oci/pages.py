"""A list that a registry gives page by page (distribution-spec, "Listing Tags")."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ctxpack_identity.errors import IntegrityError
from ctxpack_oci.exchange import Reply, Request
from ctxpack_oci.origin import join
from ctxpack_oci.refusal import ASK_OPERATOR
from ctxpack_oci.repository import Repository

__all__ = ["PAGE_ITEMS", "pages"]

PAGE_ITEMS = 1000  # asked for per page; ECR accepts no more
MAX_PAGES = 100
MAX_PAGE_BYTES = 4 * 1024 * 1024  # bytes
MAX_LINK = 8 * 1024  # characters of the header that are read

_next_link = re.compile(r'<([^<>]*)>\s*;[^,]*\brel="?next"?').search


def pages(
    repository: Repository, url: str, *, where: str, lacking: Callable[[Reply], bool] = lambda reply: False
) -> Iterator[Reply]:
    """Yield the pages of the list at url, none when the registry answers 404.

    lacking: whether another answer says too that there is no such list.
    Raises: IntegrityError, when a page is too long, there are too many pages, or the next one is at another server;
    Unavailable, when the 404 is not that of a registry.
    """
    asked: set[str] = set()
    while url:
        if url in asked or len(asked) == MAX_PAGES:
            raise IntegrityError("the list does not end", where=where, fix=ASK_OPERATOR, code="E_PROTOCOL")
        asked.add(url)
        reply = repository.ask(Request(method="GET", url=url, where=where, limit=MAX_PAGE_BYTES))
        if reply.status == 404:
            repository.expect_miss(reply, where)
            return
        if lacking(reply):
            return
        repository.expect(reply, (200,), where)
        yield reply
        found = _next_link(reply.headers.get("Link", "")[:MAX_LINK])
        url = join(url, found[1]) if found else ""
        if found:
            repository.expect_home(url, "next page is not followed", where)
