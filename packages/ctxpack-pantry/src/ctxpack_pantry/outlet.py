"""Outlet: the way of a cached pack out of the cache. What is damaged is set aside and fetched anew.

What leaves the cache is compared with its listing while it is copied, or, when the folder itself is handed out, by a
fingerprint of stat(2) that was kept when the pack was published.
"""

from __future__ import annotations

import os

from ctxpack_identity.errors import IntegrityError, LocalFailure, NotFound, PolicyRefused
from ctxpack_identity.hashing.filehash import unreadable
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.policy import DENIED_URI, NOT_ADMITTED, ResultDenied

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ctxpack_bundle import PackManifest
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.lookup import Admitted, Examined

    T = TypeVar("T")

# Every cached hit loads this module, so what only a damaged or missing pack needs is imported where it is used.

__all__ = ["Outlet", "damage_of", "manifest_of", "read_whole", "reading", "require_intact"]

_ATTEMPTS = 3  # a pack may be removed, and come back, while it is handed out


class Outlet:
    """Hands out the pack of uri, as a folder of the cache that a function uses.

    The function must raise IntegrityError when what it finds there is not the pack, and have no effect then, since it
    is called again with what was fetched anew. received: bytes of layers fetched; registry: where from. damage: what
    was wrong with the cached pack; refused: why the policy did not admit it, though the registry may know better.
    examine: the pack is only looked at, so it need not be admitted; it is not to be placed, nor fetched.
    """

    def __init__(self, context: Context, uri: CtxUri, *, examine: bool = False) -> None:
        self._context, self._uri, self._examine = context, uri, examine
        self._removed: NotFound | None = None
        self.received = 0
        self.registry: str | None = None
        self.damage: IntegrityError | None = None
        self.refused: PolicyRefused | None = None
        self._said: set[str] = set()

    def take(self, use: Callable[[str], T]) -> T:
        """Return what use makes of the pack, fetched unless the cache has it. Raises: as cached and fetched do."""
        found = self.cached(use)
        return self.fetched(use) if found is None else found

    def cached(self, use: Callable[[str], T]) -> T | None:
        """Return what use makes of the cached pack; None when there is none, or it was damaged, which is said.

        None also when it is not admitted, as far as the cache knows: the registry may have claims, or another pack.
        Raises: as use does, but not IntegrityError; PolicyRefused, LocalFailure.
        """
        for _ in range(_ATTEMPTS):
            folder = self._find()
            if folder is None:
                return None
            found = self._use(folder, use)
            if found is not None:
                return found
        return None

    def fetched(self, use: Callable[[str], T]) -> T:
        """Fetch the pack; return what use makes of it.

        Raises: NotFound when the registry does not have it, or is not asked; but damage, when the cached pack was
        damaged, and refused, when it was not admitted. As fetch does, and as use does.
        """
        self._require_online()
        from ctxpack_pantry.fetch import fetch

        for _ in range(_ATTEMPTS):
            try:
                folder, received = fetch(self._context, self._uri)
            except NotFound as error:
                raise (self.damage or self._removed or self.refused or error) from error
            if received:
                self.received += received
                self.registry = self._context.target.name
            found = self._use(folder, use)
            if found is not None:
                return found
        raise self.damage or self._removed or removed_meanwhile(self._uri, folder)

    def say_refused(self, refused: PolicyRefused) -> None:
        """Give a notice, once, that a pack that is there is not used.

        Raises: refused, when the contract is denied, or what this user made of it.
        """
        if refused.code == DENIED_URI or isinstance(refused, ResultDenied):
            raise refused
        if str(refused) not in self._said:
            self._said.add(str(refused))
            sign = ", and if that is the same, `push --sign` signs it" if refused.code == NOT_ADMITTED else ""
            self._context.notice(
                f"the pack that is there is not used: {refused}. What is made here is kept: `ctxpack push --replace` "
                f"puts it in the place of the registry's{sign}"
            )

    def _find(self) -> str | None:
        """Return the folder of the cached pack, if there is one that may be used."""
        if self._examine:
            return self._context.cache.find(uri_digest(self._uri))
        try:
            return find_cached(self._context, self._uri)
        except PolicyRefused as refused:
            if refused.code != NOT_ADMITTED:
                raise
            self.refused = refused
            return None

    def _use(self, folder: str, use: Callable[[str], T]) -> T | None:
        """Return what use makes of the pack in folder; None when it was removed meanwhile, or is damaged."""
        try:
            with reading(self._uri, folder):
                used = use(folder)
        except NotFound as error:
            if error.code != "E_REMOVED":
                raise
            self._removed = error
        except IntegrityError as damage:
            self.damage = damage
            set_aside(self._context, self._uri, damage)
        else:
            self._context.cache.note_use(uri_digest(self._uri))
            return used
        return None

    def located(self) -> Admitted | Examined:
        """Return the pack that the registry has. Raises: as require_found does; NotFound and damage as fetched does."""
        self._require_online()
        from ctxpack_pantry.lookup import examine, require_found, require_located

        try:
            if self._examine:
                return examine(require_located(self._context, self._uri))
            return require_found(self._context, self._uri)
        except NotFound as error:
            raise (self.damage or self.refused or error) from error

    def _require_online(self) -> None:
        """Raise NotFound, or why the cached pack is not used, when the registry is asked for no pack."""
        if self._context.offline:
            raise (
                self.damage
                or self._removed
                or self.refused
                or NotFound(
                    f"the cache does not have {self._uri}, and offline the registry is not asked",
                    where=f"cache {self._context.cache.root}",
                    fix=f"`ctxpack pull {self._uri}` brings it into the cache",
                )
            )


