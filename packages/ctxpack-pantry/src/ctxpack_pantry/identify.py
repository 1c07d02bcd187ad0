"""Identify: the contract and URI of a contract file; inputs that are packs are looked up."""

from __future__ import annotations

from collections.abc import Callable

import ctxpack_identity as identity
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.results import Identified

if TYPE_CHECKING:
    from ctxpack_identity import CtxUri, Digest, TreeEntry
    from ctxpack_pantry.context import Context

__all__ = ["identify"]


def identify(
    context: Context,
    contract_file: LoadedContractFile,
    *,
    on_entry: Callable[[str, TreeEntry], object] | None = None,
) -> Identified:
    """Return the contract and its URI; inputs, code and environment are hashed. No side effects.

    on_entry: called with an input's name and each of its entries. Files of file managers are named in a notice.
    Raises: InvalidInput, LocalFailure; NotFound, PolicyRefused, IntegrityError for an input that is a pack;
    AccessDenied, Unavailable for such an input, and for a URL input.
    """

    def pack_outputs(uri: CtxUri) -> Digest:
        from ctxpack_pantry.inspection import outputs_digest_of  # few contracts have packs as inputs

        return outputs_digest_of(context, uri)

    resolution = identity.resolve(
        contract_file.file,
        contract_file.base,
        where=contract_file.path,
        pack_outputs=pack_outputs,
        hashing=context.hashing,
        on_entry=on_entry,
    )
    for path in resolution.junk:
        context.notice(f"{path} was left by a file manager, and changes the URI; remove or exclude it")
    return Identified(*resolution)
