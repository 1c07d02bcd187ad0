"""Provenance: who made a pack, when, where and with what. It is unsigned, and no part of the identity."""

from __future__ import annotations

import datetime
import getpass
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctxpack_identity import CtxUri
from ctxpack_identity.secrets import child_environment
from ctxpack_pantry.gitremote import public_url
from ctxpack_pantry.weakpoints import WeakPoint

__all__ = ["Execution", "record_provenance"]


class Execution(NamedTuple):
    """One run of a command. command: its arguments; seconds: how long it took."""

    command: tuple[str, ...]
    seconds: float

    def without_arguments(self) -> Execution:
        """Return the same with the program's name alone: arguments may hold secrets."""
        return self._replace(command=self.command[:1])


def record_provenance(
    *,
    version: str,
    base: str,
    labels: Mapping[str, str],
    upstream: Mapping[str, CtxUri],
    weak: Sequence[WeakPoint] = (),
    execution: Execution | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the provenance of a pack made now, as a JSON object.

    version: of ctxpack. base: the contract's folder, whose git commit and origin are recorded. upstream: inputs given
    by URI. weak: the contract file's. execution: the command that made the outputs, if CtxPack ran it. environ:
    SOURCE_DATE_EPOCH, if set, is the time recorded (reproducible-builds.org), so that the same work gives the same
    pack.
    """
    record: dict[str, Any] = {
        "created": _now(os.environ if environ is None else environ),
        "creator": {"host": _text(platform.node()), "user": _text(_user())},
        "versions": {"ctxpack": version, "platform": platform.platform(), "python": platform.python_version()},
    }
    if labels:
        record["labels"] = dict(labels)
    if upstream:
        record["inputs"] = {name: {"uri": uri} for name, uri in upstream.items()}
    if weak:
        record["weak"] = [point._asdict() for point in weak]
    if execution is not None:
        command = [_text(argument) for argument in execution.command]
        record["run"] = {"command": command, "seconds": round(execution.seconds, 3)}
    git = _git(base)
    if git:
        record["git"] = git
    return record


def _text(value: str) -> str:
    """Return value as text: JSON has no bytes, so those that are not UTF-8 become escapes such as ``\\xff``."""
    return os.fsencode(value).decode(errors="backslashreplace")


def _now(environ: Mapping[str, str]) -> str:
    epoch = environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.datetime.now(datetime.UTC)
    if epoch.isascii() and epoch.isdigit() and len(epoch) < 12:
        now = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return str(os.getuid())


def _git(folder: str) -> dict[str, Any] | None:
    commit = _ask_git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    status = _ask_git(folder, "status", "--porcelain", "--untracked-files=normal")
    known = {} if status is None else {"dirty": bool(status)}
    remote = public_url((_ask_git(folder, "remote", "get-url", "origin") or "").removesuffix("\n"))
    return {"commit": commit.strip(), **known, **({"remote": remote} if remote else {})}


def _ask_git(folder: str, *arguments: str) -> str | None:
    """Return the output of git for folder; None when there is no git, no repository or no answer."""
    environ = {**child_environment(), "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            ["git", "-C", folder or ".", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=environ,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return answer.stdout
