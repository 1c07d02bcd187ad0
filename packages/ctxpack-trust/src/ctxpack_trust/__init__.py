"""Who made a pack: keys, signed claims, and the policy that says whose claims count.

CLAIM.md and POLICY.md are normative. No network, no files, no clock, no
environment: bytes in, values out.
"""

from __future__ import annotations

from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_trust.bundle import BUNDLE_MEDIA_TYPE, MAX_BUNDLE_BYTES, MAX_CLAIM_BYTES, hint_of, verified_payload
    from ctxpack_trust.claim import (
        COUNTING,
        KINDS,
        MAX_SOURCES,
        OWN,
        PREDICATE_TYPE,
        Claim,
        Dependency,
        OutputRoot,
        Source,
        Tool,
        encode_claim,
        is_key_id,
        parse_claim,
        read_claim,
        sign_claim,
    )
    from ctxpack_trust.decision import Decision, Facts, SignedClaim, Vote, count_owners, decide
    from ctxpack_trust.keys import (
        ALGORITHMS,
        PrivateKey,
        PublicKey,
        generate_key,
        is_encrypted,
        parse_private_key,
        parse_public_key,
        public_key_of,
    )
    from ctxpack_trust.policy import (
        MODES,
        NO_POLICY,
        Denied,
        Rule,
        Signer,
        TrustPolicy,
        encode_policy,
        parse_policy,
        stricter,
    )
    from ctxpack_trust.scope import canonical_repository, is_within
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "bundle": "BUNDLE_MEDIA_TYPE MAX_BUNDLE_BYTES MAX_CLAIM_BYTES hint_of verified_payload",
            "claim": (
                "COUNTING Claim Dependency KINDS MAX_SOURCES OWN OutputRoot PREDICATE_TYPE Source Tool encode_claim "
                "is_key_id parse_claim read_claim sign_claim"
            ),
            "decision": "Decision Facts SignedClaim Vote count_owners decide",
            "keys": (
                "ALGORITHMS PrivateKey PublicKey generate_key is_encrypted parse_private_key parse_public_key "
                "public_key_of"
            ),
            "policy": "Denied MODES NO_POLICY Rule Signer TrustPolicy encode_policy parse_policy stricter",
            "scope": "canonical_repository is_within",
        },
    )

__all__ = [
    "ALGORITHMS",
    "BUNDLE_MEDIA_TYPE",
    "COUNTING",
    "KINDS",
    "MAX_BUNDLE_BYTES",
    "MAX_CLAIM_BYTES",
    "MAX_SOURCES",
    "MODES",
    "NO_POLICY",
    "OWN",
    "PREDICATE_TYPE",
    "Claim",
    "Decision",
    "Denied",
    "Dependency",
    "Facts",
    "OutputRoot",
    "PrivateKey",
    "PublicKey",
    "Rule",
    "SignedClaim",
    "Signer",
    "Source",
    "Tool",
    "TrustPolicy",
    "Vote",
    "canonical_repository",
    "count_owners",
    "decide",
    "encode_claim",
    "encode_policy",
    "generate_key",
    "hint_of",
    "is_encrypted",
    "is_key_id",
    "is_within",
    "parse_claim",
    "parse_policy",
    "parse_private_key",
    "parse_public_key",
    "public_key_of",
    "read_claim",
    "sign_claim",
    "stricter",
    "verified_payload",
]