class reading:
    """A context in which the cached pack in folder is read.

    Raises: NotFound in place of IntegrityError when the pack was removed meanwhile.
    """

    def __init__(self, uri: CtxUri, folder: str) -> None:
        self._uri, self._folder = uri, folder

    def __enter__(self) -> None:
        # Open, so that no other folder gets its inode.
        try:
            self._open = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise removed_meanwhile(self._uri, self._folder) from error
        except OSError as error:
            raise unreadable(self._folder, error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if isinstance(error, IntegrityError) and not self._is_there():
                raise removed_meanwhile(self._uri, self._folder) from error
        finally:
            os.close(self._open)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._open), os.lstat(self._folder))
        except OSError:
            return False


def manifest_of(uri: CtxUri, folder: str) -> PackManifest:
    """Return the manifest of the cached pack in folder.

    Raises: IntegrityError when it is damaged, or another pack's.
    """
    from ctxpack_bundle import read_pack_manifest

    manifest = read_pack_manifest(folder)
    if manifest.uri != uri:
        raise IntegrityError(
            "pack of another contract",
            where=folder,
            expected=uri,
            got=manifest.uri,
            fix="pull it anew, or make it again",
        )
    return manifest


def require_intact(context: Context, uri: CtxUri, folder: str) -> None:
    """Raise IntegrityError when the cached pack in folder is not what was published.

    By its fingerprint; when that differs or is not known, everything is read, and the fingerprint renewed.
    """
    if not context.cache.is_as_published(uri_digest(uri)):
        read_whole(context, uri, folder)


def read_whole(context: Context, uri: CtxUri, folder: str) -> PackManifest:
    """Return the manifest of the cached pack in folder, of which everything was read; its fingerprint is renewed.

    Raises: IntegrityError when it is damaged.
    """
    from ctxpack_bundle import verify_pack
    from ctxpack_pantry.sealed import require_sealed

    cache, key = context.cache, uri_digest(uri)
    try:
        before = cache.fingerprint_of(key)
    except NotFound as error:
        raise IntegrityError("gone", where=folder) from error  # which `reading` knows the reason of
    manifest = manifest_of(uri, folder)
    require_sealed(cache, uri, folder)
    verify_pack(folder, progress=context.progress)
    cache.confirm(key, before)
    return manifest


def damage_of(
    context: Context, uri: CtxUri, folder: str, look: Callable[[Context, CtxUri, str], object]
) -> IntegrityError | None:
    """Return what is wrong with the cached pack in folder, which is set aside then; None when it is sound.

    look: require_intact or read_whole. Raises: NotFound when it was removed meanwhile.
    """
    try:
        with reading(uri, folder):
            look(context, uri, folder)
    except IntegrityError as damage:
        set_aside(context, uri, damage)
        return damage
    return None


def set_aside(context: Context, uri: CtxUri, damage: IntegrityError) -> None:
    """Move the damaged pack of uri out of the way, and say so.

    Raises: damage itself, when the cache cannot be written.
    """
    try:
        place = context.cache.set_aside(uri_digest(uri))
    except NotFound:
        return  # another process was faster
    except LocalFailure as error:
        raise damage from error
    context.notice(f"the cached pack is damaged, and was set aside in {place}: {damage}")


def removed_meanwhile(uri: CtxUri, where: str) -> NotFound:
    """Return the error for a pack that was removed from the cache while it was in use."""
    return NotFound(
        f"{uri} was removed from the cache meanwhile",
        where=where,
        fix="make it again, or pull it from a registry that has it",
        code="E_REMOVED",
    )
