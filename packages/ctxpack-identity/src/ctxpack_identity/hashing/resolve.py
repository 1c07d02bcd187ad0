"""From a contract file to the contract: every path becomes a digest."""

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
    """A contract and its URI. canonical: the bytes whose SHA-256 is the URI. junk: paths worth a warning."""

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
    """Return the contract of a contract file: inputs, code and environment hashed, defaults written out.

    base: the folder that relative paths start from. pack_outputs: returns the tree digest of the outputs of the pack
    with this URI; needed when an input is given by URI. on_entry: called with the name of an input given by path, and
    each of its entries.
    Raises: InvalidInput and LocalFailure as hash_tree does, for a URL AccessDenied and Unavailable too; whatever
    pack_outputs raises.
    """
    junk: list[str] = []

    def tree_at(source: TreeSource, on_found: Callable[[TreeEntry], object] | None = None) -> Tree:
        root = source.path if scheme_of(source.path) else os.path.join(base, source.path)
        tree = hash_tree(
            root,
            excludes=compile_excludes(source.excludes) if source.excludes else None,
            follow=source.follow,
            hashing=hashing,
            on_entry=on_found,
        )
        junk.extend(os.path.join(shown_url(root) if scheme_of(root) else root, path) for path in tree.junk)
        return tree

    def resolve_input(given: InputSource) -> ResolvedInput:
        if given.source is not None:
            on_found = None if on_entry is None else lambda entry: on_entry(given.name, entry)
            tree = tree_at(given.source, on_found)
            return ResolvedInput(given.name, tree.digest, tree=tree)
        if given.uri is None:
            assert given.digest is not None
            return ResolvedInput(given.name, given.digest)
        if pack_outputs is None:
            raise InvalidInput(
                "an input given by URI needs a place to look packs up",
                where=f"{where}, input {given.name!r}",
                got=given.uri,
                fix='give its "digest" or "path", or resolve with pack_outputs',
                code="E_NO_PANTRY",
            )
        return ResolvedInput(given.name, pack_outputs(given.uri), uri=given.uri)

    def hash_of(code: TreeSource | Code) -> str:
        return tree_at(code).digest if isinstance(code, TreeSource) else code

    inputs = tuple(resolve_input(given) for given in contract.inputs)
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
