"""What is remembered of admitted packs, in the user's state folder, so that a hit needs no cryptography.

``admitted/<2 hex>/<64 hex of the URI>``: one line for each decision, the newest last; a dash stands for nothing::

    <64 hex: the question> <digest of manifest.json> <digest of the image manifest> <mode> <key ids, or own>

The question is the SHA-256 of the policy, of what narrows it, and of the registry's name; or of that name alone, for
the image manifest that was used last. ``contacts/<64 hex>`` are the registries from which a pack was used,
``pins/<64 hex>`` the keys of the mode tofu (SPKI, hexadecimal, and in a second line where), both named after the
SHA-256 of the name of the repository, or of the scope that is about it.
"""

from __future__ import annotations

import os
import stat

from ctxpack_identity.digest import digest_of, hex_of
from ctxpack_identity.errors import LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.policy import Admission
from ctxpack_pantry.state import make_state_folder

if TYPE_CHECKING:
    from ctxpack_identity import Digest
    from ctxpack_pantry.policyfile import Trust

__all__ = ["Pin", "Remembered", "question"]

_KEPT = 16  # decisions about one URI
_MAX_FILE = 64 << 10  # bytes
_FIELDS = 5
_NONE = "-"


class _Line(NamedTuple):
    asked: str
    pack: str
    image: str
    mode: str
    by: str

    @property
    def admission(self) -> Admission:
        return Admission(self.mode, () if self.by == _NONE else tuple(self.by.split(",")))


class Pin(NamedTuple):
    """A key of the mode tofu. scope: or repository; spki: hexadecimal. Both are "" when the file does not say it."""

    scope: str
    spki: str
    path: str


def question(policy: bytes, trust: Trust, registry: str) -> str:
    """Return the name of what is asked of a policy, and of what the user says besides, about packs in a registry."""
    users = trust.users if trust.foreign else ""
    parts = [hex_of(digest_of(policy)), trust.at_least, trust.foreign, users, registry]
    return hex_of(digest_of("\0".join(parts).encode(errors="surrogateescape")))


