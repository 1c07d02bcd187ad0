"""The roots of a contract file: the files and folders that its inputs, code and environment are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial

from ctxpack_identity.contractfile import CODE_PATTERNS, Code, ContractFile, Roots, TreeSource
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import Excludes, compile_excludes
from ctxpack_identity.hashing.deephash import Hashing, hash_tree, unread_bytes
from ctxpack_identity.hashing.filehash import changed, unreadable
from ctxpack_identity.hashing.outlook import Outlook, Part
from ctxpack_identity.hashing.outside import HashedPlace
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.lighttyping import NamedTuple
from ctxpack_identity.packtext import MAX_TEXT_BYTES, check_text
from ctxpack_identity.scheme import scheme_of
from ctxpack_identity.tree import FolderDigest, Tree, TreeEntry, file_digest

__all__ = ["HashedRoot", "RootHasher", "hashed_roots"]


class HashedRoot(NamedTuple):
    """One file or folder that is hashed. listing: "inputs/<name>", "code/<i>" or "environment/<i>".

    source: as the contract file has it. location: its path on disk, or its URL. excludes: the rule of its patterns.
    """

    listing: str
    source: TreeSource
    location: str
    excludes: Excludes | None

    @property
    def what(self) -> str:
        """What it is, for people."""
        kind, _, name = self.listing.partition("/")
        return f"input {name}" if kind == "inputs" else f"{kind} of transform {name}"

    @property
    def is_code(self) -> bool:
        return self.listing.startswith("code/")

    @property
    def files_only(self) -> bool:
        """Whether a folder without a file at any depth is not there: git keeps none."""
        return self.is_code or self.source.gitignore

    @property
    def is_url(self) -> bool:
        return bool(scheme_of(self.location))

    def place(self) -> HashedPlace:
        """Return where it lies on disk."""
        return HashedPlace(self.what, self.location, self.excludes, files_only=self.files_only)


def hashed_roots(contract: ContractFile, base: str) -> Iterator[HashedRoot]:
    """Yield what is hashed: the inputs, then code and environment of each transform."""
    for given in contract.inputs:
        if given.source is not None:
            yield _hashed_root(f"inputs/{given.name}", given.source, base)
    for number, transform in enumerate(contract.transforms):
        for kind, code in (("code", transform.code), ("environment", transform.environment)):
            for source in code.sources if isinstance(code, Roots) else ():
                yield _hashed_root(f"{kind}/{number}", source, base, CODE_PATTERNS if kind == "code" else ())


def _hashed_root(listing: str, source: TreeSource, base: str, drops: tuple[str, ...] = ()) -> HashedRoot:
    location = source.path if scheme_of(source.path) else os.path.join(base, source.path)
    return HashedRoot(listing, source, location, _excludes(source, location, base, drops))


def _excludes(source: TreeSource, location: str, base: str, drops: tuple[str, ...]) -> Excludes | None:
    if source.gitignore:
        from ctxpack_identity.hashing.gitignore import gitignored  # few contracts ask for it

        return gitignored(location, base, before=drops, after=source.excludes)
    patterns = (*drops, *source.excludes)
    return compile_excludes(patterns) if patterns else None


class RootHasher:
    """Hashes the roots of a contract, each once, in their order. texts: see Resolution."""

    def __init__(
        self,
        roots: tuple[HashedRoot, ...],
        hashing: Hashing,
        on_entry: Callable[[str, TreeEntry], object] | None,
        on_folder: Callable[[HashedRoot, Folder], object],
    ) -> None:
        self._hashing = hashing
        self._roots: dict[str, list[HashedRoot]] = {}
        for root in roots:
            self._roots.setdefault(root.listing, []).append(root)
        self._on_entry, self._on_folder = on_entry, on_folder
        self._unlisted = {root.listing for root in roots if not root.source.listing}
        self._outlook = Outlook("hash", hashing.progress, self._parts())
        self.texts: dict[str, bytes] = {}

    def input(self, name: str) -> Tree:
        """Return the tree of an input given by path."""
        [root] = self._roots[f"inputs/{name}"]
        return self._tree(root, self._entries(root.listing))

    def code(self, listing: str, code: Code) -> str:
        """Return the digest of code or environment, or what is given instead. Raises: as resolve does."""
        if not isinstance(code, Roots):
            return code
        roots = self._roots[listing]
        tree = self._folder(roots) if code.as_folder else self._tree(roots[0], self._entries(listing))
        if roots[0].is_code and not tree.files:
            raise InvalidInput(
                "code without any file",
                where=", ".join(root.location for root in roots),
                fix='name what runs, or say "code_hash": "opaque"',
                code="E_CODE_EMPTY",
            )
        if roots[0].source.text:
            self.texts[listing] = _text(roots[0], tree)
        return tree.digest

    def _entries(self, listing: str) -> Callable[[TreeEntry], object] | None:
        on_entry = self._on_entry
        if on_entry is None or listing in self._unlisted:
            return None
        return lambda entry: on_entry(listing, entry)

    def _parts(self) -> Iterator[Part | None]:
        for roots in self._roots.values():
            for root in _by_name(roots):
                yield (
                    None
                    if root.is_url
                    else partial(
                        unread_bytes,
                        root.location,
                        excludes=root.excludes,
                        follow=root.source.follow,
                        known=self._hashing.known,
                    )
                )

    def _tree(self, root: HashedRoot, on_entry: Callable[[TreeEntry], object] | None) -> Tree:
        return hash_tree(
            root.location,
            excludes=root.excludes,
            follow=root.source.follow,
            files_only=root.files_only,
            hashing=self._hashing,
            on_entry=on_entry,
            on_folder=lambda folder: self._on_folder(root, folder),
            outlook=self._outlook,
        )

    def _folder(self, roots: list[HashedRoot]) -> Tree:
        """Return the tree of the folder whose entries are these roots, by name."""
        folder, files, size = FolderDigest(), 0, 0
        report = self._entries(roots[0].listing)

        def add(entry: TreeEntry) -> None:
            folder.add(entry)
            if report is not None:
                report(entry)

        for root in _by_name(roots):
            name, empty = root.source.name, True

            def add_below(entry: TreeEntry, name: str = name) -> None:
                nonlocal empty
                empty = False
                add(entry._replace(path=f"{name}/{entry.path}" if entry.path else name))

            tree = self._tree(root, add_below)
            if empty and not root.files_only:
                add(TreeEntry(f"{name}/", 0, ""))
            files, size = files + tree.files, size + tree.size
        return Tree(folder.finish(), "folder", files, size)


def _by_name(roots: list[HashedRoot]) -> list[HashedRoot]:
    return sorted(roots, key=lambda root: root.source.name)


def _text(root: HashedRoot, tree: Tree) -> bytes:
    """Return the text of a lock file, which must be the one that was hashed."""
    if tree.kind != "file":
        raise InvalidInput(
            '"text" is for a single file', where=root.location, got="a folder", fix="remove it", code="E_TEXT"
        )
    try:
        with open(root.location, "rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise unreadable(root.location, error) from error
    check_text(data, where=root.location)
    if file_digest(hashlib.sha256(data).hexdigest(), len(data)) != tree.digest:
        raise changed(root.location)
    return data
