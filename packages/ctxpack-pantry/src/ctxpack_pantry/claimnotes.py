"""Claim notes: the claims about an image manifest that this cache has seen, so that a cached pack is judged by them.

One note for each claim, ``claims/<64 hex of the image manifest>/<64 hex of the key id>``: the base64 of the signer's
key (SubjectPublicKeyInfo, DER), a line feed, and the bundle. A note proves nothing: whoever reads one verifies its
signature. A cached hit loads this module, so it imports little.
"""

from __future__ import annotations

import binascii
from hashlib import sha256

from ctxpack_identity.digest import hex_of
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_pantry.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxpack_cache import Cache
    from ctxpack_identity import Digest

__all__ = ["MAX_BUNDLE_BYTES", "ClaimNotes", "FoundClaim"]

MAX_BUNDLE_BYTES = 3 << 19  # as in ctxpack_trust, which a hit does not load

_KIND = "claims"
_MAX_KEY = 4096  # bytes of a key in base64
_MOST = 64  # notes of one image manifest that are read


class FoundClaim(NamedTuple):
    """A claim that was found; nobody has verified it yet. where: for people.

    bundle: as it was found. spki: the key that it names, DER, if the bundle's hint is the digest of it, else None.
    """

    bundle: bytes
    spki: bytes | None
    where: str


class ClaimNotes:
    """The claims that cache knows."""

    def __init__(self, cache: Cache) -> None:
        self._notes = Notes(cache, _KIND)

    def record(self, image: Digest, bundles: Mapping[bytes, bytes]) -> None:
        """Note claims about an image manifest, which were verified. bundles: by the key (spki) of each.

        They replace earlier ones by the same keys.
        """
        below, encode = hex_of(image), binascii.b2a_base64
        notes = {f"{below}/{sha256(spki).hexdigest()}": encode(spki) + bundle for spki, bundle in bundles.items()}
        self._notes.write_all(notes)

    def of(self, image: Digest) -> list[FoundClaim]:
        """Return the claims about an image manifest that are noted, at most 64, by key id."""
        below = hex_of(image)
        found = []
        for key_id in sorted(self._notes.names(below))[:_MOST]:
            head, separator, bundle = self._notes.read(f"{below}/{key_id}", MAX_BUNDLE_BYTES + _MAX_KEY).partition(
                b"\n"
            )
            try:
                spki = binascii.a2b_base64(head)
            except binascii.Error:
                continue
            if separator and sha256(spki).hexdigest() == key_id:
                found.append(FoundClaim(bundle, spki, f"{self._notes.folder}/{below}/{key_id}"))
        return found

    def forget(self, image: Digest) -> None:
        """Remove the notes about an image manifest."""
        self._notes.remove_all(hex_of(image))
