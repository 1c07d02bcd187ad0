"""A policy decides which packs may be used. `admission` is where it is asked.

The user's own policy is a file (`policyfile`). A caller of `Pantry` may give one more, which is asked first.
"""

from __future__ import annotations

from collections.abc import Callable

from ctxpack_identity.errors import Conflict, PolicyRefused
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_identity.uri import CtxUri

if TYPE_CHECKING:
    from ctxpack_identity import Digest

__all__ = [
    "ACCEPTED",
    "DENIED",
    "DENIED_URI",
    "NOT_ADMITTED",
    "Admission",
    "Candidate",
    "Policy",
    "ResultDenied",
    "not_adopted",
]

# Codes of PolicyRefused.
NOT_ADMITTED = "E_NOT_ADMITTED"  # as far as is known; the registry may have claims, or another pack
DENIED = "E_DENIED"
DENIED_URI = "E_DENIED_URI"  # whatever pack it is


class ResultDenied(PolicyRefused):
    """The outputs that this user made of a contract are denied: to make them again would give the same."""


class Candidate(NamedTuple):
    """A pack that is about to be used. repository: the name of the registry that was asked for.

    image: digest of the image manifest; None for a cached pack that neither came from this repository nor was pushed
    to it.
    """

    uri: CtxUri
    repository: str
    image: Digest | None


class Admission(NamedTuple):
    """How a pack was admitted. mode: "own" for one's own, else that of the policy.

    by: key ids whose claims admitted it, or ("own",); nothing under "accept-any".
    """

    mode: str
    by: tuple[str, ...] = ()

    @property
    def is_sure(self) -> bool:
        """Whether it is one's own, or signed by those whom the policy names."""
        return self.mode in ("own", "signed")


ACCEPTED = Admission("accept-any")
"""Of a pack about which no policy says anything."""

Policy = Callable[[Candidate], Admission | None]
"""Called before a pack is used; None means that it is accepted. Raises: PolicyRefused when it may not be used."""


def not_adopted(conflict: Conflict, refused: PolicyRefused) -> Conflict:
    """Return the error when what the registry has must not be used. conflict: that the registry has it."""
    return Conflict(
        "the registry holds other outputs of the same contract, and the policy does not admit them",
        where=conflict.where,
        expected=conflict.expected,
        got=conflict.got,
        fix=f"what was made here is kept. `ctxpack push --replace` puts it there, in place of theirs ({refused.what}); "
        "`ctxpack rm --registry` removes theirs",
        code=NOT_ADMITTED,
    )
