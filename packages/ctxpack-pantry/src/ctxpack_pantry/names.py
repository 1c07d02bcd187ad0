"""Names: the mutable tag ``name-NAME`` of a registry names the image manifest of a pack.

A name says where to find a pack, and nothing more: whoever may push can let it name another one. It is no part of any
identity, and the pack that it leads to is looked up by its URI, and admitted, like any other.
"""

from __future__ import annotations

from ctxpack_identity import Conflict, CtxUri, IntegrityError, NotFound, Unavailable, uri_for
from ctxpack_oci import TaggedManifest, Target, parse_image_manifest
from ctxpack_pantry.artifact import check_shape, tag_of
from ctxpack_pantry.context import Context
from ctxpack_pantry.lookup import admit, locate
from ctxpack_pantry.referencekind import parse_name
from ctxpack_pantry.results import NamedBefore, Tagged

__all__ = ["name_tag", "resolve_name", "tag"]


def name_tag(name: str) -> str:
    """Return the tag of a name. It never begins like the tag of a pack, ``ctx-``."""
    return f"name-{name}"


def tag(context: Context, uri: CtxUri, name: str) -> Tagged:
    """Let name stand for the pack that the registry has under uri. It may have stood for another one.

    Raises: InvalidInput when it cannot be a name; NotFound when the registry has no such pack; Conflict when the
    registry does not let a tag be moved; IntegrityError when what it has is no pack; PolicyRefused, AccessDenied,
    Unavailable.
    """
    target, at = context.target, name_tag(parse_name(name))
    located = locate(target, uri)
    if located is None:
        raise NotFound(
            f"no such pack: {uri}", where=target.name, fix="names are for packs of a registry: `ctxpack push` it first"
        )
    image = admit(context, located).descriptor
    before = _named_before(target, at)
    if before is None or before.image != image.digest:
        try:
            target.tag(image, at)
        except Conflict as error:
            raise Conflict(
                f"the registry does not let the name {name} be moved",
                where=f"{target.name}:{at}",
                expected="mutable tags",
                got=f"tags that stay, and this one names {_shown(before)}",
                fix="choose another name, or remove the tag there",
                code="E_IMMUTABLE",
            ) from error
        if target.resolve_tag(at) is None:
            raise Unavailable(
                "the name is not there, though the registry accepted it",
                where=f"{target.name}:{at}",
                fix="tag it again; if it stays, ask the operator of the registry",
                code="E_LOST",
            )
    moved = before if before is not None and before.image != image.digest else None
    return Tagged(uri, name, target.name, image.digest, before is None, moved)


def resolve_name(context: Context, name: str) -> CtxUri:
    """Return the URI of the pack that name stands for in the registry, and say it. Two requests.

    Raises: NotFound when the registry has no such name; IntegrityError when it names no pack; AccessDenied,
    Unavailable.
    """
    target, at = context.target, name_tag(name)
    tagged = target.fetch_tag(at)
    if tagged is None:
        raise NotFound(
            f"no such name: {name}",
            where=target.name,
            fix="check the name and the registry, or give the name: `ctxpack tag URI NAME`",
        )
    try:
        uri = _uri_of(tagged, f"{target.name}:{at}")
    except IntegrityError as error:
        raise IntegrityError(
            f"the name {name} stands for no pack: {error.what}",
            where=error.where,
            expected=error.expected,
            got=error.got,
            fix=f"something else has the tag {at}; `ctxpack tag URI {name}` lets it name a pack",
            code="E_NOT_THE_PACK",
        ) from error
    context.notice(f"{name} is {uri}")
    own = target.resolve_tag(tag_of(uri))
    if own is None:
        context.notice(f"{target.name} has that pack under this name only; under its URI it is not there any more")
    elif own != tagged.descriptor.digest:
        context.notice(
            f"{name} was given to {tagged.descriptor.digest}, but {own} is what has that URI now, perhaps with other "
            f"outputs; `ctxpack tag {uri} {name}` gives it the name"
        )
    return uri


def _uri_of(tagged: TaggedManifest, where: str) -> CtxUri:
    """Return the URI of the pack whose image manifest this is. Raises: IntegrityError when it is no pack's."""
    manifest = parse_image_manifest(tagged.data, tagged.descriptor, where=where)
    check_shape(manifest, manifest.config.digest, where=where)
    return uri_for(manifest.config.digest)


def _named_before(target: Target, at: str) -> NamedBefore | None:
    """Return what a tag names, also if that is no pack; None if there is no such tag."""
    try:
        tagged = target.fetch_tag(at)
        return None if tagged is None else NamedBefore(tagged.descriptor.digest, _uri_of(tagged, at))
    except IntegrityError:
        image = target.resolve_tag(at)
        return None if image is None else NamedBefore(image, None)


def _shown(before: NamedBefore | None) -> str:
    return "something else" if before is None else before.uri or before.image
