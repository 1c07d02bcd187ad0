"""What the verbs of trust return: one named tuple each, with a JSON document, as those of `results`."""

from __future__ import annotations

from typing import Any, NamedTuple

from ctxpack_identity import CtxUri
from ctxpack_pantry.affected import Affected, Denial
from ctxpack_pantry.signers import by_name
from ctxpack_trust import PublicKey, Signer, TrustPolicy

__all__ = ["Denied", "Pinned", "ShownKey", "Trusted"]

Document = dict[str, Any]


class Pinned(NamedTuple):
    """What the mode tofu keeps to. scope: or repository, "" when file does not say it. key: None if it is damaged."""

    scope: str
    key: PublicKey | None
    file: str

    def as_json(self) -> Document:
        return {"scope": self.scope, "key_id": self.key.key_id if self.key else None, "file": self.file}


class Trusted(NamedTuple):
    """The policy, and what else decides. file: its path, "" when no home folder is known; at_least: CTXPACK_TRUST."""

    file: str
    at_least: str
    policy: TrustPolicy
    pins: tuple[Pinned, ...] = ()

    def as_json(self) -> Document:
        policy = self.policy
        return {
            "schema": "ctxpack/trust/v1",
            "file": self.file,
            "at_least": self.at_least,
            "default": policy.default._asdict(),
            "scopes": [{"scope": scope, **rule._asdict()} for scope, rule in sorted(policy.scopes.items())],
            "signers": [_signer(policy, signer) for signer in by_name(policy.signers)],
            "denied": {kind: sorted(values) for kind, values in policy.deny._asdict().items()},
            "pins": [pin.as_json() for pin in self.pins],
        }


class ShownKey(NamedTuple):
    """A key, and what the policy says of it. signers: its names there. added: the name that it got now, "" for none.

    seen_on: the pack from whose claims it was taken, None for a file. pinned: scopes and repositories in which the mode
    tofu keeps to it.
    """

    key: PublicKey
    signers: tuple[Signer, ...]
    denied: bool
    added: str = ""
    seen_on: CtxUri | None = None
    pinned: tuple[str, ...] = ()

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/trust-key/v1",
            "key_id": self.key.key_id,
            "algorithm": self.key.algorithm,
            "pem": self.key.as_pem().decode(),
            "denied": self.denied,
            "signers": [
                {"name": one.name, "owner": one.owner, "scopes": list(one.scopes)} for one in by_name(self.signers)
            ],
            "added": self.added or None,
            "seen_on": self.seen_on,
            "pinned": list(self.pinned),
        }


class Denied(NamedTuple):
    """What is denied now, or, with undo, no longer. changed: whether it was otherwise before, and not a dry run.

    denied: whether it is denied now, which a dry run does not change. signers: names of the signers with a denied key.
    affected: None when nobody asked. images: the image manifests of such packs that are denied, or allowed, with it.
    """

    denial: Denial
    undo: bool
    changed: bool
    denied: bool
    signers: tuple[str, ...]
    affected: Affected | None = None
    images: tuple[str, ...] = ()

    def as_json(self) -> Document:
        return {
            "schema": "ctxpack/trust-deny/v1",
            "kind": self.denial.kind,
            "value": self.denial.value,
            "denied": self.denied,
            "changed": self.changed,
            "signers": list(self.signers),
            "images": list(self.images),
            "affected": None if self.affected is None else self.affected.members(),
        }


def _signer(policy: TrustPolicy, signer: Signer) -> Document:
    return {
        "name": signer.name,
        "owner": signer.owner,
        "key_id": signer.key.key_id,
        "algorithm": signer.key.algorithm,
        "scopes": list(signer.scopes),
        "denied": signer.key.key_id in policy.deny.keys,
    }
