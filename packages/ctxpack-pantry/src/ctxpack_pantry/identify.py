"""Identify: the contract and URI of a contract file; inputs that are packs are looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ctxpack_identity as identity
from ctxpack_identity.canonical import MAX_DEPTH, MAX_MEMBERS
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identified import Identified
from ctxpack_pantry.looks import Looks
from ctxpack_pantry.weakpoints import WeakPoints

if TYPE_CHECKING:
    from ctxpack_identity import CtxUri, Digest, HashedRoot, TreeEntry
    from ctxpack_identity.hashing.scan import Folder
    from ctxpack_pantry.context import Context

__all__ = ["identify", "require_room", "say_weak_points"]


def identify(
    context: Context,
    contract_file: LoadedContractFile,
    *,
    outputs: Mapping[str, str] | None = None,
    on_entry: Callable[[str, TreeEntry], object] | None = None,
    on_folder: Callable[[HashedRoot, Folder], object] | None = None,
    before: Looks | None = None,
) -> Identified:
    """Return the contract and its URI; inputs, code and environment are hashed. No side effects.

    outputs: where outputs lie that do not lie where the contract file says. on_entry: called with the name of a listing
    and each of its entries. on_folder: called with each root, and each of its folders. before: the looks of an
    earlier call, to compare with.
    Raises: InvalidInput, LocalFailure; NotFound, PolicyRefused, IntegrityError for an input that is a pack;
    AccessDenied, Unavailable for such an input, and for a URL input.
    """

    def pack_outputs(uri: CtxUri) -> Digest:
        from ctxpack_pantry.inspection import outputs_digest_of  # few contracts have packs as inputs

        return outputs_digest_of(context, uri)

    weak, looks = WeakPoints(contract_file), Looks(before)

    def look(root: HashedRoot, folder: Folder) -> None:
        weak.on_folder(root, folder)
        looks.on_folder(root, folder)
        if on_folder is not None:
            on_folder(root, folder)

    resolution = identity.resolve(
        contract_file.file,
        contract_file.base,
        where=contract_file.path,
        outputs=outputs,
        pack_outputs=pack_outputs,
        hashing=context.hashing,
        on_entry=on_entry,
        on_folder=look,
    )
    return Identified(
        resolution.uri,
        resolution.canonical,
        resolution.contract,
        resolution.inputs,
        weak.found(resolution.contract),
        frozenset(resolution.listings),
        resolution.texts,
        resolution.hashed,
        looks,
    )


def require_room(contract_file: LoadedContractFile, identified: Identified) -> None:
    """Raise InvalidInput for a contract so large that the manifest of its pack would break the limits of a document.

    The manifest repeats the contract, one level deeper, and the labels; half of its members are left for the rest.
    """
    labels, rest = contract_file.file.labels, MAX_MEMBERS // 2
    is_small = len(identified.canonical) + len(labels) < rest  # a member takes a byte at least
    try:
        identity.canonical_json([identified.contract, labels, [] if is_small else [0] * rest])
    except InvalidInput as error:
        raise InvalidInput(
            f"a pack of this contract would break a limit: {error.what}",
            where=contract_file.path,
            expected=f"at most {MAX_MEMBERS // 2} members and elements, and {MAX_DEPTH - 1} levels",
            fix="move large params into a file, and make that an input",
            code=error.code,
        ) from error


def say_weak_points(context: Context, identified: Identified) -> None:
    """Give a notice of each weak point."""
    for point in identified.weak:
        context.notice(f"weak point: {point.what}")
