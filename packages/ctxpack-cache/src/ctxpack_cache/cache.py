"""The cache: which packs this machine holds, and where.

::

    <root>/CACHEDIR.TAG              backup programs skip this folder
    <root>/v1/packs/<64 hex>/        one published pack, read-only; the cache does not interpret its files
    <root>/v1/staging/<16 hex>/      an unfinished pack
    <root>/v1/locks/                 pack-<64 hex>, staging-<16 hex>: empty files, there while held
    <root>/v1/prints/<64 hex>        the print of a published pack: a word, a space, 64 hexadecimal digits, a line feed
    <root>/v1/used/<64 hex>          an empty file; its mtime is when the pack was last handed out
    <root>/v1/damaged/<64 hex>-<8 hex>/  a pack that was set aside; one for each key
    <root>/v1/<side>/                notes of a caller (Cache.side), which may be lost, stale or wrong

Side folders: ``hashes`` (digests of unchanged files), ``origins`` (the image manifest that a pack came with, by URI and
repository), ``tables`` (where the pieces of a pack lie in a repository), ``sealed`` (the digest of a pack's manifest)
and ``runs`` (what a run left where).

A print says what the pack was like when it was last known to be whole: at publication, or before somebody read all of
it. The word is ``local`` or ``network``, the digits are the fingerprint of that kind. A print may be missing, stale or
wrong: then the pack has to be read. So it has to be when another user than this one or root owns the print, or others
may write it: who changes a pack could have made the print that goes with it. The time of the last use may be missing
too: then it is that of the pack.

A pack appears by one rename, after its content was flushed, and disappears by one rename. So the name of a pack always
means a whole pack, even after a crash or without working locks.
"""

from __future__ import annotations

import os
import stat

from ctxpack_cache.cachedpack import CachedPack, Size
from ctxpack_cache.failure import translated
from ctxpack_identity.digest import Digest, digest_from_hex, hex_of, parse_digest
from ctxpack_identity.errors import InvalidInput, LocalFailure, NotFound
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ctxpack_cache.durability import FlushAhead
    from ctxpack_cache.lock import Lock
    from ctxpack_cache.staging import Staging, StagingArea

# Locks, staging, trees, fingerprints and flushing are imported where they are used: a look-up needs none, and they load
# 13 ms of contextlib, threading and typing.

__all__ = ["Cache"]

