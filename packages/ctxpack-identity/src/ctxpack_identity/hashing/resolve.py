"""From a contract file to the contract: every path becomes a digest. SPEC.md, section 8."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from ctxpack_identity.contract import build_contract, encode_contract
from ctxpack_identity.contractfile import ContractFile, InputSource
from ctxpack_identity.digest import Digest, digest_of
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.hashing.deephash import DEFAULT_HASHING, Hashing
from ctxpack_identity.hashing.outside import OutputLocations
from ctxpack_identity.hashing.roots import HashedRoot, RootHasher, hashed_roots
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_identity.tree import Tree, TreeEntry
from ctxpack_identity.uri import CtxUri, uri_for

__all__ = ["Resolution", "ResolvedInput", "resolve"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # OCI's words for what `uname -m` says


class ResolvedInput(NamedTuple):
    """An input and its tree digest. tree: what was hashed, for an input given by path; uri: for one given by URI.

    listed: whether a pack says what the files of an input given by URI are.
    """

    name: str
    digest: Digest
    tree: Tree | None = None
    uri: CtxUri | None = None
    listed: bool = True


class Resolution(NamedTuple):
    """A contract and its URI. canonical: the bytes whose SHA-256 is the URI; contract: their value.

    hashed: all files and folders that were hashed. texts: the bytes of texts that a pack holds, by "environment/<i>".
    """

    uri: CtxUri
    canonical: bytes
    contract: dict[str, Any]
    inputs: tuple[ResolvedInput, ...]
    hashed: tuple[HashedRoot, ...]
    texts: dict[str, bytes]

    @property
    def listings(self) -> set[str]:
        """The listings that a pack holds of what was hashed, each all that on_entry was called with."""
        left_out = {root.listing for root in self.hashed if not root.source.listing}
        return {root.listing for root in self.hashed} - left_out


def resolve(
    contract: ContractFile,
    base: str,
    *,
    where: str = "contract",
    outputs: Mapping[str, str] | None = None,
    pack_outputs: Callable[[CtxUri], Digest] | None = None,
    environ: Mapping[str, str] | None = None,
    hashing: Hashing = DEFAULT_HASHING,
    on_entry: Callable[[str, TreeEntry], object] | None = None,
    on_folder: Callable[[HashedRoot, Folder], object] | None = None,
) -> Resolution:
    """Return the contract of a contract file: inputs, code and environment hashed, defaults written out.

    base: the folder that relative paths start from. outputs: locations of outputs by name, for those that do not lie
    where the contract file says. pack_outputs: returns the tree digest of the outputs of the pack
    with this URI; needed when an input is given by URI. environ: of variables without a value, by default this
    process's. on_entry: called with a listing's name (see HashedRoot) and each of its entries. on_folder: called with
    each root, and each of its folders.
    Raises: InvalidInput and LocalFailure as hash_tree does, for a URL AccessDenied and Unavailable too; whatever
    pack_outputs raises; InvalidInput for everything else that SPEC.md, section 8, refuses.
    """
    roots = tuple(hashed_roots(contract, base))
    declared = {output.name: os.path.join(base, output.path) for output in contract.outputs}
    made = OutputLocations([*declared.items(), *(outputs or {}).items()])
    places = {root: root.place() for root in roots if not root.is_url}
    for place in places.values():
        made.require_outside(place)

    def look(root: HashedRoot, folder: Folder) -> None:
        if root.source.follow:
            made.require_not_linked(places[root], folder)
        if on_folder is not None:
            on_folder(root, folder)

    variables = _variables(contract, os.environ if environ is None else environ, where)
    hasher = RootHasher(roots, hashing, on_entry, look)
    inputs = tuple(_input(given, hasher, pack_outputs, where) for given in contract.inputs)
    _require_folder(contract, inputs, where)
    transforms = [
        {
            "code_hash": hasher.code(f"code/{number}", transform.code),
            "environment_hash": hasher.code(f"environment/{number}", transform.environment),
            "params": transform.params,
            "tool": transform.tool,
            "tool_version": transform.tool_version,
        }
        for number, transform in enumerate(contract.transforms)
    ]
    value = build_contract(
        {item.name: item.digest for item in inputs},
        transforms,
        outputs=declared,
        command=contract.command,
        variables=variables,
        platform={name: _of_machine(name) if value == "auto" else value for name, value in contract.platform.items()},
        salt=contract.salt,
        each=contract.each,
        schema=contract.schema,
        where=where,
    )
    canonical = encode_contract(value, where=where)
    return Resolution(uri_for(digest_of(canonical)), canonical, value, inputs, roots, hasher.texts)


def _input(
    given: InputSource, hasher: RootHasher, pack_outputs: Callable[[CtxUri], Digest] | None, where: str
) -> ResolvedInput:
    if given.source is not None:
        tree = hasher.input(given.name)
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
    return ResolvedInput(given.name, pack_outputs(given.uri), uri=given.uri, listed=given.listing)


def _require_folder(contract: ContractFile, inputs: tuple[ResolvedInput, ...], where: str) -> None:
    """Raise InvalidInput when a map goes over a file."""
    for item in inputs:
        if contract.each is not None and item.name == contract.each.input and item.tree and item.tree.kind == "file":
            raise InvalidInput(
                "a map goes over a folder, and this input is a file",
                where=f"{where}, /each/input",
                got=item.name,
                fix="name the folder that holds the file",
                code="E_EACH",
            )


def _variables(contract: ContractFile, environ: Mapping[str, str], where: str) -> dict[str, str]:
    """Return each variable with its value. Raises: InvalidInput for one that is not set, or not text."""
    found = {}
    for name, given in contract.variables.items():
        value = environ.get(name) if given is None else given
        if value is None:
            raise InvalidInput(
                f"the environment variable {name} is not set",
                where=f"{where}, /variables",
                fix=f'set it, or give its value: "variables": {{"{name}": "…"}}',
                code="E_UNSET",
            )
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"the value of the environment variable {name} is not UTF-8",
                where=f"{where}, /variables",
                fix="change the value",
                code="E_VARIABLE",
            ) from error
        found[name] = value
    return found


def _of_machine(name: str) -> str:
    """Return this machine's os or arch, in OCI's words."""
    if name == "os":
        return sys.platform
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)
