"""What each verb returns: one named tuple with a JSON document. docs/json.md describes the documents.

This module imports little, because most cache hits load it. `Identified` has a module of its own: of all of them, a hit
of a function that is remembered needs only that.
"""

from __future__ import annotations

from ctxpack_identity.contractview import input_digests, tools, transforms
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_identity.uri import CtxUri
from ctxpack_pantry.identified import Identified

if TYPE_CHECKING:
    from ctxpack_bundle import PackManifest
    from ctxpack_identity import CtxPackError, Digest
    from ctxpack_pantry.lookup import Located
    from ctxpack_pantry.rebuilding import Rebuilt
    from ctxpack_pantry.verdict import Verdict
    from ctxpack_pantry.weakpoints import WeakPoint

__all__ = [
    "Exported",
    "Guess",
    "Identified",
    "Initialised",
    "Inspected",
    "Listed",
    "Mapped",
    "NamedBefore",
    "Pulled",
    "Pushed",
    "Ran",
    "Removed",
    "Replaced",
    "Seeded",
    "Signed",
    "SignedAll",
    "StoredPack",
    "Tagged",
    "Unsigned",
    "Verified",
    "VerifiedPack",
    "error_as_json",
]

Document = dict[str, Any]

_LAST_SECOND = 253_402_300_799  # of the year 9999; a file may have any time


class Guess(NamedTuple):
    """What init found out by itself. what: the option of init that says it; value: as it is in the contract file."""

    what: str
    value: str | list[str]
    why: str


class Initialised(NamedTuple):
    """The contract file that init wrote. contract_file: its path.

    placeholders: what is neither given nor guessed, by the option of init that says it: to be filled in.
    """

    contract_file: str
    guesses: tuple[Guess, ...]
    placeholders: dict[str, str | list[str]]

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/init/v1",
            "contract_file": self.contract_file,
            "guesses": [guess._asdict() for guess in self.guesses],
            "placeholders": [{"what": what, "value": value} for what, value in self.placeholders.items()],
        }


class Seeded(NamedTuple):
    """A pack in the cache. folder: the pack's; new: whether it was not there before."""

    uri: CtxUri
    folder: str
    manifest: PackManifest
    new: bool

    def as_json(self) -> Document:
        outputs = self.manifest.outputs
        return {
            "schema": "ctxpack/seed/v1",
            "uri": self.uri,
            "outputs": {"digest": outputs.digest, "files": outputs.files, "size": outputs.size},
            "new": self.new,
        }


class Replaced(NamedTuple):
    """What a tag named before. image: digest of its image manifest; outputs: of its outputs, None if it had none."""

    image: Digest
    outputs: Digest | None


class Pushed(NamedTuple):
    """A pack in a registry. image: digest of its image manifest; sent: bytes of blobs that were not there before.

    new: whether the registry did not have these outputs before; outputs: their digest. replaced: what the tag named
    before, if that was something else; claims about its image manifest say nothing of this one. signed: the claim about
    it, None when it was not to be signed.
    """

    uri: CtxUri
    registry: str
    image: Digest
    sent: int
    new: bool
    outputs: Digest
    replaced: Replaced | None = None
    signed: Signed | None = None

    def as_json(self) -> Document:
        document: Document = {
            "schema": "ctxpack/push/v1",
            "uri": self.uri,
            "registry": self.registry,
            "image": self.image,
            "sent": self.sent,
            "new": self.new,
            "outputs": self.outputs,
        }
        if self.replaced is not None:
            document["replaced"] = self.replaced._asdict()
        if self.signed is not None:
            document["signed"] = self.signed.as_json()
        return document


class Signed(NamedTuple):
    """A claim about a pack in a registry. image: digest of the pack's image manifest, which the claim is about.

    kind: how the signer knows: "run", "rebuild", "seed", "vouch". tag: of the claim. new: whether it was published now.
    """

    uri: CtxUri
    registry: str
    image: Digest
    key_id: str
    kind: str
    tag: str
    new: bool

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/sign/v1",
            "uri": self.uri,
            "registry": self.registry,
            "image": self.image,
            "key_id": self.key_id,
            "kind": self.kind,
            "tag": self.tag,
            "new": self.new,
        }


class Unsigned(NamedTuple):
    """A pack that a new key did not sign although an old one had. uri: None where the old claim could not be read."""

    image: Digest
    uri: CtxUri | None
    why: str


class SignedAll(NamedTuple):
    """What a new key signed of what an old one had signed in a registry, and what it did not."""

    registry: str
    signed: tuple[Signed, ...]
    unsigned: tuple[Unsigned, ...]

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/sign-all/v1",
            "registry": self.registry,
            "signed": [one.as_json() for one in self.signed],
            "unsigned": [one._asdict() for one in self.unsigned],
        }


