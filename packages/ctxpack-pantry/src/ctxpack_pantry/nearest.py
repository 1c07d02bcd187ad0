"""The line of a miss: what differs from the nearest pack at hand. It costs no request, and is never an error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from ctxpack_identity import CtxPackError, Hashing, TreeEntry, hex_of, printable, uri_digest
from ctxpack_identity.contractfile import Roots
from ctxpack_identity.hashing.deephash import unread_bytes
from ctxpack_identity.hashing.roots import HashedRoot, RootHasher
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.difference import Difference, RootDifference, TransformDifference, compare
from ctxpack_pantry.filechanges import FileChange, FileChanges, Merge, merge
from ctxpack_pantry.jsonchanges import Change, shown_change
from ctxpack_pantry.lockedpackages import PackageChange, package_changes
from ctxpack_pantry.nearpacks import near_cached
from ctxpack_pantry.packview import OUTPUTS, PackView

if TYPE_CHECKING:
    from ctxpack_pantry.context import Context
    from ctxpack_pantry.identified import Identified

__all__ = ["age_text", "miss_line", "miss_line_of"]

Listings = Callable[[str], Iterable[TreeEntry] | None]
"""Returns the listing of a root of what was identified, such as "inputs/raw_docs", or None."""

_MOST: Final = 300  # characters of the line
_MOST_BYTES: Final = 64 << 20  # that are hashed once more for the name of a file: a tenth of a second
_VALUE: Final = 24  # characters of a value


def miss_line(context: Context, identified: Identified, listings: Listings | None = None) -> str:
    """Return what differs from the nearest pack of the cache, in at most 300 characters; "" when none is near.

    listings: of what was identified; by default roots that differ are listed anew, if their digests are known.
    """
    try:
        near = near_cached(context, identified.uri, identified.contract)
        if not near:
            return ""
        uri = near[0].uri
        folder = find_cached(context, uri)
        if folder is None:
            return ""
        age = time.time() - os.lstat(folder).st_mtime
        with PackView(context, uri) as view:
            return _line_of(context, identified, view, listings, age_text(age)) if view.cached else ""
    except (CtxPackError, OSError):
        return ""


def miss_line_of(context: Context, identified: Identified, view: PackView, listings: Listings) -> str:
    """Return what differs from a pack of the registry that is open, as miss_line does."""
    return _line_of(context, identified, view, listings, f"in {view.found_in}")


def _line_of(
    context: Context, identified: Identified, view: PackView, listings: Listings | None, whereabouts: str
) -> str:
    files = _Files(context, identified, view, listings)
    parts = _parts(compare(view.manifest.contract, identified.contract), files)
    return _line(parts, f"since ctx://{hex_of(uri_digest(view.manifest.uri))[:8]}…, {whereabouts}")


def age_text(seconds: float) -> str:
    """Return how long ago something was.

    >>> age_text(3), age_text(60), age_text(3 * 86400)
    ('just now', '1 minute ago', '3 days ago')
    """
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // size)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _line(parts: Sequence[tuple[str, str]], since: str) -> str:
    """Return the line that names all parts. parts: a text for each member that differs, and a shorter one."""
    texts = [printable(text) for text, _ in parts]
    shorter = [printable(text) for _, text in parts]
    for place in range(len(parts) - 1, -1, -1):
        if len(_joined(texts, since)) > _MOST:
            texts[place] = shorter[place]
    shown = len(texts)
    while len(line := _joined([*texts[:shown], *_others(len(texts) - shown)], since)) > _MOST and shown:
        shown -= 1
    return line


def _joined(texts: Sequence[str], since: str) -> str:
    return f"miss: {'; '.join(texts)} {since}"


def _others(count: int) -> list[str]:
    return [f"{count} other{'s' if count > 1 else ''} changed"] if count else []


class _Files:
    """What differs between the files of a root, in the nearest pack and now."""

    def __init__(self, context: Context, identified: Identified, view: PackView, listings: Listings | None) -> None:
        self._context, self._identified, self._view, self._listings = context, identified, view, listings

    def changes(self, root: RootDifference) -> FileChanges | None:
        """Return the files that differ, of which one is named; None when that is not known."""
        with suppress(CtxPackError, OSError):
            old = self._view.listing(root.old_root) if root.old and root.new else None
            if old is None:
                return None
            given = self._listings(root.new_root) if self._listings is not None else None
            if given is not None:
                return merge(old, given, limit=1)
            merging = Merge(old, limit=1)
            if self._list(root, merging):
                return merging.finish()
        return None

    def packages(self, root: RootDifference) -> tuple[PackageChange, ...]:
        """Return the packages that differ between two lock files; none when that is not known."""
        with suppress(CtxPackError, OSError):
            new = self._identified.texts.get(root.new_root)
            old = self._view.text(root.old_root) if new is not None else None
            if old is not None and new is not None:
                return package_changes(old, new) or ()
        return ()

    def source(self, root: str) -> str:
        """Return the name of the file that a root is, if it is one path."""
        paths = [hashed.source.path for hashed in self._identified.hashed if hashed.listing == root]
        return os.path.basename(paths[0]) if len(paths) == 1 else ""

    def _list(self, root: RootDifference, merging: Merge) -> bool:
        """Add the entries of a root to merging; return whether they are those that were identified."""
        roots = tuple(hashed for hashed in self._identified.hashed if hashed.listing == root.new_root)
        if not roots:
            return self._list_pack(root.new_root, merging)
        if any(hashed.is_url or not hashed.source.listing for hashed in roots) or self._is_unknown(roots):
            return False
        hashing = Hashing(self._context.executor, self._context.known)
        hasher = RootHasher(roots, hashing, lambda _, entry: merging.add(entry), lambda *_: None)
        kind, _, name = root.new_root.partition("/")
        if kind == "inputs":
            return hasher.input(name).digest == root.new
        sources = tuple(hashed.source for hashed in roots)
        return hasher.code(root.new_root, Roots(sources, as_folder=bool(sources[0].name))) == root.new

    def _list_pack(self, root: str, merging: Merge) -> bool:
        """Add the outputs of the cached pack that is an input."""
        for item in self._identified.inputs:
            if item.uri and f"inputs/{item.name}" == root and find_cached(self._context, item.uri):
                with PackView(self._context, item.uri) as view:
                    for entry in view.listing(OUTPUTS) or ():
                        merging.add(entry)
                return True
        return False

    def _is_unknown(self, roots: tuple[HashedRoot, ...]) -> bool:
        """Return whether more than _MOST_BYTES would have to be hashed again."""
        size = 0
        for root in roots:
            known = self._context.known
            for unread in unread_bytes(root.location, excludes=root.excludes, follow=root.source.follow, known=known):
                size += unread
                if size > _MOST_BYTES:
                    return True
        return False


def _parts(difference: Difference, files: _Files) -> list[tuple[str, str]]:
    """Return two texts, a full and a short one, for each member that differs: code, environment, inputs, the rest."""
    code, environment, rest = list[tuple[str, str]](), list[tuple[str, str]](), list[tuple[str, str]]()
    for transform in difference.transforms:
        of = f" of transform {transform.new}" if transform.new else ""
        if transform.old is None or transform.new is None:
            what = f"transform {transform.tool} {'is new' if transform.old is None else 'is gone'}"
            code.append((what, what))
            continue
        for kind, root, parts in (("code", transform.code, code), ("environment", transform.environment, environment)):
            if root is not None:
                parts.append((_of_root(f"{kind}{of}", root, files), f"{kind}{of} changed"))
        rest += _of_transform(transform, of)
    inputs = [_of_input(one.name, one.root, files) for one in difference.inputs]
    names = dict.fromkeys(change.at.split("/")[1] for change in difference.changes)
    members = [(f"{name} changed", f"{name} changed") for name in names]
    return [*code, *environment, *inputs, *rest, *members]


def _of_root(name: str, root: RootDifference, files: _Files) -> str:
    packages = files.packages(root) if name.startswith("environment") else ()
    if packages:
        package, old, new = packages[0]
        return f"{name}: {package} {'|'.join(old) or 'none'} → {'|'.join(new) or 'none'}{_more(len(packages))}"
    changes, source = files.changes(root), files.source(root.new_root)
    if changes is None or not changes.number:
        return f"{name} changed{f' ({source})' if source else ''}"
    verb, first = _first(changes)
    return f"{name}{': ' if ' ' in name else '/'}{first.path or source} {verb}{_more(changes.number)}"


def _of_input(name: str, root: RootDifference, files: _Files) -> tuple[str, str]:
    if root.old is None or root.new is None:
        what = f"input {name} is {'new' if root.old is None else 'gone'}"
        return what, what
    short = f"input {name} changed"
    changes = files.changes(root)
    if changes is None or not changes.number:
        return short, short
    verb, first = _first(changes)
    path = first.path or files.source(root.new_root)
    return f"input {name}: {path} {verb}{_more(changes.number)}", short


def _of_transform(transform: TransformDifference, of: str) -> list[tuple[str, str]]:
    """Return texts for the tool, the version and the params of a transform, and what else it has."""
    by_member: dict[str, list[Change]] = {}
    for change in transform.changes:
        by_member.setdefault(change.at.split("/")[1], []).append(change)
    parts = []
    for member, changes in by_member.items():
        at, old, new = shown_change(*changes[0], wide=_VALUE)
        below = at.removeprefix(f"/{member}")
        where = f"{member} {below}" if below else member
        full = f"{where}{of} {old} → {new}{_more(len(changes))}"
        parts.append((full, f"{member}{of} changed"))
    if not (parts or transform.code or transform.environment):
        parts.append((f"order of transforms changed ({transform.tool})", "order of transforms changed"))
    return parts


def _first(changes: FileChanges) -> tuple[str, FileChange]:
    """Return one of the files that differ, and how it differs."""
    verb = next(verb for verb in ("changed", "added", "removed", "renamed") if getattr(changes, verb).number)
    return verb, getattr(changes, verb).files[0]


def _more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""