class Remembered:
    """What is remembered in a state folder; nothing is where it is "". What cannot be written is not remembered."""

    def __init__(self, state: str) -> None:
        self._state = state

    def admission(self, uri: CtxUri, asked: str, pack: Digest) -> Admission | None:
        """Return how a cached pack was admitted; None when that was never asked. pack: digest of its manifest.json."""
        for line in self._lines(uri):
            if line.asked == asked and line.pack == pack:
                return line.admission
        return None

    def last_image(self, uri: CtxUri, registry: str) -> str:
        """Return the image manifest that was admitted last of a registry; "" when there is none."""
        name = self._registry(registry)
        return next((line.image for line in reversed(self._lines(uri)) if line.asked == name), "")

    def is_own_image(self, uri: CtxUri, image: Digest) -> bool:
        """Return whether this user pushed this image manifest of an own pack."""
        return any(line.image == image and line.mode == "own" for line in self._lines(uri))

    def record(
        self, uri: CtxUri, asked: str, registry: str, pack: Digest | None, image: Digest | None, admission: Admission
    ) -> None:
        """Remember that a pack was admitted. pack: digest of manifest.json, None where it was not read yet."""
        by = ",".join(admission.by) or _NONE
        new = [_Line(asked, pack or _NONE, image or _NONE, admission.mode, by)]
        if image is not None:
            new.append(_Line(self._registry(registry), pack or _NONE, image, admission.mode, by))
        with _Alone(self._state):
            lines = self._lines(uri)
            kept = [
                line
                for line in lines
                if not any(line.asked == one.asked and one.pack in (line.pack, _NONE) for one in new)
                or (line.mode == "own" and admission.mode != "own" and line.image != image)
            ]
            if [*kept, *new] != lines:
                text = "".join(f"{' '.join(line)}\n" for line in [*kept, *new][-_KEPT:])
                self._write(self._place("admitted", uri), text.encode())

    def record_own(self, uri: CtxUri, registry: str, pack: Digest, image: Digest) -> None:
        """Remember that this user pushed an own pack, and the image manifest that the registry has of it."""
        self.record(uri, self._registry(registry), registry, pack, image, Admission("own", ("own",)))

    def is_first_contact(self, registry: str) -> bool:
        """Return whether this is the first pack from a registry, and note that it was."""
        path = os.path.join("contacts", hex_of(digest_of(registry.encode(errors="surrogateescape"))))
        if self._read(path):
            return False
        self._write(path, registry.encode(errors="surrogateescape") + b"\n")
        return True

    def pinned(self, repository: str) -> str:
        """Return the key that is pinned for a repository, its SPKI in hexadecimal; "" for none.

        A pin that somebody else could have written, or that cannot be read, is that of no key.
        """
        found = self._read_pin(self._pin(repository)).spki
        return found or ("unreadable" if os.path.lexists(self.pin_path(repository)) else "")

    def pin(self, repository: str, spki: str) -> bool:
        """Pin a key, unless another process has pinned one; return whether this one is pinned now."""
        with _Alone(self._state):
            if not self.pinned(repository):
                self._write(self._pin(repository), f"{spki}\n{repository}\n".encode(errors="surrogateescape"))
            return self.pinned(repository) == spki

    def pins(self) -> list[Pin]:
        """Return what is pinned, by scope."""
        try:
            names = os.listdir(os.path.join(self._state, "pins")) if self._state else []
        except OSError:
            names = []
        return sorted(self._read_pin(os.path.join("pins", name)) for name in names if "." not in name)  # no drafts

    def pin_path(self, repository: str) -> str:
        """Return the path of the file with the pinned key; "" without a state folder."""
        return os.path.join(self._state, self._pin(repository)) if self._state else ""

    def unpin(self, repository: str) -> bool:
        """Forget the key that is pinned; return whether there was one. Raises: LocalFailure when it stays."""
        path = self.pin_path(repository)
        with _Alone(self._state):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise LocalFailure(f"the pin cannot be removed: {error.strerror}", where=path) from error
        return True

    def _read_pin(self, path: str) -> Pin:
        spki, _, scope = self._read(path).decode(errors="surrogateescape").partition("\n")
        return Pin(scope.strip(), spki.strip(), os.path.join(self._state, path))

    def _pin(self, repository: str) -> str:
        return os.path.join("pins", hex_of(digest_of(repository.encode(errors="surrogateescape"))))

    def _registry(self, registry: str) -> str:
        return hex_of(digest_of(f"registry\0{registry}".encode(errors="surrogateescape")))

    def _place(self, kind: str, uri: CtxUri) -> str:
        digits = hex_of(uri_digest(uri))
        return os.path.join(kind, digits[:2], digits)

    def _lines(self, uri: CtxUri) -> list[_Line]:
        text = self._read(self._place("admitted", uri)).decode(errors="replace")
        fields = [line.split(" ") for line in text.splitlines()]
        return [_Line(*found) for found in fields if len(found) == _FIELDS]

    def _read(self, path: str) -> bytes:
        """Return a file of the state folder; nothing when there is none, or somebody else could have written it."""
        if not self._state:
            return b""
        try:
            file = os.open(os.path.join(self._state, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            found = os.fstat(file)
            ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
            return os.read(file, _MAX_FILE) if ours else b""
        except OSError:
            return b""
        finally:
            os.close(file)

    def _write(self, path: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        if not self._state:
            return
        place = os.path.join(self._state, path)
        draft = f"{place}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            make_state_folder(self._state, *os.path.dirname(path).split(os.sep))
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, data)
                os.replace(draft, place)
            except OSError:
                os.unlink(draft)
            finally:
                os.close(file)
        except OSError:
            return


class _Alone:
    """A context in which no other process of this user changes what is remembered, where that can be had."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._lock: int | None = None

    def __enter__(self) -> None:
        import fcntl  # hits change nothing

        if not self._state:
            return
        try:
            path = os.path.join(make_state_folder(self._state, "admitted"), "lock")
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError:
            return

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