class NamedBefore(NamedTuple):
    """What a name stood for before. image: digest of what its tag named; uri: None if that was no pack."""

    image: Digest
    uri: CtxUri | None


class Tagged(NamedTuple):
    """A name in a registry, and the pack that it stands for now. image: digest of the pack's image manifest.

    new: whether the name was not there before; replaced: what it stood for, if that was something else.
    """

    uri: CtxUri
    name: str
    registry: str
    image: Digest
    new: bool
    replaced: NamedBefore | None = None

    def as_json(self) -> Document:
        document: Document = {
            "schema": "ctxpack/tag/v1",
            "uri": self.uri,
            "name": self.name,
            "registry": self.registry,
            "image": self.image,
            "new": self.new,
        }
        return document if self.replaced is None else document | {"replaced": self.replaced._asdict()}


class Pulled(NamedTuple):
    """Outputs in a folder. received: bytes of layers fetched, 0 when the cache had the pack; registry: where from.

    files, size (bytes): what was chosen with include, otherwise None.
    """

    uri: CtxUri
    folder: str
    received: int
    files: int | None = None
    size: int | None = None
    registry: str | None = None

    def as_json(self) -> Document:
        document: Document = {
            "schema": "ctxpack/pull/v1",
            "uri": self.uri,
            "folder": self.folder,
            "received": self.received,
            "registry": self.registry,
        }
        return document if self.files is None else document | {"files": self.files, "size": self.size}


class Ran(NamedTuple):
    """hit: the pack was there and the command did not run. status: of the command, 0 on a hit.

    registry: where the pack was fetched from, None if it was not. pushed: what a push came to, None without one.
    adopted: whether the registry had other outputs, which took the place of those made here.
    """

    uri: CtxUri
    hit: bool
    status: int
    registry: str | None = None
    pushed: Pushed | None = None
    adopted: bool = False

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/run/v1",
            "uri": self.uri,
            "hit": self.hit,
            "status": self.status,
            "registry": self.registry,
            "pushed": None if self.pushed is None else self.pushed.as_json(),
            "adopted": self.adopted,
        }


class FailedItem(NamedTuple):
    """An item that was not made. path: in the input. status: of its command, 1 where that is not what failed."""

    path: str
    status: int
    reason: str


class Mapped(NamedTuple):
    """What came of a map. hit: whether its pack was there, so that no item was looked at.

    status: 1 when items failed, so that there is no pack. items: how many there are. Of these, finished were made by an
    earlier map, cached are in packs of the cache, fetched in packs of the registry, and made were made now; missing are
    the others: they failed, or it was a dry run. received: bytes of layers fetched for them. registry, pushed, adopted:
    as for Ran.
    """

    uri: CtxUri
    hit: bool
    status: int = 0
    items: int = 0
    finished: int = 0
    cached: int = 0
    fetched: int = 0
    made: int = 0
    missing: int = 0
    failed: tuple[FailedItem, ...] = ()
    received: int = 0
    registry: str | None = None
    pushed: Pushed | None = None
    adopted: bool = False

    def as_json(self) -> Document:
        document = self._asdict()
        del document["uri"], document["failed"], document["pushed"]
        return {
            "schema": "ctxpack/mapped/v1",
            "uri": self.uri,
            **document,
            "failed": [item._asdict() for item in self.failed],
            "pushed": None if self.pushed is None else self.pushed.as_json(),
        }


class Exported(NamedTuple):
    """A pack as a file. tar: its path; size: its bytes; received: bytes of layers fetched first."""

    uri: CtxUri
    tar: str
    size: int
    received: int

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/export/v1",
            "uri": self.uri,
            "tar": self.tar,
            "size": self.size,
            "received": self.received,
        }


class Inspected(NamedTuple):
    """What made a pack and what it holds. found_in: the pack's folder in the cache, or the registry.

    located: the image manifest, when the registry was asked. weak: weak points, of the contract and as the maker of the
    pack was told. verdict: who signed it, and what the policy says.
    """

    manifest: PackManifest
    found_in: str
    located: Located | None
    weak: tuple[WeakPoint, ...]
    verdict: Verdict

    def as_json(self) -> Document:
        manifest, outputs = self.manifest, self.manifest.outputs
        document: Document = {
            "schema": "ctxpack/inspection/v1",
            "uri": manifest.uri,
            "found_in": self.found_in,
            "contract": manifest.contract,
            "outputs": {
                "digest": outputs.digest,
                "files": outputs.files,
                "empty_folders": outputs.empty_folders,
                "size": outputs.size,
                "roots": [{"name": root.name, "type": root.type} for root in outputs.roots],
            },
            "provenance": manifest.provenance,
            "verdict": self.verdict.members(),
            "weak": [point._asdict() for point in self.weak],
        }
        if self.located is not None:
            document["image"] = {
                "digest": self.located.image,
                "layers": len(self.located.layers),
                "size": self.located.transfer_size,
            }
        return document


