"""Replacing: new content takes the place of what is at a path, and what was there is deleted last, or comes back.

Beside a path NAME, or in it where it is a mount point, lie meanwhile, and after a kill::

    .NAME.<8 hex>.new      content that is being made
    .NAME.<8 hex>.old      what was there, moved aside
    .NAME.<8 hex>.gone     what is being deleted
    .NAME.<8 hex>.kept     what was moved aside and stays for the user, who was told
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from itertools import chain

from ctxpack_cache.fingerprint import fingerprint, fingerprints
from ctxpack_cache.tree import remove_tree, walk
from ctxpack_identity.digest import digest_of, hex_of
from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.hashing.filesystem import is_local, is_mount

__all__ = ["FIXED", "Site", "not_written", "replace_all", "replace_whole"]

FIXED = frozenset({errno.EBUSY, errno.EXDEV})  # of rename(2): a mount point; a folder of a lower layer of overlayfs
_NO_LINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS, errno.EMLINK})
_is_unique = re.compile(r"[0-9a-f]{8}\.(?:new|old|gone)").fullmatch
_LONGEST = 200  # bytes of NAME in a temporary name; a longer one is replaced by its SHA-256


class Site:
    """A path whose content can be replaced. The caller holds its lock (ctxpack_cache.pathlock).

    path: as it was given. real: with links resolved; so a link stays, and what it leads to is replaced. stays: whether
    what is there is a mount point, so that its contents are replaced. fresh: where new content is made. old: where what
    is there is moved to.
    Every method raises LocalFailure when the system refuses an action.
    """

    def __init__(self, path: str) -> None:
        self.path, self.real = path, os.path.realpath(path)
        self.stays = is_mount(self.real)
        parent, name = os.path.split(self.real)
        self._folder = self.real if self.stays else parent
        encoded = os.fsencode(name)
        self._prefix = f".{name if len(encoded) <= _LONGEST else hex_of(digest_of(encoded))}."
        unique = os.path.join(self._folder, self._prefix + os.urandom(4).hex())
        self.fresh, self.old = f"{unique}.new", f"{unique}.old"
        self._gone, self._kept = f"{unique}.gone", f"{unique}.kept"
        self._unlinked: str | None = None  # a look, when links are expected

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there, or an empty folder."""
        try:
            status = os.lstat(self.real)
            return stat.S_ISDIR(status.st_mode) and not self._children()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError as error:
            raise self._unreadable(error) from error

    def look(self) -> str:
        """Return a text that is another one after anything there changed; "" when nothing is there."""
        try:
            return self._look_at(self.real)
        except OSError as error:
            raise self._unreadable(error) from error

    def expect_links(self, seen: str) -> None:
        """Say that links will be made to what is there, a local folder, which change its look. seen, Raises: as put."""
        look, self._unlinked = self._both_looks()
        if look != seen:
            raise self._changed()

    def look_again(self, seen: str) -> str:
        """Return a look at what is there, which is what seen was a look at, apart from links that were expected.

        Raises: InvalidInput when anything changed meanwhile.
        """
        if self._unlinked is None:
            self.require(seen)
            return seen
        look, unlinked = self._both_looks()
        if unlinked != self._unlinked:
            raise self._changed()
        return look

    def _both_looks(self) -> tuple[str, str]:
        """Return two looks at the folder that is there: the second does not change when links to its files are made."""
        try:
            return fingerprints(self.real)
        except (FileNotFoundError, NotADirectoryError):
            return "", ""
        except OSError as error:
            raise self._unreadable(error) from error

    def look_at_old(self, old: str) -> str:
        """Return what look will return once what was moved aside to old is put back."""
        return self._look_at(old)

    def is_since(self, began: int) -> bool:
        """Return whether everything there was made at that time (ns) or later.

        By ctime, which a program cannot set, and mtime, since a file that is moved here gets a new ctime.
        """
        try:
            below = walk(self.real) if os.path.isdir(self.real) else ()
            states = chain([os.lstat(self.real)], (entry.stat(follow_symlinks=False) for entry in below))
            return all(min(state.st_ctime_ns, state.st_mtime_ns) >= began for state in states)
        except OSError:
            return False

    def keeps_modes(self) -> bool:
        """Return whether files that are made here are executable if they should be, and only then.

        They are not on a file system without modes, nor where the umask takes the bit.
        """
        try:
            return all(_made_mode(self.fresh, mode) & stat.S_IXUSR == mode & stat.S_IXUSR for mode in (0o666, 0o777))
        except OSError as error:
            raise not_written(self, error) from error

    def tidy(self) -> None:
        """Put back what a killed process moved aside, if nothing is there, and delete what it left unfinished."""
        old = []
        try:
            for entry in self._left():
                if entry.name.endswith(".old"):
                    old.append((entry.stat(follow_symlinks=False).st_ctime_ns, entry.path))
                else:
                    _remove(entry.path)
            if old and not os.path.lexists(self.real):
                os.rename(max(old)[1], self.real)
        except OSError as error:
            raise not_written(self, error) from error

    def put(self, seen: str) -> None:
        """Move fresh to its place. seen: a look at what is there, which is deleted.

        Raises: InvalidInput when something else is there by now; then it stays.
        """
        if self.stays:
            self._refill(seen)
            return
        try:
            try:
                self.move_aside(seen)
            except OSError as error:
                if error.errno not in FIXED:
                    raise
                self._refill(seen)
                return
            try:
                _rename_to_nothing(self.fresh, self.real)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
                    raise
                raise self._changed() from error
        finally:
            self._settle()

    def move_aside(self, seen: str) -> None:
        """Move what is there to old. seen, Raises: as put."""
        if not os.path.lexists(self.real):
            return
        os.rename(self.real, self.old)
        if self._look_at(self.old) != seen:
            self.put_back()
            raise self._changed()

    def put_back(self, old: str = "") -> None:
        """Move what was moved aside back, unless something is there. old: where it is, if not at old."""
        if os.path.lexists(old or self.old) and not os.path.lexists(self.real):
            os.rename(old or self.old, self.real)

    def require(self, seen: str) -> None:
        """Raise InvalidInput when a look at what is there is not seen any more."""
        if self.look() != seen:
            raise self._changed()

    def delete_contents(self, seen: str) -> None:
        """Delete what is there; if it is a folder, all that is in it. seen, Raises: as put."""
        self.require(seen)
        if os.path.isdir(self.real):
            for path in self._children():
                _remove(path)
        else:
            _remove(self.real)

    def delete_old(self, old: str = "") -> None:
        """Delete what was moved aside. old: where it is, if not at old."""
        if os.path.lexists(old or self.old):
            os.rename(old or self.old, self._gone)
            _remove_or_leave(self._gone)

    def keep_old(self, old: str = "") -> str:
        """Leave what was moved aside to the user; return where it is. old: where it was, if not at old."""
        os.rename(old or self.old, self._kept)
        return self._kept

    def is_old(self, path: str) -> bool:
        """Return whether path is the name of something that a process moved aside from here."""
        folder, name = os.path.split(path)
        return folder == self._folder and self._is_ours(name) and name.endswith(".old")

    def delete_empty(self) -> None:
        """Delete the empty folder that is there."""
        if os.path.isdir(self.real):
            os.rmdir(self.real)

    def discard(self) -> None:
        """Delete fresh, if it did not find its place."""
        _remove(self.fresh)

    def _left(self) -> list[os.DirEntry[str]]:
        """Return what processes of this user left beside the path."""
        try:
            with os.scandir(self._folder) as entries:
                left = [entry for entry in entries if self._is_ours(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [entry for entry in left if entry.stat(follow_symlinks=False).st_uid == os.geteuid()]

    def _is_ours(self, name: str) -> bool:
        return name.startswith(self._prefix) and _is_unique(name[len(self._prefix) :]) is not None

    def _children(self) -> list[str]:
        """Return what is in the folder that is there, without what was made for replacing it."""
        ours = {os.path.basename(path) for path in (self.fresh, self.old, self._gone)}
        return [os.path.join(self.real, name) for name in sorted(os.listdir(self.real)) if name not in ours]

    def _look_at(self, path: str) -> str:
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        if not stat.S_ISDIR(status.st_mode):  # not its ctime, which a rename changes
            seen = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino)
            return " ".join(map(str, seen)) + (os.readlink(path) if stat.S_ISLNK(status.st_mode) else "")
        local = is_local(os.path.dirname(path))
        if self.stays:
            return " ".join(
                f"{os.path.basename(child)}/{fingerprint(child, local=local)}" for child in self._children()
            )
        return fingerprint(path, local=local)

    def _refill(self, seen: str) -> None:
        """Put the contents of fresh into the folder that is there; a kill meanwhile leaves some of both."""
        self.delete_contents(seen)
        for name in os.listdir(self.fresh):
            os.rename(os.path.join(self.fresh, name), os.path.join(self.real, name))
        os.rmdir(self.fresh)

    def _settle(self) -> None:
        """Leave old or new content, not both. A first Ctrl-C does not stop it; a second one does, and loses nothing."""
        replaced = not os.path.lexists(self.fresh)
        try:
            self._leave_one(replaced)
        except OSError:
            raise
        except BaseException:
            self._leave_one(replaced)
            raise

    def _leave_one(self, replaced: bool) -> None:
        self.put_back()
        if replaced:  # otherwise another process wrote there, and the old content stays in old
            self.delete_old()
            _remove_or_leave(self._gone)

    def _unreadable(self, error: OSError) -> LocalFailure:
        return LocalFailure(f"cannot be read: {error.strerror}", where=self.path, fix="check its permissions")

    def _changed(self) -> InvalidInput:
        return InvalidInput(
            "changed meanwhile, so nothing was replaced",
            where=self.path,
            fix="do it again when nothing writes to it",
            code="E_OCCUPIED",
        )


def replace_all(made: Sequence[tuple[Site, str, Callable[[str], None]]]) -> None:
    """Make new content for each site, then move all of it to its place.

    made: for each site, a look at what is there, and a function that makes the new content at a path.
    Raises: whatever a function raises, and then nothing was replaced; InvalidInput, as Site.put; LocalFailure.
    """
    site = made[0][0]
    try:
        try:
            for site, _, make in made:
                os.makedirs(os.path.dirname(site.fresh), exist_ok=True)
                make(site.fresh)
            looks = [(site, site.look_again(seen)) for site, seen, _ in made]  # at all, before the first is replaced
            for site, seen in looks:
                site.put(seen)
        finally:
            for site, _, _ in made:
                site.discard()
    except OSError as error:
        raise not_written(site, error) from error


def replace_whole(path: str, make: Callable[[str], None]) -> None:
    """Have make write new content beside path, then replace what is there. Raises: as replace_all."""
    site = Site(path)
    replace_all([(site, site.look(), make)])


def _made_mode(path: str, mode: int) -> int:
    """Return the mode that an empty file got which was made at path with this mode; it is gone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)
        os.unlink(path)


def not_written(site: Site, error: OSError) -> LocalFailure:
    """Return the error for a site that cannot be written. It says where the old content is."""
    kept = os.path.lexists(site.old)
    fix = f"the old content, or the rest of it, is in {site.old}" if kept else "nothing was changed there"
    return LocalFailure(f"cannot be written: {error.strerror}", where=site.real, fix=fix)


def _rename_to_nothing(source: str, destination: str) -> None:
    """Rename without replacing: a file that came meanwhile stays. A folder replaces an empty folder at most."""
    if os.path.isdir(source):
        os.rename(source, destination)
        return
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        os.rename(source, destination)
    else:
        os.unlink(source)


def _remove_or_leave(path: str) -> None:
    """Delete path; what cannot be deleted is left to tidy, since the new content is in its place."""
    try:
        _remove(path)
    except OSError:
        return


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)  # the user's own folders may be read-only, as copies of a pack in the cache are
    elif os.path.lexists(path):
        os.unlink(path)
