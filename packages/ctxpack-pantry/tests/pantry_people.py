"""People who share a registry and nothing else: each has a home folder, so a state folder and a policy, and a cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pantry_project import Project
from pantry_target import FaultyTarget

from ctxpack_identity import CtxUri
from ctxpack_oci import Descriptor
from ctxpack_pantry import Pantry, Settings
from ctxpack_pantry.claims import claim_tag, list_claims
from ctxpack_pantry.settings import Setting
from ctxpack_trust import (
    Claim,
    Denied,
    PrivateKey,
    PublicKey,
    Rule,
    Signer,
    TrustPolicy,
    encode_policy,
    generate_key,
    read_claim,
)

NOBODY = Denied()


class Person:
    """Somebody with a key, and with a pantry whose registry is target. notices: what the pantry said."""

    def __init__(self, folder: Path, target: FaultyTarget, *, cache: str = "cache") -> None:
        self.home = folder
        self.key = generate_key()
        self.notices: list[str] = []
        self.target = target
        self.pantry = self.with_cache(cache)

    def with_cache(self, name: str) -> Pantry:
        """Return another pantry of the same person."""
        where = Setting(f"oci:{self.target.folder}", "test"), Setting(str(self.home / name), "test")
        settings = Settings(*where, settle=Setting("0", "test"))
        environ: Mapping[str, str] = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        return Pantry(settings, target=self.target, notice=self.notices.append, environ=environ)

    def run(self, project: Project) -> CtxUri:
        """Run the contract of project, whoever ran it before; return the URI."""
        return self.pantry.run(str(project.contract), force=True, recompute=True).uri

    def seed(self, project: Project) -> CtxUri:
        return self.pantry.seed([], str(project.contract)).uri

    def trusts(self, *others: Person | Signer, mode: str = "signed", threshold: int = 1, deny: Denied = NOBODY) -> None:
        """Write a policy with these signers, each an owner of their own unless given as a Signer."""
        signers = tuple(
            other if isinstance(other, Signer) else signer_of(f"n{number}", f"owner{number}", other.key.public)
            for number, other in enumerate(others)
        )
        policy = TrustPolicy(Rule(mode, threshold), {}, signers, deny)
        path = self.home / ".config/ctxpack/policy.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_policy(policy))


def signer_of(name: str, owner: str, key: PublicKey) -> Signer:
    return Signer(name, owner, key)


def claims_about(target: FaultyTarget, image: Descriptor, key: PrivateKey) -> list[Claim]:
    """Return the claims that a key made about an image manifest: the one under its tag first."""
    listed = [found for found in list_claims(target, image.digest).found if found.spki == key.public.spki]
    tagged = target.layout.fetch_tag(claim_tag(image.digest, key.public.key_id))
    claims = [(found.where, read_claim(found.bundle, key.public, image=image.digest)) for found in listed]
    named = "" if tagged is None else tagged.descriptor.digest
    return [claim for where, claim in sorted(claims, key=lambda one: not (named and one[0].endswith(named)))]


def claim_tags(target: FaultyTarget) -> list[str]:
    """Return the tags of claims."""
    return sorted(tag for tag in target.layout.tags() if tag.startswith("claim-"))