class StoredPack(NamedTuple):
    """A pack of the cache. manifest: None when it is damaged. used: when it was last handed out, since the epoch."""

    uri: CtxUri
    folder: str
    manifest: PackManifest | None
    used: float

    @property
    def created(self) -> str:
        """When it was made, as its maker says; "" when that is not said, or not known."""
        created = None if self.manifest is None else self.manifest.provenance.get("created")
        return created if isinstance(created, str) else ""  # the maker may have written anything

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, as far as they are texts."""
        labels = None if self.manifest is None else self.manifest.provenance.get("labels")
        found = labels.items() if isinstance(labels, dict) else ()
        return {key: value for key, value in found if isinstance(value, str)}

    @property
    def tools(self) -> list[str]:
        """The tools of its transforms, in order."""
        return [] if self.manifest is None else tools(self.manifest.contract)

    @property
    def inputs(self) -> dict[str, str | None]:
        """The digests of its inputs, by name; None where its contract, which may have any schema, says none."""
        return {} if self.manifest is None else input_digests(self.manifest.contract)

    def as_json(self) -> Document:
        document: Document = {"uri": self.uri, "folder": self.folder, "used": _time(self.used)}
        manifest = self.manifest
        if manifest is None:
            return document | {"damaged": True}
        return document | {
            "files": manifest.outputs.files,
            "size": manifest.outputs.size,
            "created": self.created,
            "tools": self.tools,
            "params": [transform.get("params", {}) for transform in transforms(manifest.contract)],
            "inputs": [{"name": name, "digest": digest} for name, digest in self.inputs.items()],
            "labels": self.labels,
        }


class Listed(NamedTuple):
    """Packs of the cache, in the order that was asked for."""

    packs: tuple[StoredPack, ...]

    def as_json(self) -> Document:
        return {"schema": "ctxpack/ls/v1", "packs": [pack.as_json() for pack in self.packs]}


class Removed(NamedTuple):
    """removed: packs that were removed; missing: packs that were not there.

    registry: what packs were removed from besides the cache, None for the cache alone.
    """

    removed: tuple[CtxUri, ...]
    missing: tuple[CtxUri, ...]
    registry: str | None = None

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/rm/v1",
            "removed": list(self.removed),
            "missing": list(self.missing),
            "registry": self.registry,
        }


class VerifiedPack(NamedTuple):
    """A pack that was read whole. size: bytes. damage: what was wrong with it, if something was.

    found_in: its folder in the cache, or the registry; cached: which of the two. verdict: what the policy says of it,
    None if nobody asked. contradictions: claims of trusted signers that say something else than the pack. rebuilt: what
    came of running its recipe again; signed: the claim that was published then.
    """

    uri: CtxUri
    files: int
    size: int
    damage: str = ""
    found_in: str = ""
    cached: bool = True
    verdict: Verdict | None = None
    contradictions: tuple[str, ...] = ()
    rebuilt: Rebuilt | None = None
    signed: Signed | None = None

    def as_json(self) -> Document:
        document: Document = {"uri": self.uri, "found_in": self.found_in, "cached": self.cached}
        if self.damage:
            return document | {"damage": self.damage}
        document |= {"files": self.files, "size": self.size}
        if self.verdict is not None:
            document |= {"verdict": self.verdict.members(), "contradictions": list(self.contradictions)}
        if self.rebuilt is not None:
            document["rebuild"] = self.rebuilt.as_json()
        if self.signed is not None:
            document["signed"] = self.signed.as_json()
        return document


class Verified(NamedTuple):
    """The packs that were read whole, in the order in which they were named, or sorted by URI."""

    packs: tuple[VerifiedPack, ...]

    def as_json(self) -> Document:
        return {"schema": "ctxpack/verify/v1", "packs": [pack.as_json() for pack in self.packs]}


def _time(seconds: float) -> str:
    """Return a time since the epoch as RFC 3339, in UTC."""
    import time  # only this needs it

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(max(seconds, 0.0), _LAST_SECOND)))


def error_as_json(error: CtxPackError) -> Document:
    """Return the document of an error, which a verb raises instead of returning a result."""
    members = {name: getattr(error, name) for name in ("code", "what", "where", "expected", "got", "fix")}
    faults = [fault._asdict() for fault in getattr(error, "faults", ())]
    return {"schema": "ctxpack/error/v1", "message": str(error), **members, **({"faults": faults} if faults else {})}
