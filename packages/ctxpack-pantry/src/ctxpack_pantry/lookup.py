"""Locate, admit, open: the three steps in which a pack is looked up in a target. FORMAT.md, "On a registry".

Each step makes the value that the next one takes, so no layer is fetched of a pack that was not admitted, unless it is
examined: looked at, and neither placed nor cached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, NewType

from ctxpack_bundle import FIRST_DATA_LAYER, PackManifest, Table, inflate_first, pack_manifest_of, parse_table
from ctxpack_identity import CtxUri, Digest, IntegrityError, NotFound, uri_digest
from ctxpack_oci import Descriptor, ImageManifest, Target, parse_image_manifest
from ctxpack_pantry.admission import ask
from ctxpack_pantry.artifact import (
    ANOTHER_CLIENT,
    check_shape,
    describe_contract,
    not_the_pack,
    tag_of,
)
from ctxpack_pantry.context import Context
from ctxpack_pantry.policy import Admission
from ctxpack_pantry.policyfile import NO_TRUST

__all__ = [
    "Admitted",
    "Examined",
    "Located",
    "OpenedPack",
    "admit",
    "examine",
    "fetch_layer",
    "locate",
    "missing_layer",
    "open_pack",
    "open_table",
    "require_found",
    "require_located",
]


class Located(NamedTuple):
    """The image manifest that a pack's tag names; its config is the contract. data: its bytes; where: for errors.

    admission: how it was admitted, None before. check: called with the pack manifest before anything of it is used.
    """

    uri: CtxUri
    where: str
    descriptor: Descriptor
    data: bytes
    manifest: ImageManifest
    admission: Admission | None = None
    check: Callable[[PackManifest], None] | None = None

    @property
    def image(self) -> Digest:
        """The digest of the image manifest."""
        return self.descriptor.digest

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        return self.manifest.layers

    @property
    def transfer_size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)


Admitted = NewType("Admitted", Located)
"""A located pack that the policy admits."""

Examined = NewType("Examined", Located)
"""A located pack that is only looked at: nobody was asked about it, and nothing of it is placed or cached."""


class OpenedPack(NamedTuple):
    """A pack whose first layer was fetched. manifest: read from that layer; first: the piece in it."""

    located: Admitted | Examined
    manifest: PackManifest
    first: bytes


def locate(target: Target, uri: CtxUri) -> Located | None:
    """Return the image manifest that the tag of uri names, or None when target has no such tag. One request.

    Raises: IntegrityError when it is not an image manifest of this contract's pack; AccessDenied, Unavailable when
    the answer is not known.
    """
    tagged = target.fetch_tag(tag_of(uri))
    if tagged is None:
        return None
    where = f"{target.name}:{tag_of(uri)}"
    manifest = parse_image_manifest(tagged.data, tagged.descriptor, where=where)
    check_shape(manifest, uri_digest(uri), where=where)
    return Located(uri, where, tagged.descriptor, tagged.data, manifest)


def admit(context: Context, located: Located) -> Admitted:
    """Return located once the policy admits it. Raises: PolicyRefused; as deciding.decide_located does."""
    asked = ask(context, located.uri, lambda: located.image)
    if context.policy is not None and context.trust is NO_TRUST:
        return Admitted(located._replace(admission=asked))
    from ctxpack_pantry.deciding import decide_located  # which imports what a registry is asked with

    admission, check = decide_located(context, located.uri, located.image)
    return Admitted(located._replace(admission=admission, check=check))


def examine(located: Located) -> Examined:
    """Return located, to be looked at and nothing else: no policy is asked."""
    return Examined(located)


def open_pack(target: Target, located: Admitted | Examined) -> OpenedPack:
    """Return the pack with its pack manifest, which is its first layer. One request.

    Raises: IntegrityError when that layer is missing, damaged, or that of another contract's pack, and when a claim
    that admitted the pack is about other outputs; PolicyRefused when its outputs are denied; AccessDenied, Unavailable.
    """
    where = f"{located.where}, first layer"
    first = inflate_first(fetch_layer(target, located, 0), where=where)
    manifest = pack_manifest_of(first, where=where)
    if manifest.uri != located.uri:
        raise IntegrityError(
            "pack of another contract",
            where=located.where,
            expected=located.uri,
            got=manifest.uri,
            fix=ANOTHER_CLIENT,
        )
    config = describe_contract(manifest.contract_bytes)
    if located.manifest.config.size != config.size:
        size = located.manifest.config.size
        raise not_the_pack("config.size, the contract", located.where, f"{config.size} bytes", str(size))
    if located.check is not None:
        located.check(manifest)
    return OpenedPack(located, manifest, first)


def open_table(target: Target, located: Admitted | Examined) -> Table:
    """Return the table of a pack, checked. One request. Raises: as open_pack does, for the table."""
    data = fetch_layer(target, located, FIRST_DATA_LAYER - 1)
    return parse_table(data, [layer.size for layer in located.layers], where=f"{located.where}, table")


def fetch_layer(target: Target, located: Admitted | Examined, number: int) -> bytes:
    """Return a layer, by its number, whole. Raises: IntegrityError when it is missing or damaged; as Target.fetch."""
    try:
        return target.fetch(located.layers[number])
    except NotFound as error:
        raise missing_layer(located, number) from error


def require_found(context: Context, uri: CtxUri) -> Admitted:
    """Return the pack that the registry has for uri, located and admitted. One request, and those for claims.

    Raises: NotFound when the registry has no such pack; as locate and admit do.
    """
    return admit(context, require_located(context, uri))


def require_located(context: Context, uri: CtxUri) -> Located:
    """Return the pack that the registry has for uri. One request. Raises: NotFound when it has none; as locate does."""
    located = locate(context.target, uri)
    if located is None:
        raise NotFound(
            f"no such pack: {uri}",
            where=context.target.name,
            fix="check the URI and the registry, or make the pack: ctxpack run, or ctxpack seed and ctxpack push",
        )
    return located


def missing_layer(located: Located, number: int) -> IntegrityError:
    """Return the error that says that a layer of an image manifest is missing: damage, not a miss."""
    return IntegrityError(
        "a layer is missing",
        where=f"{located.where}, layer {number}, {located.layers[number].digest}",
        fix=f"`ctxpack push --repair {located.uri}` heals it from a cache that has the pack; `ctxpack run --recompute` "
        "makes the pack anew",
        code="E_INCOMPLETE",
    )