# https://bford.info/cachedir/: the signature line is fixed.
_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of CtxPack. What is in it can be pulled again, or made again.
"""

_KINDS = ("local", "network")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_PRINT_LENGTH = 1000  # bytes that are read; a print has fewer than 80


class Cache:
    """The packs below one root folder, shared by all threads and processes with the same root.

    root: need not exist; the first lock or staging makes the folders.
    Every method raises LocalFailure when the system refuses an action, and InvalidInput for a key that is no digest.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)
        self._packs = os.path.join(self.root, "v1", "packs")
        self._staging = os.path.join(self.root, "v1", "staging")
        self._locks = os.path.join(self.root, "v1", "locks")
        self._prints = os.path.join(self.root, "v1", "prints")
        self._used = os.path.join(self.root, "v1", "used")
        self._damaged = os.path.join(self.root, "v1", "damaged")

    def find(self, key: Digest) -> str | None:
        """Return the folder of the published pack, or None: a miss. One stat(2), no lock, no change.

        Raises: LocalFailure when the system gives no answer, which is not a miss.
        """
        path = self._pack(key)
        with translated("cannot look up a pack", path):
            try:
                return path if stat.S_ISDIR(os.lstat(path).st_mode) else None
            except (FileNotFoundError, NotADirectoryError):
                return None

    def packs(self) -> Iterator[CachedPack]:
        """Yield the published packs, sorted by key. Other names in their folder are skipped."""
        with translated("cannot list the packs", self._packs):
            for name in sorted(self._names()):
                key = _key_of(name)
                path = os.path.join(self._packs, name)
                try:
                    seen = os.lstat(path)
                except FileNotFoundError:
                    continue  # removed meanwhile
                if key is not None and stat.S_ISDIR(seen.st_mode):
                    yield CachedPack(key, path, seen.st_mtime, max(seen.st_mtime, self._last_use(name)))

    def note_use(self, key: Digest) -> None:
        """Remember that the pack of key is handed out now; do nothing where that cannot be written. Takes some µs."""
        path = self._use(key)
        try:
            os.utime(path, follow_symlinks=False)
        except FileNotFoundError:
            self._note_first_use(key, path)
        except OSError:
            return  # for example a cache of another user: it serves all the same

    def _note_first_use(self, key: Digest, path: str) -> None:
        try:
            if self.find(key):
                os.makedirs(self._used, exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
        except (OSError, LocalFailure):
            return

    def keys(self) -> list[Digest]:
        """Return the keys of all packs, published ones and such that were set aside, sorted: what remove can remove."""
        with translated("cannot list the packs", self.root):
            names = [*self._names(), *(name.partition("-")[0] for name in self._damaged_names())]
        return sorted({key for key in map(_key_of, names) if key is not None})

    def size_of(self, pack: CachedPack) -> Size:
        """Return the total size of the pack's files; one stat(2) for each.

        Raises: NotFound when the pack was removed meanwhile.
        """
        from ctxpack_cache.tree import measure_tree

        with translated("cannot measure a pack", pack.path):
            try:
                return measure_tree(pack.path)
            except FileNotFoundError as error:
                raise NotFound("the pack was removed from the cache", where=pack.path) from error

    def lock(self, key: Digest, purpose: str = "pack", on_wait: Callable[[], None] | None = None) -> Lock:
        """Return a context in which no other thread or process holds the same key for the same purpose.

        Call find again inside: the previous holder may have done the work. purpose: ASCII letters and digits.
        on_wait: called once, before the first wait. The lock of a killed process is free.
        Raises: LocalFailure, also when the filesystem has no locks.
        """
        from ctxpack_cache.lock import Lock

        if not (purpose.isascii() and purpose.isalnum()):
            raise InvalidInput("not a lock purpose", expected="ASCII letters and digits", got=repr(purpose))
        path = os.path.join(self._locks, f"{purpose}-{_hex_of(key)}")
        self._make_folders()
        return Lock(path, on_wait)

    def staging(self) -> Staging:
        """Return a context whose value is the path of a new private folder on the filesystem of the packs.

        The folder is removed at the end, also after an error, unless it was published. Sweeps first.
        """
        self._make_folders()
        return self._area().fresh()

    def flush_ahead(self, staging_path: str) -> FlushAhead:
        """Return a context in which a staging folder is flushed while it is filled, not only by publish.

        A thread does this, so inside the context fork no process that goes on in Python.
        """
        from ctxpack_cache.durability import FlushAhead

        return FlushAhead(staging_path)

    def publish(self, key: Digest, staging_path: str) -> str:
        """Make the staging folder the pack of key; return its new path. The caller has validated the content.

        Files become 0444, or 0555 where the owner may execute; folders 0555. If key is already published, that pack
        stays and its path is returned; the end of the staging context removes the new one.

        The pack gets its print; if that cannot be written, the next reader has more to do. It is used now.

        Killed at any moment: the pack is absent, or complete and read-only, except perhaps its top folder (0755).
        Power lost before the return: the same, since contents are flushed before the name. Power lost after it:
        complete. Both hold as far as the disk does what fsync asks (macOS: little).
        Raises: InvalidInput unless staging_path came from staging(), or if it holds anything but files and folders.
        """
        from ctxpack_cache.durability import flush, flush_tree
        from ctxpack_cache.tree import seal_tree

        path = self._pack(key)
        if not self._area().owns(staging_path):
            raise InvalidInput("not a staging folder of this cache", where=staging_path, fix="use staging()")
        if self.find(key):
            return path
        with translated("cannot publish the pack", path):
            seal_tree(staging_path)
            os.utime(staging_path)  # the time that packs() reports
            os.chmod(staging_path, 0o755)  # not yet 0555: only a writable folder can move to another parent
            flush_tree(staging_path)
            # After the flush, which may set times on network file systems; before others see the pack and change it.
            as_sealed = _print_of(staging_path, _kind_of(staging_path))
            try:
                _remove_file(path)
                os.rename(staging_path, path)
            except OSError:
                if self.find(key):
                    return path  # another process was faster
                raise
            os.chmod(path, 0o555)
            flush(path)
            flush(self._packs)
        self.confirm(key, as_sealed)
        self.note_use(key)
        return path

    def is_as_published(self, key: Digest) -> bool:
        """Return whether the pack is there, and has the print that publish or confirm kept. One stat(2) for each file.

        False also where anything cannot be read: then whoever wants the pack has to read it, and may confirm it.
        """
        kept = self._kept_print(key)
        kind = kept.partition(" ")[0]
        if kind not in _KINDS:
            return False
        try:
            return _print_of(self._pack(key), kind) == kept
        except OSError:
            return False

    def fingerprint_of(self, key: Digest) -> str:
        """Return the print of the pack as it is now: for confirm, before the pack is read.

        Raises: NotFound when the pack is gone, or goes meanwhile.
        """
        path = self._pack(key)
        with translated("cannot read the pack", path):
            try:
                return _print_of(path, _kind_of(path))
            except FileNotFoundError as error:
                raise _gone(path) from error

    def confirm(self, key: Digest, before: str) -> None:
        """Keep the print that the pack had before it was read and found whole. Where it cannot be written, do nothing.

        If the pack changed or was replaced since then, its print is another one, so is_as_published stays False.
        """
        path = self._print(key)
        if self._kept_print(key) == before:
            return
        try:
            if not self.find(key):
                return
            os.makedirs(self._prints, exist_ok=True)
            with self.staging() as staging:
                made = os.path.join(staging, "print")
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                # Whatever the umask, no group may write it, so that it counts.
                with open(os.open(made, flags, 0o644), "w", encoding="utf-8") as file:
                    file.write(f"{before}\n")
                os.rename(made, path)
        except (OSError, LocalFailure):
            return  # for example a cache of another user: it serves all the same

    def set_aside(self, key: Digest) -> str:
        """Move a damaged pack out of the packs, by one rename; return its new path. It replaces an earlier one.

        Raises: NotFound when the pack is gone.
        """
        from contextlib import suppress

        path = self._pack(key)
        earlier = self._set_aside(key)
        if not self.find(key):
            raise _gone(path)
        moved = os.path.join(self._damaged, f"{_hex_of(key)}-{os.urandom(4).hex()}")
        self._make_folders()
        with translated("cannot set the damaged pack aside", path):
            os.makedirs(self._damaged, exist_ok=True)
            self._forget(self._print(key))  # first: a process that is killed leaves a pack that has to be read
            try:
                # Only a writable folder can move to another parent.
                os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) | stat.S_IWUSR)
                os.rename(path, moved)
            except FileNotFoundError as error:
                raise _gone(path) from error
        with suppress(OSError, LocalFailure):  # the pack is out of the way, and the next call tries again
            self._discard(earlier)
        return moved

    def remove(self, key: Digest) -> bool:
        """Remove the pack of key, its notes and what was set aside; return whether there was a pack, or one set aside.

        A process that reads the pack keeps its open files and finds no others; it never finds half a file.
        """
        path = self._pack(key)
        packs = ([path] if self.find(key) else []) + self._set_aside(key)
        if packs:
            self._make_folders()
        with translated("cannot remove the pack", path):
            there = self._discard(packs)
            _remove_file(path)
            self._forget(self._print(key), self._use(key))
        return there

    def sweep(self) -> int:
        """Remove the staging folders and lock files of dead processes; return how many folders."""
        if not os.path.isdir(self._staging):
            return 0
        self._make_folders()
        with translated("cannot sweep the cache", self._staging):
            return self._area().sweep()

    def side(self, name: str) -> str:
        """Return the path of a side folder: for notes of the caller about the packs. name: ASCII letters and digits.

        The cache neither makes nor reads the folder. The folder may be gone at any time. A file made in a staging
        folder can be renamed into it.
        """
        path = os.path.join(self.root, "v1", name)
        if not (name.isascii() and name.isalnum()) or path in self._own():
            raise InvalidInput(
                "not a name for a side folder",
                expected="ASCII letters and digits, but not packs, staging, locks, prints, used or damaged",
                got=repr(name),
            )
        return path

    def _pack(self, key: Digest) -> str:
        return os.path.join(self._packs, _hex_of(key))

    def _own(self) -> tuple[str, ...]:
        return self._packs, self._staging, self._locks, self._prints, self._used, self._damaged

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._packs)
        except FileNotFoundError:
            return []

    def _print(self, key: Digest) -> str:
        return os.path.join(self._prints, _hex_of(key))

    def _use(self, key: Digest) -> str:
        return os.path.join(self._used, _hex_of(key))

    def _last_use(self, name: str) -> float:
        """Return when the pack with this name was last handed out; 0 when that is not known."""
        try:
            return os.lstat(os.path.join(self._used, name)).st_mtime
        except OSError:
            return 0.0

    def _kept_print(self, key: Digest) -> str:
        """Return what confirm kept; nothing when it cannot be read, or somebody else could have written it."""
        try:
            file = os.open(self._print(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            found = os.fstat(file)
            ours = found.st_uid in (os.geteuid(), 0) and not found.st_mode & _OTHERS_WRITE
            data = os.read(file, _PRINT_LENGTH) if ours and stat.S_ISREG(found.st_mode) else b""
        except OSError:
            return ""
        finally:
            os.close(file)
        return data.decode(errors="replace").removesuffix("\n")

    def _forget(self, *notes: str) -> None:
        from contextlib import suppress

        for path in notes:
            if os.path.lexists(path):
                with suppress(FileNotFoundError):  # another process was faster
                    os.unlink(path)

    def _set_aside(self, key: Digest) -> list[str]:
        """Return the paths of what was set aside of key."""
        begin = f"{_hex_of(key)}-"
        with translated("cannot list the damaged packs", self._damaged):
            return [os.path.join(self._damaged, name) for name in self._damaged_names() if name.startswith(begin)]

    def _damaged_names(self) -> list[str]:
        try:
            return os.listdir(self._damaged)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _discard(self, folders: list[str]) -> bool:
        """Remove folders; return whether one was there. Raises: OSError, LocalFailure."""
        there = False
        for folder in folders:
            try:
                self._area().discard(folder)
                there = True
            except FileNotFoundError:
                pass  # another process was faster
        return there

    def _area(self) -> StagingArea:
        from ctxpack_cache.staging import StagingArea

        return StagingArea(self._staging, self._locks)

    def _make_folders(self) -> None:
        with translated("cannot make the cache", self.root):
            for folder in (self._packs, self._staging, self._locks):
                os.makedirs(folder, exist_ok=True)
            _write_tag(os.path.join(self.root, "CACHEDIR.TAG"))


def _remove_file(path: str) -> None:
    """Remove a file or link where a pack belongs; the cache makes none."""
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
        os.unlink(path)


def _hex_of(key: Digest) -> str:
    # Checked although the type says so: the key becomes a path, and the cache deletes paths.
    return hex_of(parse_digest(key, where="cache key"))


def _kind_of(pack: str) -> str:
    from ctxpack_identity.hashing.filesystem import is_local

    return "local" if is_local(pack) else "network"


def _print_of(pack: str, kind: str) -> str:
    from ctxpack_cache.fingerprint import fingerprint

    return f"{kind} {fingerprint(pack, local=kind == 'local')}"


def _gone(path: str) -> NotFound:
    return NotFound("the pack was removed from the cache", where=path)


def _key_of(name: str) -> Digest | None:
    try:
        return parse_digest(digest_from_hex(name))
    except InvalidInput:
        return None


def _write_tag(path: str) -> None:
    if os.path.exists(path) and os.path.getsize(path) > 0:
        return
    try:
        with open(path, "wb") as file:
            file.write(_TAG)
    except BaseException:
        if os.path.exists(path):
            os.unlink(path)
        raise
