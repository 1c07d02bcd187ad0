"""Policies, keys, verdicts and denials as lines for people."""

from __future__ import annotations

from ctxpack_cli.packrows import fitted, short_digest
from ctxpack_pantry import printable

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ctxpack_pantry import Denied, ShownKey, Trusted, Verdict

__all__ = ["check_lines", "deny_lines", "key_lines", "policy_lines", "verdict_rows"]

_GAP = "  "
_SHORT = 16  # digits of a key id in a table
_WIDEST = 60  # columns of one cell
_WHY = {
    "denied": "denied",
    "signed": "signed by the key",
    "input": "made from it",
    "items": "has items of it",
}
_MADE = ("run", "rebuild")  # cosign does not know kinds: it would say yes of what never counts, too


def policy_lines(trusted: Trusted) -> Iterator[str]:
    """Yield the lines of a policy: modes, signers, what is denied, and pinned keys."""
    document = trusted.as_json()
    rules = [("", document["default"]), *((one["scope"], one) for one in document["scopes"])]
    yield from _table([(scope or "default", _rule(rule)) for scope, rule in rules])
    if trusted.at_least:
        yield f"CTXPACK_TRUST is {trusted.at_least}, so nothing is less strict than that"
    if document["signers"]:
        yield ""
        yield from _table(
            [
                (
                    one["name"],
                    f"owner {one['owner']}",
                    one["key_id"][:_SHORT],
                    "denied" if one["denied"] else ", ".join(one["scopes"]) or "everywhere",
                )
                for one in document["signers"]
            ]
        )
    denied = [(kind, value) for kind, values in document["denied"].items() for value in values]
    if denied:
        yield ""
        yield from _table(
            [("denied", kind.removesuffix("s") if kind != "outputs" else kind, value) for kind, value in denied]
        )
    if document["pins"]:
        yield ""
        yield from _table(
            [("pinned", (pin["key_id"] or "damaged")[:_SHORT], pin["scope"] or pin["file"]) for pin in document["pins"]]
        )


def key_lines(shown: ShownKey) -> Iterator[str]:
    """Yield the lines of one key: its id, its names, and the key itself."""
    yield f"key {shown.key.key_id}, {shown.key.algorithm}{', denied' if shown.denied else ''}"
    for one in shown.signers:
        yield printable(f"{one.name}: owner {one.owner}, counts {', '.join(one.scopes) or 'everywhere'}")
    for scope in shown.pinned:
        yield printable(f"pinned for {scope}")
    yield shown.key.as_pem().decode().removesuffix("\n")


def check_lines(verdict: Verdict) -> Iterator[str]:
    """Yield the lines of a verdict: the pack, and who vouches for it."""
    yield verdict.uri
    for row in verdict_rows(verdict.members()):
        yield printable(row)


def verdict_rows(verdict: dict[str, Any]) -> Iterator[str]:
    """Yield what people read of a verdict, as a member of a document: claims, what the policy says, how to check it."""
    claims = verdict["claims"]
    own = verdict["by"] == ["own"]
    if not claims:
        yield verdict["note"] or ("nobody signed this pack, which you made" if own else "nobody signed this pack")
    width = max((len(_who(claim)) for claim in claims), default=0)
    for claim in claims:
        counts = "counts" if claim["counts"] else f"does not count: {claim['why']}"
        signer = f"; key {claim['key_id'][:_SHORT]}, owner {claim['owner']}" if claim["name"] else ""
        yield f"{_who(claim):<{width}}  {claim['kind']}, {counts}{signer}"
    for line in verdict["skipped"]:
        yield f"skipped: {line}"
    where = f"of {verdict['scope']}" if verdict["scope"] else "by default"
    rule = f"{_rule(verdict)} {where}"
    yield f"{'admitted' if verdict['admitted'] else 'not admitted'} ({rule}): {verdict['reason']}"
    for claim in claims:
        if claim["cosign"] and claim["name"] and claim["counts"]:
            yield f"ctxpack trust show {claim['name']} --pem >{claim['name']}.pub"
            yield claim["cosign"]
        elif claim["cosign"] and not claim["name"] and claim["kind"] in _MADE:
            yield f"with the key that --json shows in {claim['key_id'][:_SHORT]}.pub: {claim['cosign']}"


def deny_lines(denied: Denied, *, is_plan: bool) -> Iterator[str]:
    """Yield the lines of a denial: what is denied, and what that affects. is_plan: whether nothing changed."""
    denial = denied.denial
    names = f" of {', '.join(denied.signers)}" if denied.signers else ""
    heading = (
        ("Would deny" if not denied.undo else "Would allow") if is_plan else "Allowed" if denied.undo else "Denied"
    )
    yield printable(f"{heading}: {denial.word} {denial.value}{names}")
    for image in denied.images:
        yield f"{_GAP}and the image manifest {image}, which has {'this URI' if denial.kind == 'uri' else 'them'}"
    if denied.affected is None:
        return
    packs = denied.affected.packs
    if not packs:
        yield "no cached pack is affected"
    for pack in packs:
        through = pack.through if pack.why in ("denied", "signed") else short_digest(pack.through)
        why = _WHY[pack.why] if pack.why in ("denied", "signed") else f"{_WHY[pack.why]}: {through}"
        yield f"{pack.uri}{_GAP}{why}{', refused' if pack.refused else ', still admitted'}"
        for place in pack.places:
            yield printable(f"    in {place}")


def _who(claim: dict[str, Any]) -> str:
    return str(claim["name"] or claim["key_id"][:_SHORT])


def _rule(rule: dict[str, Any]) -> str:
    many = f", {rule['threshold']} owners" if rule["threshold"] > 1 else ""
    return f"{rule['mode']}{many}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with columns that are as wide as their longest cell."""
    cut = [
        [fitted(cell, _WIDEST) if number < len(row) - 1 else printable(cell) for number, cell in enumerate(row)]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    for row in cut:
        yield _GAP.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(" ")
