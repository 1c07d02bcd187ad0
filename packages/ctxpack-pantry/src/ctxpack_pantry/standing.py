"""Standing: whether what is at the places of outputs can be made again, so that it may be replaced."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ctxpack_bundle import OutputTree, outputs_digest, read_pack_manifest, root_digest
from ctxpack_identity import CtxUri, Digest, IntegrityError, InvalidInput, LocalFailure
from ctxpack_pantry.context import Context
from ctxpack_pantry.outlet import require_intact
from ctxpack_pantry.replacing import Site
from ctxpack_pantry.runnotes import RunNotes

__all__ = ["Standing"]


class Standing:
    """What is at the places of some outputs, none of which changes while it is looked at.

    sites: by the names of the outputs. follow: whether symbolic links in them are followed. seen: a look at each.
    coming: the digest of what is to be put there, of which the caller has a whole copy.
    """

    def __init__(
        self, context: Context, sites: Mapping[str, Site], follow: Mapping[str, bool], *, coming: Digest | None = None
    ) -> None:
        self._context, self._sites, self._coming = context, sites, coming
        self.seen = {name: site.look() for name, site in sites.items()}
        self._trees = {
            name: OutputTree(site.real, follow=follow[name]) for name, site in sites.items() if not site.is_empty
        }
        self._held_together: bool | None = None

    def require_held(self, *, force: bool, keep: Collection[str] = ()) -> dict[str, bool]:
        """Return for each output whether what is there can be deleted without a loss.

        force: it may be deleted all the same. keep: outputs whose place stays as it is.
        Raises: InvalidInput when it cannot, unless force is set.
        """
        held = {name: name not in self._trees or self.is_left(name) for name in self._sites}
        for name, is_held in held.items():
            if is_held or force or name in keep:
                continue
            held[name] = self._is_held(name)
            if not held[name]:
                raise InvalidInput(
                    "something else is there already",
                    where=self._sites[name].path,
                    expected="nothing, an empty folder, or what can be made again: outputs that a pack in the cache "
                    "holds, that a run left, or that are in git's HEAD",
                    fix="move it away, choose another place, or replace it with --force",
                    code="E_OCCUPIED",
                )
        return held

    def is_left(self, name: str) -> bool:
        """Return whether a run left what is there, or noted that it can be made again, and nobody changed it since."""
        site = self._sites[name]
        note = RunNotes(self._context.cache).read(site.real)
        if note is None or not note.ours or name not in self._trees:
            return False
        return note.left == self.seen[name] if note.left else site.is_since(note.began)

    def _is_held(self, name: str) -> bool:
        if self._held_together is None:
            digest = self._digest(self._trees) if len(self._trees) > 1 else None
            self._held_together = digest is not None and self._is_in_cache(digest)
        if self._held_together:
            return True
        digest = self._digest({name: self._trees[name]})
        if digest is not None and self._is_in_cache(digest, root=name):
            return True
        from ctxpack_pantry.githead import is_in_head

        return is_in_head(self._sites[name].real)

    def _digest(self, trees: Mapping[str, OutputTree]) -> Digest | None:
        """Return the digest of these; None when no pack can hold one of them (links, devices)."""
        try:
            return outputs_digest(trees, hashing=self._context.hashing)
        except InvalidInput:
            return None

    def _is_in_cache(self, digest: Digest, *, root: str = "") -> bool:
        """Return whether a cached pack, not a damaged one, has outputs of this digest, or a root of this name has.

        What is coming counts as well: it may be a part of a pack.
        """
        if digest == self._coming:
            return True
        for pack in self._context.cache.packs():
            try:
                manifest = read_pack_manifest(pack.path)
                found = manifest.outputs_digest == digest or (
                    manifest.outputs.nested
                    and any(one.name == root for one in manifest.outputs.roots)
                    and root_digest(pack.path, manifest, root) == digest
                )
                if found:
                    require_intact(self._context, CtxUri(manifest.uri), pack.path)
                    return True
            except (IntegrityError, LocalFailure):  # its outputs may be damaged too
                continue
        return False
