"""The user's policy file, ``policy.json`` in the configuration folder: where it is, how it is read and changed.

It is never read from a project, a repository or a pack. What cannot be read, or could be somebody else's, is an error:
without an answer nothing is admitted. packages/ctxpack-trust/POLICY.md has the format.
"""

from __future__ import annotations

import os
import stat

from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_pantry.settings import configuration_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ctxpack_trust import TrustPolicy

# Every cached hit loads this module, so what only a policy needs is imported where it is used.

__all__ = ["AT_LEAST", "NO_TRUST", "Trust", "load_policy", "save_policy", "trust_of"]

AT_LEAST = "CTXPACK_TRUST"
_FILE = "policy.json"
_MAX_POLICY = 1 << 20  # bytes
_MODES = ("accept-any", "tofu", "signed", "reject")  # as ctxpack_trust.MODES, which a hit does not load


class Trust(NamedTuple):
    """Where a user says whose packs may be used.

    path: of the policy, "" when no home folder is known. at_least: the mode that CTXPACK_TRUST asks for, "" for none.
    foreign: path of the ctxpack.toml that names the registry, "" when the user names it. users: the repository that the
    user's own settings file names, "" for none.
    """

    path: str = ""
    at_least: str = ""
    foreign: str = ""
    users: str = ""

    def read(self) -> bytes:
        """Return the policy as it is on the disk, b"" when there is none. Raises: InvalidInput, LocalFailure."""
        if not self.path:
            return b""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            _refuse_dangling(self.path)
            return b""
        except OSError as error:
            raise _unreadable(self.path, error) from error
        try:
            found = os.fstat(file)
            _require_private(self.path, found)
            data = os.read(file, _MAX_POLICY + 1) if found.st_size else b""
            while 0 < len(data) < min(found.st_size, _MAX_POLICY + 1):
                more = os.read(file, _MAX_POLICY + 1 - len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise _unreadable(self.path, error) from error
        finally:
            os.close(file)
        if not data or len(data) > _MAX_POLICY:
            raise InvalidInput(
                "not a policy",
                where=self.path,
                expected=f"1 to {_MAX_POLICY} bytes",
                got=f"{len(data)} bytes" if not data else "more",
                fix="correct it, or remove it: then no policy holds",
                code="E_POLICY_FILE",
            )
        return data


NO_TRUST = Trust()
"""Of a context that no settings stand behind: nothing is required."""


def trust_of(environ: Mapping[str, str], *, foreign: str = "", users: str = "") -> Trust:
    """Return where the user of environ keeps the policy. foreign, users: see Trust.

    Raises: InvalidInput when CTXPACK_TRUST is no mode.
    """
    at_least = environ.get(AT_LEAST, "")
    if at_least and at_least not in _MODES:
        raise InvalidInput(
            "unknown mode", where=AT_LEAST, expected=", ".join(_MODES), got=repr(at_least)[:80], code="E_SETTINGS"
        )
    folder = configuration_folder(environ)
    path = os.path.join(folder, _FILE) if folder else ""
    return Trust(path, at_least, foreign, users)


def load_policy(trust: Trust, data: bytes | None = None) -> TrustPolicy:
    """Return the policy of the user; without a file that which accepts any pack. data: what Trust.read returned.

    Raises: InvalidInput when it is malformed; as Trust.read does.
    """
    from ctxpack_trust import NO_POLICY, parse_policy

    data = trust.read() if data is None else data
    return parse_policy(data, where=trust.path) if data else NO_POLICY


def save_policy(trust: Trust, edit: Callable[[TrustPolicy], TrustPolicy]) -> TrustPolicy:
    """Let edit change the policy, and write it, whole or not at all; return it. Two processes wait for each other.

    A path that is a symbolic link stays one: what it leads to is replaced.
    Raises: InvalidInput as load_policy and edit do, and when no configuration folder is known; LocalFailure.
    """
    import fcntl

    from ctxpack_identity.disk import translated
    from ctxpack_trust import encode_policy

    if not trust.path:
        raise InvalidInput(
            "no place for a policy: the home folder is not known",
            where="HOME",
            fix="set HOME or XDG_CONFIG_HOME to an absolute path",
            code="E_SETTINGS",
        )
    _refuse_dangling(trust.path)
    path = os.path.realpath(trust.path)
    with translated("cannot write the policy", path, elsewhere="set XDG_CONFIG_HOME"):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            policy = edit(load_policy(trust))
            _replace(path, encode_policy(policy))
        finally:
            os.close(lock)
    return policy


def _replace(path: str, data: bytes) -> None:
    """Write the file whole or not at all. The caller holds the lock, so a draft that is there is of a dead process."""
    from contextlib import suppress

    from ctxpack_identity.disk import write_all

    draft = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(draft)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(file, data)
        os.fsync(file)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    finally:
        os.close(file)


def _refuse_dangling(path: str) -> None:
    """Raise InvalidInput when a link on the path of the policy leads nowhere: then it is lost, and not absent."""
    at = path
    while not os.path.exists(at):
        if os.path.islink(at):
            raise InvalidInput(
                "the policy is lost: this link leads nowhere",
                where=at,
                got=os.readlink(at),
                fix="mend it, or remove it: then no policy holds",
                code="E_POLICY_FILE",
            )
        at = os.path.dirname(at)


def _require_private(path: str, found: os.stat_result) -> None:
    """Raise InvalidInput when somebody else could have written the policy."""
    if not stat.S_ISREG(found.st_mode):
        what, fix = "not a regular file", "remove it, or put a policy there"
    elif found.st_uid not in (os.geteuid(), 0):
        what, fix = "the policy belongs to another user", f"make it your own: chown {os.geteuid()}"
    elif found.st_mode & 0o022:
        what, fix = "others may write the policy", f"chmod go-w {path}, after a look at what it says"
    else:
        return
    raise InvalidInput(what, where=path, fix=fix, code="E_POLICY_FILE")


def _unreadable(path: str, error: OSError) -> LocalFailure:
    return LocalFailure(
        f"the policy cannot be read: {error.strerror}",
        where=path,
        fix="check its permissions and those of its folder, or set XDG_CONFIG_HOME",
        code="E_POLICY_FILE",
    )
