"""From the contract a user wrote to the canonical contract: every path becomes a digest."""

from __future__ import annotations

import os
from collections.abc import Callable

from ctxpack_identity.contract import Code, ContractFile, InputSource, TreeSource, canonical_contract
from ctxpack_identity.digest import Digest, digest_of
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.deephash import DEFAULT_HASHING, Hashing, hash_tree
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_identity.scheme import scheme_of, shown_url
from ctxpack_identity.tree import Tree, TreeEntry
from ctxpack_identity.uri import CtxUri, uri_for

__all__ = ["Resolution", "ResolvedInput", "resolve"]


class ResolvedInput(NamedTuple):
    """An input and its tree digest. tree: what was hashed, for an input given by path; uri: for one given by URI."""

    name: str
    digest: Digest
    tree: Tree | None = None
    uri: CtxUri | None = None


class Resolution(NamedTuple):
    """A contract with its name. canonical: the bytes whose SHA-256 is the URI. junk: paths worth a warning."""

    uri: CtxUri
    canonical: bytes
    inputs: tuple[ResolvedInput, ...]
    junk: tuple[str, ...]


def resolve(
    contract: ContractFile,
    base: str,
    *,
    where: str = "contract",
    pack_outputs: Callable[[CtxUri], Digest] | None = None,
    hashing: Hashing = DEFAULT_HASHING,
    on_entry: Callable[[str, TreeEntry], object] | None = None,
) -> Resolution:
    """Return the canonical contract: inputs, code and environment hashed, defaults written out.

    base: the folder relative paths start from. pack_outputs: answers a URI with the tree digest of that pack's
    outputs; needed when an input is given by URI. on_entry: called with the input's
    name and each of its entries, for inputs given by path.
    Raises: InvalidInput, LocalFailure for what cannot be hashed, AccessDenied and Unavailable too for what a remote
    store holds; whatever pack_outputs raises.
    """
    junk: list[str] = []

    def tree_at(location: TreeSource, on_found: Callable[[TreeEntry], object] | None = None) -> Tree:
        root = location.path if scheme_of(location.path) else os.path.join(base, location.path)
        tree = hash_tree(
            root,
            excludes=compile_excludes(location.excludes) if location.excludes else None,
            follow=location.follow,
            hashing=hashing,
            on_entry=on_found,
        )
        junk.extend(os.path.join(shown_url(root) if scheme_of(root) else root, path) for path in tree.junk)
        return tree

    def resolve_input(source: InputSource) -> ResolvedInput:
        if source.location is not None:
            on_found = None if on_entry is None else lambda entry: on_entry(source.name, entry)
            tree = tree_at(source.location, on_found)
            return ResolvedInput(source.name, tree.digest, tree=tree)
        if source.uri is None:
            assert source.digest is not None
            return ResolvedInput(source.name, source.digest)
        if pack_outputs is None:
            raise InvalidInput(
                "an input given by URI needs a place to look packs up",
                where=f"{where}, input {source.name!r}",
                got=source.uri,
                fix='give its "digest" or "path", or resolve with pack_outputs',
                code="E_NO_PANTRY",
            )
        return ResolvedInput(source.name, pack_outputs(source.uri), uri=source.uri)

    def hash_of(code: TreeSource | Code) -> str:
        return tree_at(code).digest if isinstance(code, TreeSource) else code

    inputs = tuple(resolve_input(source) for source in contract.inputs)
    transforms: list[dict[str, Any]] = [
        {
            "code_hash": hash_of(transform.code),
            "environment_hash": hash_of(transform.environment),
            "params": transform.params,
            "tool": transform.tool,
            "tool_version": transform.tool_version,
        }
        for transform in contract.transforms
    ]
    canonical = canonical_contract({item.name: item.digest for item in inputs}, transforms, contract.salt, where=where)
    return Resolution(uri_for(digest_of(canonical)), canonical, inputs, tuple(junk))
