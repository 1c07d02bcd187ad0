"""The URL of a git remote as strangers may read it: without user and password, and never a path of this machine."""

from __future__ import annotations

import re

__all__ = ["public_url"]

_MOST = 1000  # characters
_SCHEMES = {"https": "https", "http": "http", "ssh": "ssh", "git+ssh": "ssh", "ssh+git": "ssh", "git": "git"}

# Printable ASCII without "@": what a password could be in is refused, not cut.
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PATH = r"[!-?A-~]*"
_is_url = re.compile(rf"([A-Za-z+]+)://(?:[^/?#]*@)?({_HOST}(?::[0-9]{{1,5}})?)(/{_PATH})?").fullmatch
# host:path, as ssh takes it (git-clone, "GIT URLS"). One letter is a drive of Windows, "::" another transport.
_is_ssh = re.compile(rf"(?:[^@/:\[\]?#]*@)?({_HOST}):(?!:)({_PATH})").fullmatch


def public_url(remote: str) -> str | None:
    """Return the URL of a remote without userinfo, query and fragment; None when it is not a URL for others.

    >>> public_url("https://bot:secret@git.example/team/notes.git?x#y"), public_url("git@git.example:team/notes.git")
    ('https://git.example/team/notes.git', 'ssh://git.example/team/notes.git')
    >>> public_url("/home/me/notes"), public_url("file:///srv/notes"), public_url("C:\\\\notes")
    (None, None, None)
    """
    if len(remote) > _MOST:
        return None
    remote = re.split(r"[?#]", remote, maxsplit=1)[0]
    url = _is_url(remote)
    if url:
        scheme = _SCHEMES.get(url[1].lower())
        return f"{scheme}://{url[2]}{url[3] or ''}" if scheme else None
    ssh = _is_ssh(remote)
    if ssh is None or (len(ssh[1]) == 1 and "@" not in remote) or "://" in remote:
        return None
    return f"ssh://{ssh[1]}/{ssh[2].removeprefix('/')}"
