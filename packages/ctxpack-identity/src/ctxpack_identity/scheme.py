"""Paths that are URLs: which are, which of them cannot be read, and how they are shown without secrets."""

from __future__ import annotations

import re

__all__ = ["scheme_fault", "scheme_of", "shown_url"]

_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]+)://"  # compiled only when a path looks like a URL: few contracts have one


def scheme_of(path: str) -> str:
    """Return the scheme of a path that is a URL, "" for a path on this machine.

    >>> scheme_of("s3://bucket/key"), scheme_of("./s3://bucket"), scheme_of("/data")
    ('s3', '', '')
    """
    found = re.match(_SCHEME, path) if "://" in path else None
    return found[1].lower() if found else ""


def scheme_fault(url: str) -> str:
    """Return why an input cannot be read from this URL, "" when it can."""
    scheme = scheme_of(url)
    if scheme in ("file", "local"):
        return "a path on this machine; give the path itself, without the scheme"
    if scheme == "ctx":
        return 'the URI of a pack; give it as "uri"'
    if "::" in url:
        return "a chain of URLs; give the URL of the files themselves"
    if not url.partition("://")[2].strip("/"):
        return "a URL that names nothing; say which bucket, host or repository"
    return ""


def shown_url(url: str) -> str:
    """Return url without user, password and query, which may be secrets.

    >>> shown_url("https://me:secret@host/a.pdf?X-Amz-Signature=12")
    'https://host/a.pdf'
    """
    scheme, _, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
